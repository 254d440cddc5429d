"""Importance weights against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from oversight.errors import ConfigError
from oversight.train.losses.policy_batch import importance_weights

LOG_W = [[0.1, 1.0, -0.3], [-0.2, 0.5]]
MASK = torch.tensor([[True, True, True], [True, True, False]])
OLD = torch.full((2, 3), -1.0, dtype=torch.float64)
SAMPLER = OLD - torch.tensor([LOG_W[0], [*LOG_W[1], float("nan")]], dtype=torch.float64)
TOKEN = [[math.exp(x) for x in row] for row in LOG_W]
SEQUENCE = [math.exp(sum(row)) for row in LOG_W]
GEOMETRIC = [math.exp(sum(row) / len(row)) for row in LOG_W]


def rows(tensor):
    return [tensor[0].tolist(), tensor[1, :2].tolist()]


def spread(values):
    return [[values[0]] * 3, [values[1]] * 2]


@pytest.mark.parametrize(
    ("level", "raw"),
    [("token", TOKEN), ("sequence", spread(SEQUENCE)), ("geometric", spread(GEOMETRIC))],
)
@pytest.mark.parametrize("mode", ["truncate", "mask"])
def test_weights_are_their_formula(level, raw, mode):
    low, high = 0.8, 1.3
    out, _ = importance_weights(OLD, SAMPLER, MASK, level=level, mode=mode, low=low, high=high)

    def bound(w):
        if mode == "truncate":
            return min(max(w, low), high)
        return w if low <= w <= high else 0.0

    for got, row in zip(rows(out), raw, strict=True):
        assert got == pytest.approx([bound(w) for w in row])
    assert out[1, 2] == 0


def test_the_default_truncates_tokens_at_two():
    out, metrics = importance_weights(OLD, SAMPLER, MASK)
    assert out.max().item() == 2.0
    assert metrics["importance/truncated"].value() == pytest.approx(1 / 5)
    assert metrics["importance/masked"].value() == 0
    flat = [w for row in TOKEN for w in row]
    assert metrics["importance/weight"].value() == pytest.approx(sum(flat) / 5)
    assert metrics["importance/weight_max"].value() == pytest.approx(math.e)
    held = [min(w, 2.0) for w in flat]
    ess = sum(held) ** 2 / sum(w * w for w in held) / 5
    assert metrics["importance/ess"].value() == pytest.approx(ess)
    assert metrics["importance/unknown"].value() == 0


def test_sequences_are_counted_as_sequences():
    _, metrics = importance_weights(OLD, SAMPLER, MASK, level="sequence", mode="mask", high=2.0)
    assert metrics["importance/masked"].value() == pytest.approx(1 / 2)  # e^0.8 > 2, e^0.3 < 2
    assert metrics["importance/weight"].count == 2


def test_a_token_the_sampler_gave_no_log_probability_for_counts_one():
    sampler = SAMPLER.clone()
    sampler[0, 1] = float("nan")
    out, metrics = importance_weights(OLD, sampler, MASK)
    assert out[0, 1] == 1
    assert metrics["importance/unknown"].value() == pytest.approx(1 / 5)


def test_equal_log_probabilities_weigh_exactly_one():
    out, metrics = importance_weights(OLD, OLD.clone(), MASK, level="sequence")
    assert (out[MASK] == 1).all()
    assert metrics["importance/ess"].value() == 1


def test_weights_have_no_gradient_and_stay_finite():
    old = torch.tensor([[0.0, -1e6]], requires_grad=True)
    out, _ = importance_weights(
        old, torch.tensor([[-1e6, 0.0]]), torch.tensor([[True, True]]), high=None
    )
    assert not out.requires_grad
    assert torch.isfinite(out).all()


def test_nothing_to_weigh_is_zero():
    out, metrics = importance_weights(OLD, SAMPLER, torch.zeros_like(MASK))
    assert (out == 0).all()
    assert metrics["importance/ess"].value() == 0


def test_bounds_the_wrong_way_round_are_refused():
    with pytest.raises(ConfigError, match="below high"):
        importance_weights(OLD, SAMPLER, MASK, low=3.0)
    with pytest.raises(ConfigError, match="level"):
        importance_weights(OLD, SAMPLER, MASK, level="word")
