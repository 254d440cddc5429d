"""Metrics that add up over micro-batches and ranks."""

from __future__ import annotations

import pytest
import torch

from oversight.train.losses.metrics import Mean, Peak, mean_of, merge, peak_of, share_of, values


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
