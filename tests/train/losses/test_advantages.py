"""Advantages against plain loops."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oversight.errors import ConfigError, DataError
from oversight.train.losses.advantages import (
    RoleBaseline,
    gae,
    group,
    informative,
    reinforce_plus_plus,
    reinforce_plus_plus_baseline,
    rloo,
    role_baseline,
)

# --- GAE ----------------------------------------------------------------------------------


def plain_gae(rewards, values, mask, gamma, lam, bootstrap):
    """One sequence, by the definition: a double sum over the tokens that were acted."""
    places = [t for t in range(len(mask)) if mask[t]]
    out = [0.0] * len(mask)
    for i, t in enumerate(places):
        for k, u in enumerate(places[i:]):
            following = places[i + k + 1] if i + k + 1 < len(places) else None
            after = bootstrap if following is None else values[following]
            delta = rewards[u] + gamma * after - values[u]
            out[t] += (gamma * lam) ** k * delta
    return out


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num=st.integers(1, 4),
    length=st.integers(1, 7),
    gamma=st.floats(0, 1),
    lam=st.floats(0, 1),
)
def test_gae_is_its_definition_over_tokens_that_were_acted(seed, num, length, gamma, lam):
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(num, length)), rng.normal(size=(num, length))
    mask, bootstrap = rng.random((num, length)) < 0.7, rng.normal(size=num)
    dirty = torch.tensor(np.where(mask, rewards, np.nan))
    out, returns = gae(
        dirty,
        torch.tensor(np.where(mask, values, np.inf)),
        torch.tensor(mask),
        gamma=gamma,
        lam=lam,
        bootstrap_B=torch.tensor(bootstrap),
    )
    for b in range(num):
        expected = plain_gae(rewards[b], values[b], mask[b], gamma, lam, bootstrap[b])
        np.testing.assert_allclose(out[b].numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(returns.numpy(), np.where(mask, out.numpy() + values, 0), atol=1e-9)


def test_gae_of_an_ended_response_takes_nothing_after_it():
    mask = torch.tensor([[True, True, False]])
    rewards, values = torch.tensor([[0.0, 1.0, 5.0]]), torch.tensor([[0.5, 0.25, 9.0]])
    out, returns = gae(rewards, values, mask, gamma=1.0, lam=1.0)
    assert out.tolist() == [[0.5, 0.75, 0.0]]
    assert returns.tolist() == [[1.0, 1.0, 0.0]]


def test_gae_has_no_gradient_and_refuses_nan():
    values = torch.zeros(1, 2, requires_grad=True)
    mask = torch.ones(1, 2, dtype=torch.bool)
    out, returns = gae(torch.ones(1, 2), values, mask)
    assert not out.requires_grad
    assert not returns.requires_grad
    with pytest.raises(DataError, match="must be finite"):
        gae(torch.tensor([[1.0, float("nan")]]), values, mask)
    with pytest.raises(ConfigError, match="lam"):
        gae(torch.ones(1, 2), values, mask, lam=1.5)


# --- groups -------------------------------------------------------------------------------

REWARDS = [1.0, 0.0, 0.5, 3.0, 1.0]
GROUPS = [7, 7, 7, 2, 2]


def tensors():
    return torch.tensor(REWARDS, dtype=torch.float64), torch.tensor(GROUPS)


def by_group(function):
    out = np.zeros(5)
    for g in set(GROUPS):
        members = [i for i in range(5) if GROUPS[i] == g]
        out[members] = function(np.array([REWARDS[i] for i in members]))
    return out


@pytest.mark.parametrize("correction", [0, 1])
@pytest.mark.parametrize("eps", [0.0, 1e-4])
def test_group_advantages_are_their_formula_for_unequal_groups(correction, eps):
    out, metrics = group(*tensors(), correction=correction, eps=eps)
    expected = by_group(lambda r: (r - r.mean()) / (r.std(ddof=correction) + eps))
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-6)
    assert metrics["no_signal"].value() == 0
    std = by_group(lambda r: r.std(ddof=correction))
    assert metrics["reward_std"].value() == pytest.approx(std.mean())


def test_dr_grpo_does_not_scale():
    out, _ = group(*tensors(), scale="none")
    np.testing.assert_allclose(out.numpy(), by_group(lambda r: r - r.mean()), atol=1e-12)


def test_group_advantages_can_scale_by_the_batch():
    out, _ = group(*tensors(), scale="batch")
    expected = by_group(lambda r: r - r.mean()) / np.std(REWARDS, ddof=1)
    np.testing.assert_allclose(out.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e6 / 7, -0.7, 0.0])
@pytest.mark.parametrize("size", [1, 3, 8, 11])
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_a_constant_group_has_exactly_no_advantage(value, size, scale):
    """Also where the float mean of equal numbers is not that number."""
    rewards = torch.cat([torch.full((size,), value), torch.tensor([0.0, 1.0])])
    groups = torch.tensor([0] * size + [1, 1])
    out, metrics = group(rewards, groups, scale=scale)
    assert (out[:size] == 0).all()
    assert (out[size:] != 0).all()
    assert metrics["no_signal"].value() == pytest.approx(size / (size + 2))
    leave_one_out, _ = rloo(rewards, groups)
    assert (leave_one_out[:size] == 0).all()


def test_a_residue_of_rounding_is_not_blown_up():
    summed = torch.tensor([0.1 + 0.2, 0.3, 0.15 + 0.15], dtype=torch.float64)
    assert len(set(summed.tolist())) > 1
    out, _ = group(summed, torch.zeros(3, dtype=torch.long))
    assert (out == 0).all()


def test_a_batch_of_equal_rewards_has_no_advantage():
    out, _ = group(torch.full((4,), 0.1), torch.tensor([0, 0, 1, 1]), scale="batch")
    assert (out == 0).all()


def test_dynamic_sampling_keeps_groups_whose_rewards_differ():
    rewards = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    kept = informative(rewards, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert kept.tolist() == [False, False, True, True, False, False]


def test_nan_rewards_are_refused_by_place():
    rewards = torch.tensor([1.0, float("nan")])
    for function in (group, rloo):
        with pytest.raises(DataError, match="reward 1 of the batch is nan"):
            function(rewards, torch.tensor([0, 0]))


def test_no_rewards_give_no_advantages():
    out, _ = group(torch.zeros(0), torch.zeros(0, dtype=torch.long))
    assert out.shape == (0,)


def test_rloo_is_the_reward_less_the_mean_of_the_others():
    out, _ = rloo(*tensors())

    def leave_one_out(r):
        return np.array([r[i] - np.delete(r, i).mean() for i in range(len(r))])

    np.testing.assert_allclose(out.numpy(), by_group(leave_one_out), atol=1e-6)


# --- REINFORCE++ --------------------------------------------------------------------------


def test_reinforce_plus_plus_normalises_returns_over_all_tokens():
    nan = float("nan")
    rewards = torch.tensor([[0.1, -0.2, 1.0], [0.3, nan, -0.5]], dtype=torch.float64)
    mask = torch.tensor([[True, True, True], [True, False, True]])
    out, metrics = reinforce_plus_plus(rewards, mask, gamma=0.5)
    returns = np.array([0.1 + 0.5 * (-0.2 + 0.5), -0.2 + 0.5, 1.0, 0.3 - 0.25, -0.5])
    expected = (returns - returns.mean()) / np.sqrt(returns.var() + 1e-8)
    np.testing.assert_allclose(out[mask].numpy(), expected, atol=1e-6)
    assert out[1, 1] == 0
    assert metrics["return"].value() == pytest.approx(returns.mean())


def test_reinforce_plus_plus_with_a_baseline_normalises_deviations_over_the_batch():
    out, _ = reinforce_plus_plus_baseline(*tensors())
    deviations = by_group(lambda r: r - r.mean())
    np.testing.assert_allclose(out.numpy(), deviations / deviations.std(), atol=1e-6)


# --- role baselines -----------------------------------------------------------------------


def test_a_role_baseline_is_its_running_mean():
    baseline = RoleBaseline(decay=0.9)
    out = role_baseline(torch.tensor([1.0, -1.0, 0.5]), ["pro", "con", "pro"], baseline)
    first = 0.1 * 1.0
    second = 0.9 * first + 0.1 * 0.5
    assert out.tolist() == pytest.approx([1 - first, -1 + 0.1, 0.5 - second])
    assert baseline.means == pytest.approx({"pro": second, "con": -0.1})


def test_an_unequal_game_has_advantages_around_zero_in_each_seat():
    """One side always gains 0.8, which says nothing of what it did."""
    baseline = RoleBaseline(decay=0.9)
    for _ in range(200):
        out = role_baseline(torch.tensor([0.8, -0.8]), ["pro", "con"], baseline)
    assert out.abs().max() < 1e-6


def test_a_role_baseline_goes_on_from_its_state():
    baseline = RoleBaseline(decay=0.9, start_at_first=True)
    role_baseline(torch.tensor([1.0, 0.2]), ["a", "b"], baseline)
    again = RoleBaseline.from_json(json.loads(json.dumps(baseline.to_json())))
    one = role_baseline(torch.tensor([0.3]), ["a"], baseline)
    other = role_baseline(torch.tensor([0.3]), ["a"], again)
    assert torch.equal(one, other)
    assert again == baseline


def test_the_first_reward_can_start_the_baseline():
    baseline = RoleBaseline(start_at_first=True)
    assert role_baseline(torch.tensor([0.7]), ["a"], baseline).item() == 0


def test_a_bad_reward_leaves_the_baseline_as_it_was():
    baseline = RoleBaseline()
    with pytest.raises(DataError):
        role_baseline(torch.tensor([1.0, float("inf")]), ["a", "b"], baseline)
    assert baseline.means == {}
    with pytest.raises(ValueError, match="2 rewards but 1 roles"):
        role_baseline(torch.tensor([1.0, 0.0]), ["a"], baseline)
