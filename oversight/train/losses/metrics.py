"""Metrics that accumulate exactly: totals with their counts, and maxima.

A mean of means over micro-batches of unequal size is wrong; a total and a count add up
over micro-batches and ranks, and divide once at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Mean(NamedTuple):
    """A mean that is still a total and a count, both detached scalars."""

    total: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nobody calls

    def merge(self, other: Mean) -> Mean:
        """The mean over both."""
        return Mean(self.total + other.total, self.count + other.count)

    def value(self) -> float:
        """Total by count; 0 where nothing was counted."""
        count = float(self.count)
        return float(self.total) / count if count else 0.0


class Peak(NamedTuple):
    """The largest value seen, a detached scalar; minus infinity where none was."""

    top: Tensor

    def merge(self, other: Peak) -> Peak:
        """The larger of both."""
        return Peak(torch.maximum(self.top, other.top))

    def value(self) -> float:
        """The largest value."""
        return float(self.top)


Metrics = dict[str, Mean | Peak]
"""The figures that a loss reports beside itself, by name."""


def mean_of(values: Tensor, mask: Tensor | None = None) -> Mean:
    """The mean of `values` where `mask` is true; what is left out may be NaN."""
    values = values.detach()
    if (
        values.dtype in (torch.bool, torch.float16, torch.bfloat16)
        or not values.is_floating_point()
    ):
        values = values.float()
    if mask is None:
        return Mean(values.sum(), values.new_tensor(float(values.numel())))
    kept = mask.bool().expand_as(values)
    return Mean(torch.where(kept, values, 0.0).sum(), kept.sum().to(values.dtype))


def share_of(condition: Tensor, mask: Tensor | None = None) -> Mean:
    """The share of places at which `condition` holds, of those where `mask` is true."""
    return mean_of(condition.detach().float(), mask)


def peak_of(values: Tensor, mask: Tensor | None = None) -> Peak:
    """The largest of `values` where `mask` (of the same shape) is true."""
    values = values.detach().reshape(-1)
    kept = values if mask is None else values[mask.bool().reshape(-1)]
    return Peak(kept.max() if kept.numel() else values.new_tensor(float("-inf")))


def merge(first: Mapping[str, Mean | Peak], second: Mapping[str, Mean | Peak]) -> Metrics:
    """Both as one: what either has, merged where both have it."""
    merged = dict(first)
    for name, metric in second.items():
        merged[name] = _merged(merged[name], metric) if name in merged else metric
    return merged


def values(metrics: Mapping[str, Mean | Peak]) -> dict[str, float]:
    """Each metric as one number, for a log."""
    return {name: metric.value() for name, metric in metrics.items()}


def _merged(first: Mean | Peak, second: Mean | Peak) -> Mean | Peak:
    if isinstance(first, Mean) and isinstance(second, Mean):
        return first.merge(second)
    if isinstance(first, Peak) and isinstance(second, Peak):
        return first.merge(second)
    raise TypeError(f"cannot merge a {type(first).__name__} with a {type(second).__name__}")
