"""Sums under a mask, and metrics that accumulate exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oversight.train.losses.metrics import (
    Mean,
    Peak,
    divide,
    masked_mean,
    masked_sum,
    mean_of,
    merge,
    peak_of,
    promote,
    share_of,
    values,
    weighted_sum,
    whiten,
)


def test_sums_and_means_count_only_what_is_unmasked():
    values = torch.tensor([[1.0, 2.0, float("nan")], [4.0, float("inf"), 6.0]])
    mask = torch.tensor([[True, True, False], [True, False, True]])
    assert masked_sum(values, mask).item() == 13
    assert masked_sum(values, mask, 1).tolist() == [3, 10]
    assert masked_mean(values, mask).item() == 13 / 4
    assert masked_mean(values, mask, 1).tolist() == [1.5, 5]


def test_rubbish_under_the_mask_gives_no_gradient():
    values = torch.tensor([1.0, float("nan")], requires_grad=True)
    masked_mean(values, torch.tensor([True, False])).backward()
    assert values.grad.tolist() == [1, 0]


def test_the_mean_of_nothing_is_zero():
    assert masked_mean(torch.ones(3), torch.zeros(3, dtype=torch.bool)).item() == 0


def test_dividing_by_a_count_of_zero_divides_by_one():
    assert divide(torch.tensor(3.0), 0).item() == 3
    assert divide(torch.tensor(3.0), torch.tensor(0)).item() == 3
    assert divide(torch.tensor(3.0), torch.tensor(2)).item() == 1.5


def test_weights_multiply_rows():
    total = weighted_sum(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.5]), 2)
    assert total.item() == 2


def test_half_precision_is_promoted_and_float64_kept():
    assert promote(torch.ones(1, dtype=torch.float16)).dtype == torch.float32
    assert promote(torch.ones(1, dtype=torch.float64)).dtype == torch.float64


@given(
    values=st.lists(st.floats(-100, 100), min_size=3, max_size=20),
    correction=st.sampled_from([0, 1]),
)
def test_whitening_is_that_of_numpy_over_the_unmasked(values, correction):
    kept = np.array(values[:-1])
    if np.ptp(kept) <= 1e-3:
        return
    tensor = torch.tensor([*values[:-1], 1e9], dtype=torch.float64)
    mask = torch.tensor([True] * len(kept) + [False])
    white = whiten(tensor, mask, correction=correction, eps=0.0)
    expected = (kept - kept.mean()) / kept.std(ddof=correction)
    np.testing.assert_allclose(white[:-1].numpy(), expected, rtol=1e-6, atol=1e-9)
    assert white[-1] == 0


def test_whitening_without_shift_keeps_the_mean():
    values = torch.tensor([1.0, 3.0, 8.0], dtype=torch.float64)
    white = whiten(values, torch.ones(3, dtype=torch.bool), shift_mean=False, eps=0.0)
    assert white.mean().item() == pytest.approx(4.0)
    assert white.std(correction=0).item() == pytest.approx(1.0)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3])
def test_a_constant_becomes_exactly_zero(value):
    values = torch.full((7,), value)
    assert (whiten(values, torch.ones(7, dtype=torch.bool)) == 0).all()


def test_whitening_nothing_gives_nothing():
    assert (whiten(torch.ones(3), torch.zeros(3, dtype=torch.bool)) == 0).all()
    assert whiten(torch.ones(0), torch.ones(0, dtype=torch.bool)).shape == (0,)


def test_merged_means_are_the_mean_over_everything():
    first, second = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0])
    merged = merge({"x": mean_of(first)}, {"x": mean_of(second)})
    assert merged["x"].value() == 4.0


def test_merging_keeps_what_only_one_has():
    merged = merge({"a": mean_of(torch.ones(1))}, {"b": mean_of(torch.zeros(1))})
    assert values(merged) == {"a": 1.0, "b": 0.0}


def test_peaks_merge_to_the_larger():
    merged = merge({"x": peak_of(torch.tensor([1.0, 5.0]))}, {"x": peak_of(torch.tensor([2.0]))})
    assert merged["x"].value() == 5.0


def test_a_mean_and_a_peak_do_not_merge():
    with pytest.raises(TypeError, match="Mean with a Peak"):
        merge({"x": mean_of(torch.ones(1))}, {"x": peak_of(torch.ones(1))})


def test_masked_values_may_be_anything():
    mask = torch.tensor([True, False])
    assert mean_of(torch.tensor([2.0, float("nan")]), mask).value() == 2.0
    assert peak_of(torch.tensor([2.0, float("inf")]), mask).value() == 2.0
    assert share_of(torch.tensor([True, True]), mask) == Mean(torch.tensor(1.0), torch.tensor(1.0))


def test_nothing_counted_is_zero_and_no_peak():
    nothing = torch.zeros(2, dtype=torch.bool)
    assert mean_of(torch.ones(2), nothing).value() == 0.0
    assert peak_of(torch.ones(2), nothing) == Peak(torch.tensor(float("-inf")))


def test_metrics_hold_no_graph():
    values_ = torch.ones(2, requires_grad=True)
    assert not mean_of(values_).total.requires_grad
    assert not peak_of(values_).top.requires_grad
