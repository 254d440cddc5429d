"""A running baseline for each role, for games between copies of one policy.

In a zero-sum game the rewards of both sides of one transcript sum to 0, and a group of
transcripts of one prompt mixes won and lost seats: the group's mean says nothing of how
hard a seat is. A mean for each seat does.

Shapes: B rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from oversight.train.losses import require
from oversight.train.losses.advantages.grouping import checked


@dataclass(slots=True)
class RoleBaseline:
    """An exponential moving average of the reward of each role.

    SPIRAL (Liu et al. 2025, arXiv:2506.24119), role-conditioned advantage estimation:
    b = alpha b + (1 - alpha) r, then A = r - b. SPIRAL's own code subtracts the b from before r:
    alpha times that is this A. Keep its state with the checkpoint; on several ranks update each
    copy with all ranks' rewards in one order.
    """

    decay: float = 0.95
    """alpha, in [0, 1)."""
    start_at_first: bool = False
    """A role's baseline starts at its first reward; in the paper at 0."""
    means: dict[str, float] = field(default_factory=dict)
    """The baseline of each role seen."""

    def __post_init__(self) -> None:
        require(0 <= self.decay < 1, "decay", self.decay, "a number in [0, 1)")

    def update(self, role: str, reward: float) -> float:
        """The role's baseline once `reward` is in it."""
        before = self.means.get(role, reward if self.start_at_first else 0.0)
        self.means[role] = self.decay * before + (1 - self.decay) * reward
        return self.means[role]

    def to_json(self) -> dict[str, Any]:
        """The state, JSON-plain."""
        return {
            "decay": self.decay,
            "start_at_first": self.start_at_first,
            "means": dict(self.means),
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """A baseline that goes on from `state`."""
        return cls(**{**state, "means": dict(state["means"])})


def advantages(rewards_B: Tensor, roles: Sequence[str], baseline: RoleBaseline) -> Tensor:
    """Reward less the role's baseline, which takes the rewards in, one by one in their order.

    Args:
        rewards_B: One a seat of a transcript.
        roles: The name of each seat; add the game or protocol to it where there are several.
        baseline: Changed in place.

    Raises:
        DataError: A reward is NaN or infinite; the baseline is as it was.
    """
    rewards_B = checked(rewards_B)
    if len(roles) != len(rewards_B):
        raise ValueError(f"{len(rewards_B)} rewards but {len(roles)} roles")
    means = [baseline.update(role, float(r)) for role, r in zip(roles, rewards_B, strict=True)]
    return rewards_B - torch.tensor(means, dtype=rewards_B.dtype, device=rewards_B.device)
