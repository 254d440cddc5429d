"""Sums and means where a mask is true, and metrics of them that accumulate exactly.

Masked values are replaced, never multiplied by zero: a NaN or an infinity in padding
reaches neither the value nor the gradient. Half-precision input is added up in float32;
float64 stays float64.

A mean of means over micro-batches of unequal size is wrong; a total and a count add up
over micro-batches and ranks, and divide once at the end.

Shapes: any; `mask` broadcasts to `values`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


def promote(values: Tensor) -> Tensor:
    """`values` in at least float32."""
    if values.dtype in (torch.float32, torch.float64):
        return values
    return values.float()


def clean(values: Tensor, mask: Tensor) -> Tensor:
    """`values`, zero where `mask` is false, without gradient there."""
    return torch.where(mask, promote(values), 0.0)


def masked_sum(values: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """The sum where `mask` is true, over `dim` or over everything."""
    kept = clean(values, mask)
    return kept.sum() if dim is None else kept.sum(dim)


def masked_mean(values: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    """The mean where `mask` is true; 0 where it is nowhere true."""
    kept = mask.expand_as(values)
    count = kept.sum() if dim is None else kept.sum(dim)
    return masked_sum(values, mask, dim) / count.clamp(min=1)


def divide(total: Tensor, normalizer: float | Tensor) -> Tensor:
    """`total` by a global count; a count of zero (everything masked) divides by one."""
    if isinstance(normalizer, Tensor):
        return total / torch.where(normalizer == 0, torch.ones_like(normalizer), normalizer)
    return total / (normalizer or 1.0)


def drop_rows(values_B: Tensor, weight_B: Tensor | None) -> Tensor:
    """`values_B` with 0 in the rows of weight 0, so that nothing in them can overflow."""
    values_B = promote(values_B)
    return values_B if weight_B is None else torch.where(weight_B != 0, values_B, 0.0)


def weighted_sum(values_B: Tensor, weight_B: Tensor | None, normalizer: float | Tensor) -> Tensor:
    """The weighted sum of rows by the global count of rows.

    The count is the caller's: divide by the sum of the weights for a weighted mean.
    """
    if weight_B is not None:
        values_B = values_B * weight_B.to(values_B.dtype)
    return divide(values_B.sum(), normalizer)


def whiten(
    values: Tensor,
    mask: Tensor,
    *,
    shift_mean: bool = True,
    correction: int = 0,
    eps: float = 1e-8,
) -> Tensor:
    """`values` with variance 1 and, if `shift_mean`, mean 0 over what `mask` leaves; 0 elsewhere.

    Args:
        values: Any shape.
        mask: Marks of the values that count.
        shift_mean: False keeps the mean (as for rewards, whose sign means something).
        correction: 0 divides by n (population variance), 1 by n - 1 (sample variance).
        eps: Added to the variance, under the root.

    A constant input has no deviation: what float arithmetic leaves of it is set to 0.
    """
    if not values.numel():
        return promote(values)
    mean = masked_mean(values, mask)
    deviation = clean(values - mean, mask)
    residue = 1e-6 * clean(values, mask).abs().max()
    deviation = torch.where(deviation.abs().max() <= residue, 0.0, deviation)
    num = mask.expand_as(values).sum()
    variance = deviation.square().sum() / (num - correction).clamp(min=1)
    scaled = deviation * torch.rsqrt(variance + eps)
    return scaled if shift_mean else clean(scaled + mean, mask)


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
