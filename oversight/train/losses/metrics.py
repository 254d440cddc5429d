"""Sums and means under a mask, metrics of them that accumulate exactly, and the signal of a loss.

Masked values are replaced, never multiplied by zero: a NaN or an infinity in padding
reaches neither the value nor the gradient. Half-precision input is added up in float32;
float64 stays float64.

A mean of means over micro-batches of unequal size is wrong; a total and a count add up
over micro-batches and ranks, and divide once at the end.

The signal is a metric of its own, by which rows and steps are found that a loss learns nothing
from. A loss is heard by its gradient with respect to what the model says of each row (rewards, sums
of log-probabilities): where that is 0, no weight is to move. Adam would make steps of a gradient of
rounding, and of none at all by its momentum and by decay.

Shapes: any, and `mask` broadcasts to `values`; of a signal B rows, K values of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from oversight.errors import DataError


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


SIGNAL = "signal"
"""A metric of a task that need not have anything to learn: where it is 0, no step is taken."""
ROUNDING = {"float32": 1e-4, "bfloat16": 0.05}
"""Nats that a token's log-probability may differ by where nothing but rounding differs."""
NOTHING = 1e-12
"""Gradients of a loss in float64 that are rounding."""
SCALES = (1.0, 100.0)
"""Of the random values at which a loss is tried: near and far from where it begins."""

ValuesLoss = Callable[[Tensor], Tensor]
"""From values [B, K] to a loss, the sum over rows."""


def is_rounding(ours: Tensor, theirs: Tensor, precision: str) -> bool:
    """Return whether log-probabilities computed in `precision` differ by rounding alone."""
    return not ours.numel() or float((ours - theirs).detach().abs().max()) <= ROUNDING[precision]


def gradient_BK(loss: ValuesLoss, values_BK: Tensor) -> Tensor | None:
    """The gradient of a loss at some values, in float64; 0 where it is rounding.

    None where a user's own loss cannot be computed there, which says nothing of it.
    """
    with torch.enable_grad():
        leaf_BK = values_BK.detach().double().requires_grad_()
        try:
            loss(leaf_BK).backward()  # type: ignore[no-untyped-call]
        except Exception:  # a user's own code: a run names what it raises on its own values
            return None
    if leaf_BK.grad is None:
        return torch.zeros_like(leaf_BK)
    return torch.where(leaf_BK.grad.abs() <= NOTHING, 0.0, leaf_BK.grad)


def signal_of(loss: ValuesLoss, values_BK: Tensor) -> Peak:
    """The largest gradient of a step's loss by what the model says: the metric `SIGNAL`."""
    found_BK = gradient_BK(loss, values_BK)
    return peak_of(torch.ones(1) if found_BK is None else found_BK.abs())


def silent_B(loss: ValuesLoss, points: Sequence[Tensor], among_BK: Tensor | None = None) -> Tensor:
    """Rows that say nothing, shape B: they have no gradient at any of `points`.

    Args:
        loss: Of these rows.
        points: Values [B, K] at which it is tried.
        among_BK: The values of a row, False for padding, if only what tells them apart counts:
            what moves all of them alike, such as centring, is said by no label.
    """
    silent = torch.ones(len(points[0]), dtype=torch.bool)
    for values_BK in points:
        found_BK = gradient_BK(loss, values_BK)
        if found_BK is None:
            return torch.zeros_like(silent)
        if among_BK is not None:
            mean_B = (found_BK * among_BK).sum(1) / among_BK.sum(1)
            found_BK = (found_BK - mean_B[:, None]) * among_BK
        silent &= (found_BK.abs() <= NOTHING).all(1)
    return silent


def random_points(num_rows: int, num_values: int) -> list[Tensor]:
    """Values at which a loss that learns from its rows has a gradient, the same each time."""
    drawn = torch.Generator().manual_seed(0)
    kind = torch.float64
    return [
        scale * torch.randn(num_rows, num_values, generator=drawn, dtype=kind) for scale in SCALES
    ]


def silence(
    loss: str, what: str, ids: Sequence[str], silent: Sequence[bool], *, why: str, instead: str
) -> list[str]:
    """A line that counts the rows that say nothing; none where all say something.

    Args:
        loss: Its name.
        what: Of what there are `ids`, such as "comparisons".
        ids: Of the rows.
        silent: Which of them say nothing.
        why: The fault of these.
        instead: Data that would be learnt from.

    Raises:
        DataError: No row says anything.
    """
    found = [each for each, nothing in zip(ids, silent, strict=True) if nothing]
    if not found:
        return []
    such = f"row {found[0]!r}" if len(found) == 1 else f"rows {found[0]!r}, {found[1]!r}"
    such += " …" * (len(found) > 2)
    if len(found) == len(ids):
        raise DataError(
            f"loss = {loss!r} learns nothing from any of the {len(ids):,} {what} ({such}): {why}. "
            f"Take {instead}"
        )
    return [
        f"loss = {loss!r} learns nothing from {len(found):,} of the {len(ids):,} {what} ({such}): "
        f"{why}"
    ]
