"""RLOO's advantages: each reward against the mean of the others of its group.

Shapes: B responses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oversight.train.losses.advantages.group import TOLERANCE
from oversight.train.losses.advantages.grouping import Groups
from oversight.train.losses.metrics import Metrics, mean_of


def advantages(
    rewards_B: Tensor, groups_B: Tensor, *, tolerance: float = TOLERANCE
) -> tuple[Tensor, Metrics]:
    """r_i - 1/(G-1) sum_{j != i} r_j; shape B.

    Kool et al. 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!"; Ahmadian et al. 2024,
    "Back to Basics", arXiv:2402.14740, section 2.3. A constant group and a group of one have
    advantage exactly 0.

    Args:
        rewards_B: One a response; for the paper, less the KL divergence of the response.
        groups_B: Integers: responses of one number are one group, of any size.
        tolerance: Rewards that differ by less than this share of the largest are equal.

    Returns:
        The advantages and `reward`, `no_signal` (share of responses in constant groups).

    Raises:
        DataError: A reward is NaN or infinite.
    """
    groups = Groups.of(rewards_B, groups_B, tolerance)
    others_B = (groups.count_B - 1).clamp(min=1)
    # r_i less the mean of the others is (r_i - mean of all) G/(G - 1).
    advantages_B = groups.deviations() * groups.count_B / others_B
    metrics: Metrics = {
        "reward": mean_of(groups.rewards_B),
        "no_signal": mean_of(groups.constant_B),
    }
    return torch.where(groups.constant_B, 0.0, advantages_B), metrics
