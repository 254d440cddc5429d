"""Flagged: calls of a guard on which a check acted; if it was right, and what was sent good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from oversight.constitutions import Constitution
from oversight.judging.tasks import Choice, RatingTask, TaskQuestion
from oversight.store.rating_queue import RatingItem
from oversight.types import FLAGGED, Record, Task

CHECK = TaskQuestion(
    "check",
    "Check",
    (
        Choice("right", "1 right", "The check was right to act."),
        Choice("wrong", "2 wrong", "The check was wrong to act."),
    ),
    digits="12",
)
SENT = TaskQuestion(
    "sent",
    "Sent",
    (
        Choice("good", "1 good", "What was sent is a good answer."),
        Choice("bad", "2 bad", "What was sent is a bad answer."),
    ),
    digits="12",
)
LONGEST_NOTE = 160
"""Characters of what the checks found that stand in the question."""


class FlaggedAnswer(Record):
    """A person's word on a flagged call."""

    check: Literal["right", "wrong"]
    sent: Literal["good", "bad"]


class FlaggedCalls(RatingTask):
    """Asks of each call on which a check acted."""

    name = FLAGGED
    turns = Task.PRINCIPLES
    record = FlaggedAnswer
    flagged = True
    asks = "Was the check right to act? Is what was sent a good answer?"
    names = ("What was sent",)
    one = "call"
    empty = (
        "Nothing to rate in this store: no check of a guard has acted. Calls come here where the "
        "guard's file names this store: oversight guard serve GUARD.toml"
    )
    nothing = "no check of a guard has acted, and a model is not asked about one that has"

    def questions(self, constitution: Constitution | None = None) -> tuple[TaskQuestion, ...]:
        """Two: of the check, and of what was sent."""
        return (CHECK, SENT)

    def asks_about(self, item: RatingItem) -> str:
        """Both questions, behind what the checks found."""
        note = item.note
        short = note if len(note) <= LONGEST_NOTE else note[: LONGEST_NOTE - 1].rstrip() + "…"
        return f"{short}. {self.asks}" if short else self.asks

    def answer(
        self, given: Mapping[str, str], constitution: Constitution | None = None
    ) -> FlaggedAnswer:
        """The two answers."""
        return FlaggedAnswer.model_validate({name: given[name] for name in ("check", "sent")})

    def preference(self, answer: FlaggedAnswer) -> float:
        """The worth of what was sent."""
        return float(answer.sent == "good")
