"""Signal: rows and steps that a loss learns nothing from.

A loss is heard by its gradient with respect to what the model says of each row (rewards, sums of
log-probabilities): where that is 0, no weight is to move. Adam would make steps of a gradient of
rounding, and of none at all by its momentum and by decay.

Shapes: B rows, K values of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from oversight.errors import DataError
from oversight.train.losses.metrics import Peak, peak_of

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
