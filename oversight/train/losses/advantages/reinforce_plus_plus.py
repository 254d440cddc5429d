"""REINFORCE++: returns normalised over the whole batch, with or without a group baseline.

Hu et al. 2025, "REINFORCE++: Stabilizing Critic-Free Policy Optimization with Global Advantage
Normalization", arXiv:2501.03262; equations as in version 2. "Batch" is what one call is given:
gather rewards over ranks first.

Shapes: B responses, T response tokens (padded).
"""

from __future__ import annotations

import torch
from torch import Tensor

from oversight.train.losses.advantages.group import TOLERANCE
from oversight.train.losses.advantages.grouping import Groups, checked
from oversight.train.losses.masked import clean, whiten
from oversight.train.losses.metrics import Metrics, mean_of


def advantages(
    rewards_BT: Tensor, mask_BT: Tensor, *, gamma: float = 1.0, correction: int = 0
) -> tuple[Tensor, Metrics]:
    """(return to go - mean) / std, over all unmasked tokens of the batch; shape BT.

    Eq. 10. The return to go of a token is the (discounted) sum of rewards from it on: the score
    of the response less the KL penalties to come (eqs. 8 and 9), with `rewards.token_rewards`.

    Args:
        rewards_BT: Rewards of tokens.
        mask_BT: True where learnt from; other tokens take no step of time.
        gamma: Discount a token.
        correction: 0 divides by the number of tokens, 1 by one less.

    Returns:
        The advantages and `return` (mean over tokens, before normalising).

    Raises:
        DataError: An unmasked reward is NaN or infinite.
    """
    rewards_BT = checked(clean(rewards_BT, mask_BT))
    running_B = rewards_BT.new_zeros(len(rewards_BT))
    returns_BT = torch.zeros_like(rewards_BT)
    for t in range(rewards_BT.shape[1] - 1, -1, -1):
        running_B = torch.where(mask_BT[:, t], rewards_BT[:, t] + gamma * running_B, running_B)
        returns_BT[:, t] = running_B
    metrics: Metrics = {"return": mean_of(returns_BT, mask_BT)}
    return whiten(returns_BT, mask_BT, correction=correction), metrics


def baseline_advantages(
    rewards_B: Tensor,
    groups_B: Tensor,
    *,
    correction: int = 0,
    tolerance: float = TOLERANCE,
) -> tuple[Tensor, Metrics]:
    """(r - mean of its group), normalised over the batch; shape B: the variant with a baseline.

    Appendix A. Constant groups have a deviation of 0 and count in the batch's mean and spread.

    Args:
        rewards_B: One a response.
        groups_B: Integers: responses of one number are one group, of any size.
        correction: 0 divides by B, 1 by B - 1.
        tolerance: Rewards that differ by less than this share of the largest are equal.

    Returns:
        The advantages and `reward`, `no_signal`.

    Raises:
        DataError: A reward is NaN or infinite.
    """
    groups = Groups.of(rewards_B, groups_B, tolerance)
    deviations_B = groups.deviations()
    metrics: Metrics = {
        "reward": mean_of(groups.rewards_B),
        "no_signal": mean_of(groups.constant_B),
    }
    everything_B = torch.ones_like(deviations_B, dtype=torch.bool)
    # Deviations of groups sum to 0: whitening has no mean to take away but rounding.
    return whiten(deviations_B, everything_B, correction=correction), metrics
