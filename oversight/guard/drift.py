"""Drift of traffic against a reference, noticed in sequence with false alarms controlled.

Every kind of drift is a bet against "nothing has changed": after each call a factor that is at most
1 on average as long as that holds. A Shiryaev-Roberts e-detector (Shin, Ramdas & Rinaldo 2023,
arXiv:2203.03532) adds up the products of these factors over all possible times of a change,

    M_n = (M_{n-1} + 1) * (1 + lambda * v_n)

and gives an alarm once M reaches `calls_per_false_alarm`: on unchanged traffic alarms are at least
that many calls apart on average, however often one looks and whatever the distribution is. Several
lambdas, both directions and all bins are averaged before the comparison; the kinds of drift share
the allowance between them.

- A share (refusals, findings, agreement of a judge): the mean of values from 0 to 1.
- A number (length, reward, score): its bins by the reference's quantiles and its ends, a bet on
  each. This is population stability, and it notices a new tail that leaves the mean alone.
- A text: a witness between recent and reference texts is fitted from block to block on one half of
  the reference, and bet upon against the other half: a kernel's (maximum mean discrepancy, Gretton
  et al. 2012), or a classifier's (Lopez-Paz & Oquab 2017, arXiv:1610.06545).

A reference is finite, so means within `z` of its standard errors count as unchanged.
"""

from __future__ import annotations

import abc
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from oversight.aggregation import last_words
from oversight.config import Settings
from oversight.guard.calls import DATASET, USERS, Call, CallOutcome
from oversight.guard.checks.base import GuardedExchange
from oversight.store import Store
from oversight.types import Act, OwnAnswer, Transcript

Array = NDArray[np.float64]
LAMBDAS = np.array([0.05, 0.1, 0.2, 0.4, 0.6, 0.9])
"""Shares of the capital that are bet, from weak drift to strong."""
NUM_BINS = 10
TAILS = (0.01, 0.025, 0.05, 0.1)
"""Shares of the reference that count as its ends, besides the bins."""
MAX_SCALE = 20.0
"""Most that a payoff is enlarged for being rare."""
NUM_FEATURES = 64
BLOCK = 50
"""Texts after which a witness is fitted anew."""
RECENT = 300
"""Texts that it is fitted on, and calls among which the examples of an alarm are looked for."""
NUM_EXAMPLES = 5

Kind = Literal["share", "number", "kernel", "classifier"]


@dataclass(frozen=True, slots=True)
class Alarm:
    """A drift that was noticed."""

    stream: str
    kind: Kind
    num_calls: int
    """Calls since the reference was complete, or since the last alarm of the stream."""
    reference: float
    """Mean of the reference: of the values, of the bin that moved, or of the witness."""
    recent: float
    """The same over the last calls."""
    what: str
    examples: tuple[str, ...]
    """Ids of those of the last calls that moved it most."""

    def sentence(self) -> str:
        """The alarm in words."""
        return (
            f"{self.stream} has drifted ({self.what}): {self.reference:.3f} in the reference, "
            f"{self.recent:.3f} lately, noticed after {self.num_calls:,} calls; see "
            + ", ".join(self.examples)
        )


class DriftSettings(Settings):
    """Watch over the traffic of a guard."""

    reference: int = Field(default=5_000, ge=200)
    """Calls that later ones are compared with: the first ones."""
    calls_per_false_alarm: float = Field(default=1e6, ge=100.0)
    """Calls of unchanged traffic to one alarm, at least and on average, of all streams together."""
    z: float = Field(default=3.0, ge=0.0)
    """Standard errors of the reference within which a mean counts as unchanged."""
    texts: bool = True
    """Compare the words of requests, too."""
    webhook: str = ""
    """Address on this machine that alarms are posted to as JSON."""

    @field_validator("webhook")
    @classmethod
    def _on_loopback(cls, address: str) -> str:
        from urllib.parse import urlsplit

        parts = urlsplit(address)
        known = ("127.0.0.1", "localhost", "::1")
        if address and (parts.scheme not in ("http", "https") or parts.hostname not in known):
            raise ValueError(
                f"{address!r}: give an address of this machine, such as http://127.0.0.1:9000/; "
                "what forwards alarms further stands there"
            )
        return address


class DriftEvidence:
    """Shiryaev-Roberts e-detectors over several bets, which are averaged."""

    def __init__(self, num_bets: int) -> None:
        self._sums = np.zeros((len(LAMBDAS), num_bets))

    def add(self, payoffs: Array) -> float:
        """The mean evidence once each bet was paid.

        Args:
            payoffs: Of each bet at least -1, and at most 0 on average where nothing has changed.
        """
        self._sums += 1.0
        self._sums *= 1.0 + LAMBDAS[:, None] * payoffs
        return float(self._sums.mean())

    @property
    def strongest(self) -> int:
        """The bet with the most evidence."""
        return int(self._sums.sum(0).argmax())

    def clear(self) -> None:
        """Begin anew."""
        self._sums[:] = 0.0


class Detector(abc.ABC):
    """One stream's drift against its reference."""

    kind: Kind

    def __init__(self, stream: str, threshold: float, num_bets: int) -> None:
        self.stream, self._threshold = stream, threshold
        self._evidence = DriftEvidence(num_bets)
        self._num = 0
        self._recent: deque[tuple[str, Array, Any]] = deque(maxlen=RECENT)

    def add(self, value: Any, name: str = "") -> Alarm | None:
        """The alarm, if the next value gives one; the stream then begins anew."""
        payoffs = self._payoffs(value)
        self._num += 1
        self._recent.append((name, payoffs, value))
        if self._evidence.add(payoffs) < self._threshold:
            return None
        bet = self._evidence.strongest
        moved = sorted(self._recent, key=lambda each: -float(each[1][bet]))[:NUM_EXAMPLES]
        reference, recent, what = self._told(bet)
        found = Alarm(
            self.stream,
            self.kind,
            self._num,
            reference,
            recent,
            what,
            tuple(dict.fromkeys(each[0] for each in moved)),
        )
        self._evidence.clear()
        self._recent.clear()
        self._num = 0
        return found

    @abc.abstractmethod
    def _payoffs(self, value: Any) -> Array:
        """Payment of each bet on a value."""

    @abc.abstractmethod
    def _told(self, bet: int) -> tuple[float, float, str]:
        """Of a bet the reference's mean, that of the last calls, and its name."""


class SharesBet:
    """Bets that means of values from 0 to 1 have risen, and that they have fallen.

    A payoff is divided by the most that it can lose, so that rare things are bet on as high as
    their rarity allows.
    """

    def __init__(
        self, means: Array, num_reference: int, z: float, spread: Array | None = None
    ) -> None:
        self.means = means
        found = np.sqrt(means * (1.0 - means)) if spread is None else spread
        # What was never seen has a standard error as well: that of one in all of them.
        found = np.maximum(found, num_reference**-0.5)
        self._tolerance = z * found / num_reference**0.5
        self._rise = np.maximum(means + self._tolerance, 1.0 / MAX_SCALE)
        self._fall = np.maximum(1.0 - means + self._tolerance, 1.0 / MAX_SCALE)

    def payoffs(self, values: Array) -> Array:
        """Of each value the payoff of a rise, then of each that of a fall."""
        off = values - self.means
        rise = (off - self._tolerance) / self._rise
        return np.concatenate([rise, (-off - self._tolerance) / self._fall])


class ShareDrift(Detector):
    """Drift of the mean of values from 0 to 1."""

    kind: Kind = "share"

    def __init__(self, stream: str, reference: Sequence[float], threshold: float, z: float) -> None:
        super().__init__(stream, threshold, 2)
        values = np.asarray(reference, dtype=np.float64)
        self._bet = SharesBet(values.mean(keepdims=True), len(values), z, values.std(keepdims=True))

    def _payoffs(self, value: float) -> Array:
        return self._bet.payoffs(np.array([value]))

    def _told(self, bet: int) -> tuple[float, float, str]:
        recent = float(np.mean([each[2] for each in self._recent]))
        return float(self._bet.means[0]), recent, "less often" if bet else "more often"


class NumberDrift(Detector):
    """Drift of a number's distribution over the quantiles of its reference."""

    kind: Kind = "number"

    def __init__(self, stream: str, reference: Sequence[float], threshold: float, z: float) -> None:
        values = np.asarray(reference, dtype=np.float64)
        self._edges = np.unique(np.quantile(values, np.arange(1, NUM_BINS) / NUM_BINS))
        self._low = np.unique(np.quantile(values, TAILS))
        self._high = np.unique(np.quantile(values, [1.0 - tail for tail in TAILS]))
        shares = np.mean([self._indicators(value) for value in values], axis=0)
        self._shares = SharesBet(shares, len(values), z)
        super().__init__(stream, threshold, 2 * len(shares))

    def _indicators(self, value: float) -> Array:
        """1 for the bin, and for each tail, that a value is in; 0 for the others."""
        bins = np.zeros(len(self._edges) + 1)
        bins[np.searchsorted(self._edges, value, side="right")] = 1.0
        return np.concatenate([bins, value < self._low, value > self._high])

    def _payoffs(self, value: float) -> Array:
        return self._shares.payoffs(self._indicators(value))

    def _told(self, bet: int) -> tuple[float, float, str]:
        place = bet % len(self._shares.means)
        recent = np.mean([self._indicators(each[2])[place] for each in self._recent])
        num_bins, num_low = len(self._edges) + 1, len(self._low)
        if place >= num_bins + num_low:
            where = f"above {self._high[place - num_bins - num_low]:.3g}"
        elif place >= num_bins:
            where = f"below {self._low[place - num_bins]:.3g}"
        else:
            low = "-inf" if place == 0 else f"{self._edges[place - 1]:.3g}"
            high = "inf" if place == len(self._edges) else f"{self._edges[place]:.3g}"
            where = f"from {low} to {high}"
        return float(self._shares.means[place]), float(recent), f"share of values {where}"


class Witness(Protocol):
    """Fits a function that is high on recent texts and low on those of the reference."""

    def __call__(self, recent: Array, reference: Array) -> Callable[[Array], Array]:
        """The function of rows of features, from -1 to 1."""
        ...


def kernel_witness(recent: Array, reference: Array) -> Callable[[Array], Array]:
    """The witness of maximum mean discrepancy under a cosine kernel."""
    between = recent.mean(0) - reference.mean(0)
    direction = between / max(float(np.linalg.norm(between)), 1e-12)
    return lambda rows: np.asarray((rows @ direction).clip(-1.0, 1.0))


def classifier_witness(recent: Array, reference: Array) -> Callable[[Array], Array]:
    """A logistic regression between the two, as twice its probability minus 1."""
    from sklearn.linear_model import LogisticRegression

    drawn = reference[:: max(1, len(reference) // (2 * len(recent)))]
    labels = np.r_[np.ones(len(recent)), np.zeros(len(drawn))]
    model = LogisticRegression(C=10.0, class_weight="balanced", max_iter=50)
    model.fit(np.r_[recent, drawn], labels)
    weights, bias = model.coef_[0], float(model.intercept_[0])
    return lambda rows: np.asarray(np.tanh((rows @ weights + bias) / 2.0))


class TextDrift(Detector):
    """Drift of texts, by a witness that is fitted from block to block."""

    def __init__(
        self, stream: str, kind: Kind, reference: Sequence[Array], threshold: float, z: float
    ) -> None:
        super().__init__(stream, threshold, 1)
        self.kind = kind
        self._fit = kernel_witness if kind == "kernel" else classifier_witness
        rows = np.asarray(reference)
        # A witness is no evidence on what it was fitted on.
        self._half, self._other = rows[::2], rows[1::2]
        self._z = z
        self._witness: Callable[[Array], Array] | None = None
        self._mean = self._tolerance = 0.0
        self._rows: deque[Array] = deque(maxlen=RECENT)

    def _payoffs(self, value: Array) -> Array:
        payoff = 0.0
        if self._witness is not None:
            found = float(self._witness(value[None])[0])
            payoff = (found - self._mean - self._tolerance) / 2.0
        self._rows.append(value)
        if (self._num + 1) % BLOCK == 0:
            self._refit()
        return np.array([max(-1.0, min(1.0, payoff))])

    def _refit(self) -> None:
        self._witness = self._fit(np.asarray(self._rows), self._half)
        values = self._witness(self._other)
        self._mean = float(values.mean())
        self._tolerance = self._z * float(values.std()) / len(values) ** 0.5

    def _told(self, bet: int) -> tuple[float, float, str]:
        name = "kernel" if self.kind == "kernel" else "classifier"
        assert self._witness is not None
        recent = float(self._witness(np.asarray(self._rows)).mean())
        return self._mean, recent, f"words of requests, by a {name}"


def features_of(texts: Sequence[str]) -> Array:
    """Hashed words and pairs of words of texts, each row of length 1 (or 0 without words)."""
    from sklearn.feature_extraction.text import HashingVectorizer

    hashing = HashingVectorizer(n_features=NUM_FEATURES, ngram_range=(1, 1), alternate_sign=True)
    return np.asarray(hashing.transform(texts).toarray(), dtype=np.float64)


# --- the watch over calls ---


def values_of(call: Call) -> dict[str, tuple[Kind, Any]]:
    """The streams of a call with its values, texts as they are."""
    refused = call.outcome in (CallOutcome.REFUSED, CallOutcome.BLOCKED)
    found: dict[str, tuple[Kind, Any]] = {
        "refusals": ("share", float(refused)),
        "actions": ("share", float(call.has_acted)),
        "failures": ("share", float(call.outcome is CallOutcome.FAILED)),
    }
    if call.choices and not refused:
        length = sum(len(each.written) for each in call.choices.values())
        found["answer length"] = ("number", float(length))
    for check, score in call.scores.items():
        found[f"score of {check}"] = ("number", score)
    found["requests"] = ("kernel", GuardedExchange(call.messages).request)
    return found


class DriftWatch:
    """All streams of a guard's traffic, each with its reference and detector."""

    def __init__(
        self, settings: DriftSettings, num_streams: int, tell: Callable[[Alarm], None]
    ) -> None:
        self._settings, self._tell = settings, tell
        self._threshold = settings.calls_per_false_alarm * num_streams
        self._references: dict[str, list[Any]] = {}
        self._detectors: dict[str, list[Detector]] = {}
        self._waiting: list[tuple[str, str]] = []
        self.num_alarms = 0

    def add(self, call: Call) -> None:
        """Take a call that is over; tells of an alarm that it gives."""
        if not call.messages or call.outcome is CallOutcome.CANCELLED:
            return
        for stream, (kind, value) in values_of(call).items():
            if kind != "kernel":
                self.feed(stream, kind, value, call.id)
            elif self._settings.texts:
                self.feed_text(value, call.id)

    def feed_text(self, text: str, name: str) -> None:
        """Take the words of a request; features are made of some at once, which is cheaper."""
        self._waiting.append((name, text))
        if len(self._waiting) >= BLOCK:
            waiting, self._waiting = self._waiting, []
            rows = features_of([text for _, text in waiting])
            for (name, _), row in zip(waiting, rows, strict=True):
                self.feed("requests", "kernel", row, name)

    def feed(self, stream: str, kind: Kind, value: Any, name: str) -> None:
        """Take one value of a stream: of the reference, until that is complete."""
        detectors = self._detectors.get(stream)
        if detectors is None:
            reference = self._references.setdefault(stream, [])
            reference.append(value)
            if len(reference) >= self._settings.reference:
                self._detectors[stream] = self._detectors_of(stream, kind, reference)
                del self._references[stream]
            return
        for detector in detectors:
            alarm = detector.add(value, name)
            if alarm is not None:
                self.num_alarms += 1
                self._tell(alarm)

    def _detectors_of(self, stream: str, kind: Kind, reference: Sequence[Any]) -> list[Detector]:
        threshold, z = self._threshold, self._settings.z
        if kind == "share":
            return [ShareDrift(stream, reference, threshold, z)]
        if kind == "number":
            return [NumberDrift(stream, reference, threshold, z)]
        kinds: tuple[Kind, ...] = ("kernel", "classifier")
        return [TextDrift(stream, each, reference, threshold, z) for each in kinds]


# --- calls that the store has ---


def drift_in(store: Store, settings: DriftSettings) -> tuple[int, list[Alarm]]:
    """The number of a guard's calls in a store, and the alarms that they give in their order.

    Besides the streams of calls there are users' words on them.
    """
    alarms: list[Alarm] = []
    watch = DriftWatch(settings, num_streams({}, settings) + 1, alarms.append)
    number = 0
    ids = store.debate_ids(dataset=DATASET)
    for transcript in store.transcripts(dataset=DATASET, complete=None, debate_ids=ids):
        number += 1
        name = str(transcript.question.meta.get("call", transcript.debate.id))
        for stream, (kind, value) in _stored_values(transcript).items():
            watch.feed(stream, kind, value, name)
        if settings.texts:
            watch.feed_text(transcript.question.text, name)
    return number, alarms


def _stored_values(transcript: Transcript) -> dict[str, tuple[Kind, Any]]:
    """The streams of a stored call."""
    outcome = transcript.question.meta.get("outcome")
    refused = outcome in (CallOutcome.REFUSED.value, CallOutcome.BLOCKED.value)
    criticised = any(turn.act is Act.CRITIQUE for turn in transcript.turns)
    found: dict[str, tuple[Kind, Any]] = {
        "refusals": ("share", float(refused)),
        "actions": ("share", float(refused or criticised)),
        "failures": ("share", float(outcome == CallOutcome.FAILED.value)),
    }
    if transcript.turns and not refused:
        found["answer length"] = ("number", float(len(transcript.turns[0].text)))
    said = [each.answer for each in last_words(transcript) if each.task == USERS]
    words = [a.preference for a in said if isinstance(a, OwnAnswer) and a.preference is not None]
    if words:
        found["users' words"] = ("share", float(np.mean(words)))
    return found


def num_streams(checks: Mapping[str, object], settings: DriftSettings) -> int:
    """Streams that share the allowance of false alarms: four of each call, scores, two of texts."""
    return 4 + len(checks) + 2 * settings.texts


def alarm_json(alarm: Alarm) -> str:
    """The alarm as one line of JSON."""
    return json.dumps({"event": "drift", **asdict(alarm)})
