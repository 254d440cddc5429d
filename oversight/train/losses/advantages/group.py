"""GRPO's advantages: rewards against the mean of their group, in units of its spread.

Shapes: B responses.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from oversight.train.losses import require
from oversight.train.losses.advantages.grouping import Groups, checked
from oversight.train.losses.metrics import Metrics, mean_of

Scale = Literal["group", "batch", "none"]
TOLERANCE = 1e-6
"""Rewards of a group that differ by less than this share of the largest are equal."""


def advantages(
    rewards_B: Tensor,
    groups_B: Tensor,
    *,
    scale: Scale = "group",
    correction: int = 1,
    eps: float = 0.0,
    tolerance: float = TOLERANCE,
) -> tuple[Tensor, Metrics]:
    """(r - mean of its group) / std; shape B.

    Shao et al. 2024 (DeepSeekMath), arXiv:2402.03300, section 4.1.2. A constant group has
    advantage exactly 0, also where summing its equal rewards left a residue, and so has a group
    of one.

    Args:
        rewards_B: One a response.
        groups_B: Integers: responses of one number are one group, of any size.
        scale: "group": by the group's standard deviation. "none": not at all (Dr. GRPO, Liu
            et al. 2025, arXiv:2503.20783, section 3.2). "batch": by the standard deviation of
            all rewards given (arXiv:2508.08221).
        correction: 1 divides by G - 1 (sample; torch's default and TRL's), 0 by G. The paper
            does not say.
        eps: Added to the standard deviation: 0 in the paper, 1e-4 in TRL.
        tolerance: See `TOLERANCE`.

    Returns:
        The advantages and `reward`, `reward_std` (of groups) and `no_signal` (share of
        responses in constant groups).

    Raises:
        DataError: A reward is NaN or infinite.
    """
    require(scale in ("group", "batch", "none"), "scale", scale, "group, batch or none")
    groups = Groups.of(rewards_B, groups_B, tolerance)
    deviations_B, std_B = groups.deviations(), groups.std_B(correction)
    metrics: Metrics = {
        "reward": mean_of(groups.rewards_B),
        "reward_std": mean_of(std_B),
        "no_signal": mean_of(groups.constant_B),
    }
    if scale == "none":
        return deviations_B, metrics
    if scale == "batch":
        std_B = _batch_std(groups.rewards_B, correction)
    return torch.where(deviations_B == 0, 0.0, deviations_B / (std_B + eps)), metrics


def informative(rewards_B: Tensor, groups_B: Tensor, *, tolerance: float = TOLERANCE) -> Tensor:
    """Which responses are in a group whose rewards differ: what dynamic sampling keeps.

    DAPO (Yu et al. 2025, arXiv:2503.14476, eq. 11): groups that are all right or all wrong have
    no advantage; they are left out and others sampled in their place until the batch is full.

    Returns:
        Bool, shape B: the same for all responses of a group.
    """
    return ~Groups.of(checked(rewards_B), groups_B, tolerance).constant_B


def _batch_std(rewards_B: Tensor, correction: int) -> Tensor:
    squares = (rewards_B - rewards_B.mean()).square().sum()
    return (squares / max(rewards_B.numel() - correction, 1)).sqrt().expand_as(rewards_B)
