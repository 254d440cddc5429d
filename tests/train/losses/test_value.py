"""The critic's loss against its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from oversight.errors import ConfigError
from oversight.train.losses.metrics import merge
from oversight.train.losses.policy import explained_variance, value_loss

VALUES, OLD, RETURNS = [0.9, 0.1, -0.5], [0.5, 0.2, -0.4], [1.0, -1.0, 0.0]
MASK = torch.tensor([[True, True, True, False]])


def tensor(values):
    return torch.tensor([[*values, float("nan")]], dtype=torch.float64)


def test_value_loss_is_half_the_larger_square():
    values = tensor(VALUES).requires_grad_()
    loss, metrics = value_loss(values, tensor(OLD), tensor(RETURNS), MASK, normalizer=3)
    expected = 0.0
    for v, o, r in zip(VALUES, OLD, RETURNS, strict=True):
        held = min(max(v, o - 0.2), o + 0.2)
        expected += 0.5 * max((v - r) ** 2, (held - r) ** 2)
    loss.backward()
    assert loss.item() == pytest.approx(expected / 3, abs=1e-6)
    assert metrics["value/clipped"].value() == pytest.approx(1 / 3)
    assert values.grad[0, 0] == 0  # held at 0.7, further from 1 than 0.9 is
    assert values.grad[0, 1].item() == pytest.approx((0.1 + 1.0) / 3)
    assert values.grad[0, 3] == 0


def test_without_a_clip_it_is_the_plain_square():
    loss, _ = value_loss(
        tensor(VALUES), tensor(OLD), tensor(RETURNS), MASK, normalizer=3, clip=None
    )
    squares = [(v - r) ** 2 for v, r in zip(VALUES, RETURNS, strict=True)]
    assert loss.item() == pytest.approx(sum(squares) / 6)


def test_explained_variance_comes_from_merged_micro_batches():
    rng = np.random.default_rng(0)
    returns = rng.normal(size=(4, 5))
    values = returns + 0.5 * rng.normal(size=(4, 5)) + 3
    mask = torch.ones(4, 5, dtype=torch.bool)
    merged = {}
    for row in range(4):
        v, r = torch.tensor(values[row : row + 1]), torch.tensor(returns[row : row + 1])
        merged = merge(merged, value_loss(v, v, r, mask[:1], normalizer=1)[1])
    expected = 1 - np.var(returns - values) / np.var(returns)
    assert explained_variance(merged) == pytest.approx(expected)


def test_nothing_to_learn_from_runs_backward():
    values = tensor(VALUES).requires_grad_()
    none = torch.zeros_like(MASK)
    loss, metrics = value_loss(values, tensor(OLD), tensor(RETURNS), none, normalizer=0)
    loss.backward()
    assert loss.item() == 0
    assert explained_variance(metrics) == 0


def test_a_clip_of_zero_is_refused():
    with pytest.raises(ConfigError, match="clip"):
        value_loss(tensor(VALUES), tensor(OLD), tensor(RETURNS), MASK, normalizer=1, clip=0.0)
