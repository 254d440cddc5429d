"""From what annotators said to a target probability that the first of a pair is better.

Shapes: B pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oversight.train.losses.ranges import Smoothing, ranged


@ranged
def target_B(
    like_B: Tensor,
    *,
    soft_label_B: Tensor | None = None,
    tie_B: Tensor | None = None,
    label_smoothing: Smoothing = 0.0,
) -> Tensor | None:
    """P(first is better) of each pair, or None where it is 1 for all.

    A tie is a half, whatever its soft label says. Smoothing flips each label with
    probability `label_smoothing`: q = p (1 - eps) + (1 - p) eps.

    Args:
        like_B: Gives shape, type and device.
        soft_label_B: Probability that the first is better; None for 1.
        tie_B: True where neither is better.
        label_smoothing: In [0, 0.5).
    """
    if soft_label_B is None and tie_B is None and label_smoothing == 0:
        return None
    target = torch.ones_like(like_B) if soft_label_B is None else soft_label_B.to(like_B)
    if tie_B is not None:
        target = torch.where(tie_B, 0.5, target)
    return target * (1 - label_smoothing) + (1 - target) * label_smoothing


def decided(tie_B: Tensor | None, soft_label_B: Tensor | None, like_B: Tensor) -> Tensor:
    """Which pairs have a better side, for accuracies: no tie and no even label."""
    kept = torch.ones_like(like_B, dtype=torch.bool)
    if tie_B is not None:
        kept = kept & ~tie_B
    return kept if soft_label_B is None else kept & (soft_label_B != 0.5)


def first_is_better(soft_label_B: Tensor | None, like_B: Tensor) -> Tensor:
    """Whether the label favours the first of each pair."""
    if soft_label_B is None:
        return torch.ones_like(like_B, dtype=torch.bool)
    return soft_label_B > 0.5
