"""Guards: what stops a run that has gone wrong, while there is still something to save.

Each guard looks at the metrics of a step by their names, listed in `READ`, and
is silent where they are missing; a step's metrics may come in several calls.
A guard set to `warn` says a thing once in `WARN_EVERY` steps. In a run of
several processes all must give the same values, so that all stop together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from oversight.errors import TrainingStopped
from oversight.train.runs.guard_kinds import (
    Collapse,
    Exploding,
    FreshRatio,
    NotFinite,
    PastBound,
    StartLoss,
    Trip,
)
from oversight.train.runs.guard_trends import PaidFor
from oversight.train.runs.settings import GuardSettings

WARN_EVERY = 100
"""Steps until a guard that warns says again what still is wrong."""
READ: dict[str, str] = {
    "loss": "loss of the step",
    "start_loss": "what the loss is where policy and reference agree; of the first step only",
    "grad_norm": "norm of the gradient before clipping",
    "ratio_error": "largest |ratio - 1| over the tokens of a rollout just sampled; only then",
    "kl": "KL divergence from the reference, nats a response",
    "entropy": "entropy of the policy, nats a token",
    "reward": "mean reward",
    "disagreement": "standard deviation of the reward over the ensemble",
    "response_length": "tokens a response",
}
"""Metrics that guards look at, with what they must mean."""


class Guard(Protocol):
    """Looks at one step after the other."""

    def look(self, step: int, values: Mapping[str, float]) -> Trip | None:
        """What is wrong with the run, if anything."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What it remembers."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember that."""
        ...


class Guards:
    """All guards that are not off.

    Args:
        settings: Bounds, and what each guard does.
    """

    def __init__(self, settings: GuardSettings) -> None:
        made: dict[str, Guard] = {
            "not_finite": NotFinite(),
            "start_loss": StartLoss(settings.start_loss),
            "fresh_ratio": FreshRatio(settings.fresh_ratio),
            "gradient": Exploding(settings.gradient),
            "kl": PastBound(settings.kl),
            "entropy": Collapse(settings.entropy),
            "disagreement": PaidFor("disagreement", settings.disagreement),
            "length": PaidFor("response_length", settings.length),
        }
        self._actions = {name: getattr(settings, name).action for name in made}
        self._guards = {name: guard for name, guard in made.items() if self._actions[name] != "off"}
        self._warned: dict[str, int] = {}

    def check(self, step: int, values: Mapping[str, float]) -> list[str]:
        """Look at a step's metrics; gives the warnings that are new.

        Raises:
            TrainingStopped: A guard that stops has found something.
        """
        warnings = []
        for name, guard in self._guards.items():
            trip = guard.look(step, values)
            if trip is None:
                continue
            if self._actions[name] == "stop":
                message = _message(name, "stopped the run", step, trip)
                raise TrainingStopped(message, name, trip.value, trip.bound, step)
            if step - self._warned.get(name, -WARN_EVERY) >= WARN_EVERY:
                self._warned[name] = step
                warnings.append(_message(name, "warns", step, trip))
        return warnings

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        guards = {name: guard.state_dict() for name, guard in self._guards.items()}
        return {"warned": dict(self._warned), "guards": guards}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; guards that were off then begin now."""
        self._warned = dict(state_dict["warned"])
        for name, guard in self._guards.items():
            if name in state_dict["guards"]:
                guard.load_state_dict(state_dict["guards"][name])


def _message(name: str, does: str, step: int, trip: Trip) -> str:
    return (
        f"guard {name!r} {does} at step {step}: {trip.what}. {trip.advice} "
        f"(guards.{name} sets its bounds; guards.{name}.action = 'warn' or 'off' goes on.)"
    )
