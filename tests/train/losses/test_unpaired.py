"""KTO and unpaired APO against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from oversight.train import losses
from oversight.train.losses.metrics import merge
from oversight.train.losses.unpaired import UnpairedLogps, baseline, kto, shifted_kl

U = (2.0, -1.0, 0.5)  # log-ratios; the second is undesirable


def rows():
    return UnpairedLogps(
        logps_B=torch.tensor([-8.0, -11.0, -9.5], dtype=torch.float64),
        ref_logps_B=torch.full((3,), -10.0, dtype=torch.float64),
        desirable_B=torch.tensor([True, False, True]),
    )


def sigma(x):
    return 1 / (1 + math.exp(-x))


def test_kto_is_its_formula():
    loss, metrics = kto.loss(
        rows(), normalizer=3, beta=0.3, kl=0.4, desirable_weight=1.5, undesirable_weight=0.8
    )
    expected = (
        1.5 * (1 - sigma(0.3 * (U[0] - 0.4)))
        + 0.8 * (1 - sigma(0.3 * (0.4 - U[1])))
        + 1.5 * (1 - sigma(0.3 * (U[2] - 0.4)))
    ) / 3
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert metrics["kl"].value() == pytest.approx(0.4)
    assert metrics["reward_undesirable"].value() == pytest.approx(-0.3)


def test_unpaired_apo_is_its_formula():
    loss, _ = losses.load("unpaired", "apo_zero_unpaired").loss(rows(), normalizer=3, beta=0.3)
    expected = (1 - sigma(0.6) + sigma(-0.3) + 1 - sigma(0.15)) / 3
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_no_gradient_flows_through_the_estimate_of_kl():
    kl = torch.tensor(0.4, requires_grad=True)
    rows_ = rows()
    rows_.logps_B.requires_grad_()
    kto.loss(rows_, normalizer=3, kl=kl)[0].backward()
    assert kl.grad is None


def test_the_estimate_of_kl_is_the_merged_mean_held_above_zero():
    first = shifted_kl(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]))
    second = shifted_kl(torch.tensor([-1.5]), torch.tensor([0.0]))
    merged = merge({"kl": first}, {"kl": second})["kl"]
    assert baseline(merged) == pytest.approx(0.5)
    assert baseline(second) == 0.0
