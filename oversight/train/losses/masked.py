"""Sums, means and whitening where a mask is true, and division by a global count.

Masked values are replaced, never multiplied by zero: a NaN or an infinity in padding
reaches neither the value nor the gradient. Half-precision input is added up in float32;
float64 stays float64.

Shapes: any; `mask` broadcasts to `values`.
"""

from __future__ import annotations

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
