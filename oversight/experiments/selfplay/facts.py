"""The facts that a circle's jobs leave for one another and for the report: a record a kind of job.

A job's record is its `done.json`, written in one go when the job has ended: a job without it is not
done. Fields that a folder of an earlier version lacks have defaults, and what a job does not set is
not written. Fields of a later version are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from oversight.config import describe
from oversight.errors import CheckpointError
from oversight.experiments.workers import REMEDY, JobDone, JobFact


class TrainedOnRows(JobDone):
    """A model that was trained on rows made of candidates."""

    rows: int | None = None
    """Number of rows that it learnt from; None where the folder does not say."""


class MeanFact(JobFact):
    """A mean with its interval (`evals.intervals.Estimate`)."""

    value: float | None
    """None where it is no finite number."""
    low: float | None = None
    high: float | None = None
    num: int | None = None
    num_clusters: int | None = None
    method: str = ""


class RulingFact(JobFact):
    """One judgment of an arm, as it counts."""

    question: str
    """Id of the question, by which intervals are clustered."""
    score: float
    """1 if the right option was chosen, 0 if not or if it could not be read, 1/2 for a tie."""
    p_right: float | None
    """Belief in the right option; None where it could not be read."""
    honest: bool | None
    """Of a consultancy: the consultant defended the right option."""
    valid: bool
    majority: float
    """Probability that most of a vote of the judge is right."""


class PositionFact(JobFact):
    """Effect of the order shown on decisions (`evals.accuracy.PositionBias`)."""

    first_chosen: MeanFact | None
    first_argued: MeanFact | None = None
    gain: MeanFact | None
    flipped: MeanFact | None = None


class QuotesFact(JobFact):
    """Quotes of an arm's speeches (`evals.answers.QuoteUse`)."""

    num_turns: int | None = None
    num_quotes: int | None = None
    per_turn: float
    verified: MeanFact | None
    share_near: float | None = None
    share_unverified: float | None = None
    share_too_short: float = 0.0
    verified_checked: MeanFact | None = None


class ArmMeasured(JobDone):
    """An arm that was judged, and what its speeches were like."""

    rulings: tuple[RulingFact, ...]
    position: PositionFact
    honest_win_rate: MeanFact | None = None
    quotes: QuotesFact | None
    empty: float
    """Share of speeches without a word."""
    num_turns: int | None = None
    length: MeanFact | None = None
    """Tokens a speech; None where no model speaks."""
    kl: MeanFact | None = None
    """KL(policy || start) a speech, in nats; None of what was not trained."""


class CrossplayDone(JobDone):
    """The judge's belief in the option of seat A in every game of every two policies."""

    players: tuple[str, ...]
    questions: tuple[str, ...]
    """Question of each game."""
    first_is_honest: tuple[bool, ...]
    """Of each game: seat A defends the right option."""
    beliefs: tuple[tuple[tuple[float, ...] | float, ...], ...]
    """Of a debate `[i][j][game]`, policy i at seat A and j at B; of a consultancy `[i][game]`."""


RECORDS: dict[str, type[JobDone]] = {
    "candidates": JobDone,
    "debates": JobDone,
    "sft": TrainedOnRows,
    "dpo": TrainedOnRows,
    "reward": TrainedOnRows,
    "ppo": JobDone,
    "grpo": JobDone,
    "judge": JobDone,
    "arm": ArmMeasured,
    "crossplay": CrossplayDone,
}
"""Records by kind of job."""


def as_done(kind: str, data: Mapping[str, Any], place: str) -> JobDone:
    """The record of a job of that kind.

    Args:
        kind: A key of `RECORDS`.
        data: JSON-plain, as a `done.json` holds it.
        place: The file, for an error.

    Raises:
        CheckpointError: It is no such record.
    """
    record = RECORDS[kind]
    try:
        return record.model_validate(data)
    except ValidationError as error:
        said = describe(error, record, noun="record")
        raise CheckpointError(
            f"{place} is no record of a job of the kind {kind!r} ({said}); {REMEDY}"
        ) from None
