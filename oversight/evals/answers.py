"""Counts of how the calls of models ended, and of why debates failed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from oversight.types import FinishReason, OutcomeStatus, Purpose, Sample, Transcript

UNKNOWN_CAUSE = "other"
"""Of failures whose kind was not written down."""

Ends = dict[str, Counter[str]]
"""Of each model, how often its calls ended in which way; `unanswered` counts those that said
nothing and were made again, whatever their end."""


@dataclass(frozen=True, slots=True)
class AnswerEnds:
    """Counts of how the calls of one model ended."""

    model: str
    num: int
    finish_reasons: dict[str, int]
    """By each of `FinishReason`."""
    num_unanswered: int
    """Calls that said nothing and were made again; each has one of the reasons above as well."""


@dataclass(frozen=True, slots=True)
class FailureCount:
    """Debates that failed for one kind of cause."""

    cause: str
    """One of `NoAnswer`, `timeout`, `unavailable`, `refused_by_server`, `unexpected`, `other`."""
    num: int
    error: str
    """The message of one of them."""


@dataclass
class EndCounter:
    """Counts how calls ended, one transcript after the other."""

    _ends: Ends = field(default_factory=lambda: defaultdict(Counter))

    def add(self, transcript: Transcript) -> None:
        """Count the calls of a debate: those of its turns, of its judgments and of its ratings."""
        for sample in _samples(transcript):
            self._ends[sample.model][sample.finish_reason.value] += 1
            self._ends[sample.model][Purpose.UNANSWERED.value] += (
                sample.purpose is Purpose.UNANSWERED
            )

    def counted(self) -> tuple[AnswerEnds, ...]:
        """The counts so far, by model."""
        reasons = [reason.value for reason in FinishReason]
        return tuple(
            AnswerEnds(
                model,
                sum(found[reason] for reason in reasons),
                {reason: found[reason] for reason in reasons},
                found[Purpose.UNANSWERED.value],
            )
            for model, found in sorted(self._ends.items())
        )


def count_failures(transcripts: Iterable[Transcript]) -> tuple[FailureCount, ...]:
    """Why debates failed that are not complete, the most frequent cause first."""
    counts: Counter[str] = Counter()
    errors: dict[str, str] = {}
    for transcript in transcripts:
        outcome = transcript.outcome
        if outcome is not None and outcome.status is OutcomeStatus.FAILED:
            cause = outcome.cause or UNKNOWN_CAUSE
            counts[cause] += 1
            errors.setdefault(cause, outcome.error)
    ordered = sorted(counts, key=lambda cause: (-counts[cause], cause))
    return tuple(FailureCount(cause, counts[cause], errors[cause]) for cause in ordered)


def _samples(transcript: Transcript) -> Iterator[Sample]:
    for turn in transcript.turns:
        yield from turn.samples
    for judgment in transcript.judgments:
        yield from judgment.samples
    for rating in transcript.ratings:
        yield from rating.samples
