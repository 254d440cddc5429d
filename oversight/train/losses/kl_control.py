"""The coefficient of the KL penalty: fixed, or steered towards a target."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from oversight.train.losses.ranges import NonNegative, Positive, check


@dataclass(slots=True)
class FixedKL:
    """A coefficient that stays."""

    value: NonNegative

    def __post_init__(self) -> None:
        check(FixedKL, asdict(self))

    def update(self, kl: float, num_sequences: int) -> None:
        """Nothing changes."""

    def to_json(self) -> dict[str, Any]:
        """The state, JSON-plain."""
        return asdict(self)

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """A controller that goes on from `state`."""
        return cls(**state)


@dataclass(slots=True)
class AdaptiveKL:
    """A coefficient that rises while the divergence is above its target and falls below.

    Ziegler et al. 2019, arXiv:1909.08593, section 2.2: e = clip(KL/target - 1, -0.2, 0.2),
    beta *= 1 + K e. K is 0.1 in the paper, here the number of sequences by the horizon.
    """

    value: Positive
    """beta, above 0: it is only ever multiplied."""
    target: Positive
    """In nats a sequence, as the divergence given to `update`."""
    horizon: Positive = 10_000.0
    """Sequences over which a steady error of 20 % changes beta by about 20 %."""

    def __post_init__(self) -> None:
        check(AdaptiveKL, asdict(self))

    def update(self, kl: float, num_sequences: int) -> None:
        """Take in the mean divergence of a batch of sequences, all ranks' together."""
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.value *= 1 + error * num_sequences / self.horizon

    def to_json(self) -> dict[str, Any]:
        """The state, JSON-plain."""
        return asdict(self)

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """A controller that goes on from `state`."""
        return cls(**state)
