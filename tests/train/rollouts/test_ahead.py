"""Batches sampled ahead are of the weights that they say, and come back from a saved state."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oversight.errors import ConfigError
from oversight.modeling import Ids
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.trie import RowBatch
from oversight.train.experience_settings import SamplingSettings
from oversight.train.rollouts.in_process import InProcessSampler
from oversight.train.rollouts.types import CollectedBatch, Collector, SampledResponse, Sampler

SETTINGS = SamplingSettings(max_new_tokens=9, temperature=1.2)
PROMPTS: list[Ids] = [np.arange(10, 20), np.arange(5, 12)]


class CopySampler:
    """A sampler with weights of its own, which new ones replace when they are handed over."""

    shares_weights = False

    def __init__(self, policy: PolicyModel) -> None:
        self.version = 0
        self.settings = SETTINGS
        self._hold(policy)

    def _hold(self, policy: PolicyModel) -> None:
        self._inner = InProcessSampler(PolicyModel(copy.deepcopy(policy.inner)), SETTINGS)

    def sample(
        self, prompts: Sequence[Ids], num_samples: int, seed: int
    ) -> list[list[SampledResponse]]:
        return self._inner.sample(prompts, num_samples, seed)

    def update(self, policy: PolicyModel, step: int) -> None:
        self._hold(policy)
        self.version = step

    def close(self) -> None:
        self._inner.close()


@pytest.fixture
def policy(chat_model: Path) -> PolicyModel:
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    return PolicyModel(AutoModelForCausalLM.from_pretrained(chat_model, dtype="float32").eval())


def furthest(policy: PolicyModel, prompts: list[Ids], groups: Any) -> float:
    rows = [each.row(ids) for ids, group in zip(prompts, groups, strict=True) for each in group]
    with torch.no_grad():
        scores = policy(RowBatch.build(rows), SETTINGS.temperature)
    pairs = zip(rows, scores.logps_BR.numpy(), strict=True)
    return max(
        float(np.abs(row.logprobs - logps[: len(row.logprobs)]).max()) for row, logps in pairs
    )


def change(policy: PolicyModel) -> None:
    with torch.no_grad():
        policy.inner.lm_head.weight.mul_(-0.5)


def test_the_next_batch_is_sampled_with_the_last_weights(
    policy: PolicyModel,
) -> None:
    ids = PROMPTS
    sampler = CopySampler(policy)
    assert isinstance(sampler, Sampler)
    newer = PolicyModel(copy.deepcopy(policy.inner))
    change(newer)
    collector = Collector(sampler, ahead=True)
    collector.submit(ids, 2, seed=0)
    with pytest.raises(RuntimeError, match="take it first"):
        collector.submit(ids, 2, seed=0)
    collector.update(newer, 1)
    first = collector.take()
    collector.submit(ids, 2, seed=1)
    assert first.version == 0
    assert furthest(policy, ids, first.sampled) < 1e-4
    second = collector.peek()
    assert second is not None
    assert second.version == 1
    assert furthest(newer, ids, second.sampled) < 1e-4
    collector.restore(CollectedBatch.from_state(second.state()))
    assert same(collector.take(), second)


def same(one: CollectedBatch, other: CollectedBatch) -> bool:
    flat = [[each for group in c.sampled for each in group] for c in (one, other)]
    return (
        one.version == other.version
        and [len(group) for group in one.sampled] == [len(group) for group in other.sampled]
        and all(np.array_equal(a, b) for a, b in zip(one.prompts, other.prompts, strict=True))
        and all(equal(a, b) for a, b in zip(*flat, strict=True))
    )


def equal(one: SampledResponse, other: SampledResponse) -> bool:
    return (
        np.array_equal(one.token_ids, other.token_ids)
        and one.logprobs.tobytes() == other.logprobs.tobytes()
        and one.finished == other.finished
    )


def test_on_policy_a_batch_is_of_the_weights_at_its_submission(policy: PolicyModel) -> None:
    collector = Collector(InProcessSampler(policy, SETTINGS))
    ids = [np.arange(10, 20), np.arange(5, 12)]
    collector.submit(ids, 2, seed=0)
    assert furthest(policy, ids, collector.take().sampled) < 1e-4
    with pytest.raises(RuntimeError, match="no batch was submitted"):
        collector.take()
    change(policy)
    collector.update(policy, 1)
    collector.submit(ids, 2, seed=0)
    collected = collector.take()
    assert collected.version == 1
    assert furthest(policy, ids, collected.sampled) < 1e-4
    collector.close()


def test_live_weights_cannot_be_sampled_from_ahead(policy: PolicyModel) -> None:
    with pytest.raises(ConfigError, match="need weights of their own"):
        Collector(InProcessSampler(policy, SETTINGS), ahead=True)
