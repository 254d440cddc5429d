"""Means and spreads over groups of rewards, of any and of unequal sizes.

Shapes: B rewards, N groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oversight.errors import DataError
from oversight.train.losses.masked import promote


def checked(rewards_B: Tensor) -> Tensor:
    """`rewards_B` in at least float32, without gradient.

    Raises:
        DataError: One is NaN or infinite.
    """
    rewards_B = promote(rewards_B.detach())
    bad = ~rewards_B.isfinite()
    if bad.any():
        place = [int(i) for i in bad.nonzero()[0]]
        raise DataError(
            f"reward {place if len(place) > 1 else place[0]} of the batch is "
            f"{float(rewards_B[bad][0])!r}: rewards must be finite; leave the response out"
        )
    return rewards_B


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Rewards by group, each statistic given back to every member."""

    rewards_B: Tensor
    place_B: Tensor
    """0 ... N-1: the group of each reward."""
    count_B: Tensor
    mean_B: Tensor
    constant_B: Tensor
    """True where all rewards of the group are equal but for rounding, or it is alone."""

    @classmethod
    def of(cls, rewards_B: Tensor, groups_B: Tensor, tolerance: float) -> Groups:
        """The groups of equal `groups_B`; `tolerance` is relative to a group's largest reward."""
        rewards_B = checked(rewards_B)
        _, place_B = torch.unique(groups_B, return_inverse=True)
        num = int(place_B.max()) + 1 if place_B.numel() else 0
        zeros_N = rewards_B.new_zeros(num)
        count_B = zeros_N.index_add(0, place_B, torch.ones_like(rewards_B))[place_B]
        mean_B = zeros_N.index_add(0, place_B, rewards_B)[place_B] / count_B
        top_B = _extreme(zeros_N, place_B, rewards_B, "amax")
        bottom_B = _extreme(zeros_N, place_B, rewards_B, "amin")
        size_B = torch.maximum(top_B.abs(), bottom_B.abs())
        constant_B = (count_B == 1) | (top_B - bottom_B <= tolerance * size_B)
        return cls(rewards_B, place_B, count_B, mean_B, constant_B)

    def deviations(self) -> Tensor:
        """Reward less the group's mean; exactly 0 in constant groups."""
        return torch.where(self.constant_B, 0.0, self.rewards_B - self.mean_B)

    def std_B(self, correction: int) -> Tensor:
        """Standard deviation of each group by its size less `correction`."""
        squares_B = self.deviations().square()
        sums_N = squares_B.new_zeros(int(self.place_B.max()) + 1 if squares_B.numel() else 0)
        sums_B = sums_N.index_add(0, self.place_B, squares_B)[self.place_B]
        return (sums_B / (self.count_B - correction).clamp(min=1)).sqrt()


def _extreme(zeros_N: Tensor, place_B: Tensor, rewards_B: Tensor, which: str) -> Tensor:
    return zeros_N.scatter_reduce(0, place_B, rewards_B, which, include_self=False)[place_B]
