"""Shaping of rewards."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oversight.errors import ConfigError, DataError
from oversight.train.losses.advantages import (
    RunningScale,
    missing_eos,
    overlong_penalty,
    token_rewards,
)

MASK = torch.tensor([[True, True, True, False], [True, False, True, False], [False] * 4])


def test_the_last_unmasked_token_carries_the_score():
    rewards = token_rewards(torch.tensor([2.0, -1.0, 5.0]), MASK)
    assert rewards.tolist() == [[0, 0, 2, 0], [0, 0, -1, 0], [0, 0, 0, 0]]


def test_the_kl_penalty_is_added_at_each_unmasked_token():
    penalty = torch.full((3, 4), -0.5).masked_fill(~MASK, float("nan"))
    rewards = token_rewards(torch.tensor([2.0, -1.0, 5.0]), MASK, penalty_BT=penalty)
    assert rewards.tolist() == [[-0.5, -0.5, 1.5, 0], [-0.5, 0, -1.5, 0], [0, 0, 0, 0]]


def test_a_score_that_is_not_finite_is_refused():
    with pytest.raises(DataError, match="reward 1 of the batch is inf"):
        token_rewards(torch.tensor([0.0, float("inf"), 0.0]), MASK)


def test_a_response_that_did_not_end_is_punished():
    out = missing_eos(torch.tensor([1.0, 1.0]), torch.tensor([True, False]), penalty=0.75)
    assert out.tolist() == [1.0, 0.25]


def test_overlong_responses_are_punished_by_the_papers_ramp():
    lengths = torch.tensor([10, 80, 90, 100, 101, 500])
    out = overlong_penalty(lengths, max_length=100, cache=20)
    assert out.tolist() == pytest.approx([0, 0, -0.5, -1, -1, -1])
    with pytest.raises(ConfigError, match="cache"):
        overlong_penalty(lengths, max_length=100, cache=0)


@given(
    batches=st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=8), min_size=1, max_size=6)
)
def test_the_running_scale_is_that_of_all_rewards_seen(batches):
    scale = RunningScale()
    for rewards in batches:
        scale.update(torch.tensor(rewards, dtype=torch.float64))
    everything = np.concatenate(batches)
    assert scale.count == len(everything)
    assert scale.mean == pytest.approx(everything.mean(), abs=1e-6)
    if everything.std() > 1e-3:
        assert scale.std == pytest.approx(everything.std(), rel=1e-6)


def test_scaled_rewards_keep_their_sign_and_are_clipped():
    scale = RunningScale(clip=1.5)
    rewards = torch.tensor([1.0, 5.0, 9.0])
    scale.update(rewards)
    std = np.std([1, 5, 9])
    assert scale.scale(rewards).tolist() == pytest.approx([1 / std, 1.5, 1.5])


def test_equal_rewards_are_not_scaled():
    scale = RunningScale()
    scale.update(torch.full((8,), 0.1))
    assert scale.scale(torch.tensor([0.1])).item() == pytest.approx(0.1)


def test_a_running_scale_goes_on_from_its_state():
    scale = RunningScale(clip=5.0)
    scale.update(torch.tensor([1.0, 2.0, 4.0]))
    again = RunningScale.from_json(json.loads(json.dumps(scale.to_json())))
    for one in (scale, again):
        one.update(torch.tensor([0.5, 7.0]))
    assert again == scale
