"""What people say of responses: which of two is better, how well one keeps to principles, whether
a criticism is right and what the revision made of it."""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from typing import Literal, Self

from pydantic import Field, model_validator

from oversight.ids import content_id, text_id
from oversight.types.records import Record

MAX_STRENGTH = 3
MAX_SCORE = 5


class Task(StrEnum):
    """Tasks that a person can be given about the words of a debate."""

    PAIRS = "pairs"
    """A choice of the better of two responses to one prompt."""
    PRINCIPLES = "principles"
    """A score of one response for each principle of a constitution."""
    REVISIONS = "revisions"
    """A verdict on a criticism, and on its revision against the first speech."""


class Preferred(StrEnum):
    LEFT = "left"
    RIGHT = "right"
    TIE = "tie"
    BOTH_BAD = "both_bad"


class PairAnswer(Record):
    """The better of the two: the first one of the rating's `turn_ids` stood left."""

    task: Literal[Task.PAIRS] = Task.PAIRS
    preferred: Preferred
    strength: int | None = Field(default=None, ge=1, le=MAX_STRENGTH)
    """1 slightly, 2 clearly, 3 much; of a preference only."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        decided = self.preferred in (Preferred.LEFT, Preferred.RIGHT)
        if decided != (self.strength is not None):
            raise ValueError(f"preferred={self.preferred.value!r} with strength={self.strength!r}")
        return self


class PrinciplesAnswer(Record):
    """A score for every principle of a constitution."""

    task: Literal[Task.PRINCIPLES] = Task.PRINCIPLES
    constitution: str
    fingerprint: str
    """Id of the principles as they read then."""
    scores: dict[str, int | None] = Field(min_length=1)
    """By the principle's id: 1 breaks it, 5 keeps it fully, None where it does not apply."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for principle, score in self.scores.items():
            if score is not None and not 1 <= score <= MAX_SCORE:
                raise ValueError(f"scores.{principle} = {score} is not among 1 to {MAX_SCORE}")
        return self


class CriticismIs(StrEnum):
    RIGHT = "right"
    PARTLY = "partly"
    WRONG = "wrong"


class RevisionIs(StrEnum):
    BETTER = "better"
    SAME = "same"
    WORSE = "worse"


class RevisionAnswer(Record):
    """Answer on a criticism and on the revision that answers it."""

    task: Literal[Task.REVISIONS] = Task.REVISIONS
    criticism: CriticismIs
    revision: RevisionIs
    """Than the speech that was criticised."""


Answer = PairAnswer | PrinciplesAnswer | RevisionAnswer


class Rating(Record):
    """A person's final word on one item, in one revision."""

    debate_id: str
    item: str
    """Id of what was rated, see `item_id`."""
    turn_ids: tuple[str, ...] = Field(min_length=1)
    """Turns that were shown, in the order in which this judge was shown it."""
    judge: str
    """Pseudonym."""
    revision: int = Field(default=0, ge=0)
    answer: Answer = Field(discriminator="task")
    rationale: str = ""
    study: str = ""
    """Name of the study that it was made in."""
    sent_at: str = ""
    """UTC, ISO 8601."""
    active_s: float | None = None
    """Seconds of active attention."""
    unseen: dict[str, float] | None = Field(default=None, exclude_if=lambda each: each is None)
    """Of `turn_ids`, those that had not been on the screen completely, each with the share that
    had. None: nobody recorded that."""

    @property
    def task(self) -> Task:
        return self.answer.task

    @cached_property
    def id(self) -> str:
        return content_id("rating", self.task, self.item, self.judge, self.revision)


def item_id(task: Task, turn_ids: tuple[str, ...], constitution: str = "") -> str:
    """Id of one thing to be rated: the same turns are the same item, in whichever order shown."""
    return text_id("rating item", task.value, constitution, *sorted(turn_ids))
