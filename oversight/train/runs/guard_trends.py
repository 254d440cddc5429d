"""The guard against reward hacking: a reward that rises together with what it must not pay for.

Gao et al., "Scaling laws for reward model overoptimization", 2023; Coste et
al., "Reward model ensembles help mitigate overoptimization", 2024; Singhal et
al., "A long way to go: investigating length correlations in RLHF", 2024.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from typing import Any

from oversight.train.runs.guard_kinds import Trip
from oversight.train.runs.settings import DisagreementSettings, LengthSettings

ADVICE = {
    "disagreement": (
        "The policy goes where the reward models know nothing: look at its samples, raise the KL "
        "coefficient, subtract the disagreement from the reward, or train the reward models anew."
    ),
    "response_length": (
        "The reward may be paid for length: look at the samples, and penalise or balance length "
        "in the reward."
    ),
}


class PaidFor:
    """Trips if the reward has risen while another metric has grown by a factor.

    Means over the last `window` steps are compared with those over the first.

    Args:
        name: The other metric.
        settings: How far is too far.
    """

    def __init__(self, name: str, settings: DisagreementSettings | LengthSettings) -> None:
        self._name = name
        self._factor = settings.factor
        self._rise = settings.rise
        self._window = settings.window
        self._first: list[tuple[float, float]] = []
        self._last: deque[tuple[float, float]] = deque(maxlen=settings.window)

    def look(self, step: int, values: Mapping[str, float]) -> Trip | None:
        """Whether reward and the other metric have both gone up too far."""
        pair = (values.get("reward", math.nan), values.get(self._name, math.nan))
        if not all(map(math.isfinite, pair)):
            return None
        if len(self._first) < self._window:
            self._first.append(pair)
            return None
        self._last.append(pair)
        return self._judged() if len(self._last) == self._window else None

    def _judged(self) -> Trip | None:
        rewards, others = zip(*self._first, strict=True)
        rewards_now, others_now = zip(*self._last, strict=True)
        began, now = statistics.fmean(rewards), statistics.fmean(rewards_now)
        risen = now - began > self._rise * statistics.pstdev(rewards)
        bound = self._factor * statistics.fmean(others)
        other = statistics.fmean(others_now)
        if not (risen and other > bound > 0.0):
            return None
        what = (
            f"reward rose from {began:.4g} to {now:.4g} while {self._name} went from "
            f"{bound / self._factor:.4g} to {other:.4g}, past {self._factor:g} times"
        )
        return Trip(what, other, bound, ADVICE[self._name])

    def state_dict(self) -> dict[str, Any]:
        """What it remembers."""
        return {"first": list(self._first), "last": list(self._last)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._first = list(state_dict["first"])
        self._last = deque(state_dict["last"], maxlen=self._window)
