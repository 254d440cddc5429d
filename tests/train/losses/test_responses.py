"""Single responses: one number for each, and losses that compare them with no other."""

from __future__ import annotations

import math

import pytest
import torch

from oversight.errors import ConfigError
from oversight.train import losses
from oversight.train.losses.metrics import merge
from oversight.train.losses.responses import (
    UnpairedLogps,
    baseline,
    kto,
    length_desensitized_sum,
    lengths,
    sequence_mean,
    sequence_sum,
    sft_loss,
    shifted_kl,
    wpo_weight,
)

NAN = float("nan")
LOGPS = torch.tensor([[-1.0, -2.0, -3.0, NAN], [-0.5, NAN, -1.5, NAN]], dtype=torch.float64)
MASK = torch.tensor([[True, True, True, False], [True, False, True, False]])


def test_sums_means_and_lengths_count_what_is_learnt_from():
    assert sequence_sum(LOGPS, MASK).tolist() == [-6, -2]
    assert sequence_mean(LOGPS, MASK).tolist() == [-2, -1]
    assert lengths(MASK).tolist() == [3, 2]


def test_tokens_past_the_shorter_response_count_alpha():
    other = torch.tensor([2, 3])  # the first row's pair is shorter by one, the second's longer
    out = length_desensitized_sum(LOGPS, MASK, other, alpha=0.25)
    assert out.tolist() == [-1 - 2 + 0.25 * -3, -2]


def test_length_desensitizing_with_alpha_one_is_the_plain_sum():
    other = torch.tensor([1, 1])
    out = length_desensitized_sum(LOGPS, MASK, other, alpha=1.0)
    assert torch.equal(out, sequence_sum(LOGPS, MASK))


def test_length_desensitizing_refuses_alpha_above_one():
    with pytest.raises(ConfigError, match="alpha"):
        length_desensitized_sum(LOGPS, MASK, torch.tensor([1, 1]), alpha=1.5)


def test_wpo_weight_is_the_geometric_mean_probability():
    logps = LOGPS.clone().requires_grad_()
    weight = wpo_weight(logps, MASK)
    assert weight.tolist() == pytest.approx([math.exp(-2), math.exp(-1)])
    assert not weight.requires_grad


def test_wpo_weight_is_aligned_by_the_expected_probability():
    log_sum_sq = torch.full_like(LOGPS, -0.5)
    assert wpo_weight(LOGPS, MASK, log_sum_sq).tolist() == pytest.approx(
        [math.exp(-1.5), math.exp(-0.5)]
    )


def test_sft_is_the_nll_of_tokens():
    loss, metrics = sft_loss(LOGPS, MASK, normalizer=5)
    assert loss.item() == pytest.approx(8 / 5, abs=1e-6)
    assert metrics["nll"].value() == pytest.approx(8 / 5)


def test_sft_weights_rows():
    loss, metrics = sft_loss(LOGPS, MASK, normalizer=1, weight_B=torch.tensor([0.5, 2.0]))
    assert loss.item() == pytest.approx(0.5 * 6 + 2 * 2)
    assert metrics["nll"].value() == pytest.approx(8 / 5)


def test_sft_per_sequence_counts_each_sequence_the_same():
    loss, _ = sft_loss(LOGPS, MASK, normalizer=2, per_sequence=True)
    assert loss.item() == pytest.approx((2 + 1) / 2)


def test_sft_of_a_row_of_weight_zero_or_nothing_runs_backward():
    logps = torch.tensor([[float("-inf"), -1.0]], requires_grad=True)
    loss, _ = sft_loss(
        logps, torch.tensor([[True, True]]), normalizer=1, weight_B=torch.tensor([0.0])
    )
    loss.backward()
    assert loss.item() == 0
    assert logps.grad.tolist() == [[0, 0]]
    sft_loss(logps, torch.zeros(1, 2, dtype=torch.bool), normalizer=0)[0].backward()


def test_sft_is_torch_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, 11, generator=generator, dtype=torch.float64)
    ids = torch.randint(0, 11, (3, 5), generator=generator)
    mask = torch.rand(3, 5, generator=generator) < 0.6
    logps = logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    loss, _ = sft_loss(logps, mask, normalizer=mask.sum())
    labels = ids.masked_fill(~mask, -100)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(loss, expected)


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
