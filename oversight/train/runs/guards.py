"""Guards: what stops a run that has gone wrong, while there is still something to save.

Each guard looks at the metrics of a step by their names, listed in `READ`, and
is silent where they are missing; a step's metrics may come in several calls.
A guard set to `warn` says a thing once in `WARN_EVERY` steps. In a run of
several processes all must give the same values, so that all stop together.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from oversight.errors import TrainingStopped
from oversight.train.guard_settings import (
    DisagreementSettings,
    EntropySettings,
    FreshRatioSettings,
    GradientSettings,
    GuardSettings,
    KLGuardSettings,
    LengthSettings,
    StartLossSettings,
)

Values = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Trip:
    """A guard's finding."""

    what: str
    """The metric, its value and its bound, in words."""
    value: float
    bound: float
    advice: str


class _StatelessGuard:
    """A guard that remembers nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing."""


class NotFiniteGuard(_StatelessGuard):
    """Trips on a loss, gradient norm, reward, KL or entropy that is NaN or infinite."""

    NAMES = ("loss", "grad_norm", "reward", "kl", "entropy")

    def look(self, step: int, values: Values) -> Trip | None:
        """Return a finding if a metric is not a number."""
        for name in self.NAMES:
            value = values.get(name, 0.0)
            if not math.isfinite(value):
                advice = (
                    "Go on from the last checkpoint with a smaller learning rate or gradient "
                    "norm, in float32 if it was less, and look at the data of this step."
                )
                return Trip(f"{name} is {value}", value, math.inf, advice)
        return None


class StartLossGuard:
    """Trips if the first loss is not what it must be before anything is learnt.

    That is the same loss of the same batch, its labels, ties and weights, with the reference's
    log-probabilities in the policy's place. It comes as the metric `start_loss`.
    """

    def __init__(self, settings: StartLossSettings) -> None:
        self._tolerance = settings.tolerance
        self._seen = False

    def look(self, step: int, values: Values) -> Trip | None:
        """Return a finding if the first loss is off; later ones are not looked at."""
        if self._seen or "loss" not in values:
            return None
        self._seen = True
        if "start_loss" not in values:  # there is no reference that the policy began as
            return None
        loss, expected = values["loss"], values["start_loss"]
        # Losses such as IPO's begin in the hundreds, and so does their rounding.
        tolerance = self._tolerance * max(1.0, abs(expected))
        # Written so that NaN does not pass.
        if abs(loss - expected) <= tolerance:
            return None
        return Trip(
            f"the first loss is {loss:.6g} and must be {expected:.6g} within "
            f"{tolerance:g}, as policy and reference are the same then",
            loss,
            expected,
            "Look for a reference of other weights, dropout, or other masks or precision for one "
            "of the two.",
        )

    def state_dict(self) -> dict[str, Any]:
        """Return whether the first loss was seen."""
        return {"seen": self._seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._seen = state_dict["seen"]


class FreshRatioGuard(_StatelessGuard):
    """Trips if policy and sampler differ on rollouts that were just sampled."""

    def __init__(self, settings: FreshRatioSettings) -> None:
        self._tolerance = settings.tolerance

    def look(self, step: int, values: Values) -> Trip | None:
        """Return a finding if the ratio is off; without a fresh rollout nothing is looked at."""
        error = values.get("ratio_error", 0.0)
        if error <= self._tolerance:
            return None
        return Trip(
            f"on fresh rollouts the policy's ratio is off 1 by {error:.4g}, allowed is "
            f"{self._tolerance:g}",
            error,
            self._tolerance,
            "Sampler and trainer do not run the same policy: look at temperature, precision, "
            "weights that were not handed over, and text that was encoded again.",
        )


class _PersistentGuard:
    """Counts the steps in a row in which something is wrong."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._run = 0

    def _lasts(self, is_wrong: bool) -> bool:
        self._run = self._run + 1 if is_wrong else 0
        return self._run >= self._patience

    def state_dict(self) -> dict[str, Any]:
        """Return the guard's memory."""
        return {"run": self._run}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._run = state_dict["run"]


class GradientGuard(_PersistentGuard):
    """Trips if the gradient norm stays far above its running median."""

    def __init__(self, settings: GradientSettings) -> None:
        super().__init__(settings.patience)
        self._factor = settings.factor
        self._floor = settings.floor
        self._window = settings.window
        self._norms: deque[float] = deque(maxlen=settings.window)

    def look(self, step: int, values: Values) -> Trip | None:
        """Return a finding if the norm has been too large for long enough."""
        norm = values.get("grad_norm")
        if norm is None or not math.isfinite(norm):
            return None
        seen_enough = 2 * len(self._norms) >= self._window
        bound = self._factor * statistics.median(self._norms) if seen_enough else math.inf
        is_spike = norm > bound > 0.0 and norm > self._floor
        lasts = self._lasts(is_spike)
        if not is_spike:
            self._norms.append(norm)  # a spike shall not raise its own bound
        if not lasts:
            return None
        return Trip(
            f"the gradient norm is {norm:.4g}, over {self._factor:g} times its running median "
            f"({bound / self._factor:.4g}) for {self._run} steps",
            norm,
            bound,
            "Go on from the last checkpoint with a smaller learning rate or longer warm-up.",
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the guard's memory."""
        return super().state_dict() | {"norms": list(self._norms)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        super().load_state_dict(state_dict)
        self._norms = deque(state_dict["norms"], maxlen=self._window)


class KLGuard(_PersistentGuard):
    """Trips if the KL from the reference stays past its bound."""

    def __init__(self, settings: KLGuardSettings) -> None:
        super().__init__(settings.patience)
        self._bound = settings.bound

    def look(self, step: int, values: Values) -> Trip | None:
        """Return a finding if the KL has been too large for long enough."""
        if "kl" not in values or not self._lasts(values["kl"] > self._bound):
            return None
        kl = values["kl"]
        return Trip(
            f"KL from the reference is {kl:.4g} nats a response, past its bound of "
            f"{self._bound:g} for {self._run} steps",
            kl,
            self._bound,
            "Try a smaller learning rate or a larger KL coefficient.",
        )


class EntropyGuard(_PersistentGuard):
    """Trips if the policy hardly chooses any more."""

    def __init__(self, settings: EntropySettings) -> None:
        super().__init__(settings.patience)
        self._settings = settings
        self._first: list[float] = []

    def look(self, step: int, values: Values) -> Trip | None:
        """Return a finding if entropy has been too low for long enough."""
        entropy = values.get("entropy")
        if entropy is None or not math.isfinite(entropy):
            return None
        begins = len(self._first) < self._settings.window
        if begins:
            self._first.append(entropy)
        share = 0.0 if begins else self._settings.share * statistics.fmean(self._first)
        bound = max(self._settings.floor, share)
        if not self._lasts(entropy < bound):
            return None
        return Trip(
            f"entropy is {entropy:.4g} nats a token, below {bound:.4g} for {self._run} steps (it "
            f"began at {statistics.fmean(self._first):.4g})",
            entropy,
            bound,
            "Try a smaller learning rate, a larger KL coefficient or upper clip, an entropy "
            "bonus, or a higher temperature.",
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the guard's memory."""
        return super().state_dict() | {"first": list(self._first)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        super().load_state_dict(state_dict)
        self._first = list(state_dict["first"])


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


class RewardHackingGuard:
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
        """Return a finding if reward and the other metric have both gone up too far."""
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
        """Return the guard's memory."""
        return {"first": list(self._first), "last": list(self._last)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._first = list(state_dict["first"])
        self._last = deque(state_dict["last"], maxlen=self._window)


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
        """Return a finding if something is wrong with the run."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the guard's memory."""
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
            "not_finite": NotFiniteGuard(),
            "start_loss": StartLossGuard(settings.start_loss),
            "fresh_ratio": FreshRatioGuard(settings.fresh_ratio),
            "gradient": GradientGuard(settings.gradient),
            "kl": KLGuard(settings.kl),
            "entropy": EntropyGuard(settings.entropy),
            "disagreement": RewardHackingGuard("disagreement", settings.disagreement),
            "length": RewardHackingGuard("response_length", settings.length),
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
        """Return the state that a resumed run needs."""
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
