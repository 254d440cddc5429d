"""Revisions: whether a criticism is right, and the revision that answers it better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from oversight.constitutions import Constitution
from oversight.judging.tasks import AnswerState, Choice, Key, KeyEffect, RatingTask, TaskQuestion
from oversight.store.rating_queue import RatingItem
from oversight.types import CriticismIs, RevisionAnswer, RevisionIs, Task

CRITICISM = TaskQuestion(
    "criticism",
    "Criticism",
    (
        Choice(CriticismIs.RIGHT, "1 right", "The criticism is right."),
        Choice(CriticismIs.PARTLY, "2 partly right", "The criticism is partly right."),
        Choice(CriticismIs.WRONG, "3 wrong", "The criticism is wrong."),
    ),
    digits="123",
)


def _revision(first: str) -> TaskQuestion:
    """The question about a revision of what is called `first`."""
    return TaskQuestion(
        "revision",
        "Revision",
        (
            Choice(RevisionIs.WORSE, "← worse", f"The revision is worse than the {first}."),
            Choice(RevisionIs.SAME, "same", f"The revision is as good as the {first}."),
            Choice(RevisionIs.BETTER, "better →", f"The revision is better than the {first}."),
        ),
    )


REVISION = _revision("first speech")
REVISION_OF_RESPONSE = _revision("first response")
REVISION_BY_KEY = {"left": RevisionIs.WORSE, "tie": RevisionIs.SAME, "right": RevisionIs.BETTER}


class Revisions(RatingTask):
    """The first speech beside its criticism, and the revision below."""

    name = Task.REVISIONS
    turns = Task.REVISIONS
    record = RevisionAnswer
    asks = "Is the criticism right? Is the revision better than the first speech?"
    names = ("First speech", "Criticism", "Revised speech")
    one = "revision"
    empty = (
        "Nothing to rate in this store. Run debates in which a critic speaks first: "
        "oversight debate --protocol critique"
    )
    nothing = (
        "no complete debate has a revision after a criticism: run a protocol such as self_critique "
        "or critique"
    )
    keys: ClassVar[Mapping[str, str]] = {
        "left": "Revision is worse",
        "right": "Revision is better",
        "tie": "",
    }

    def questions(self, constitution: Constitution | None = None) -> tuple[TaskQuestion, ...]:
        """Two: of the criticism, and of the revision."""
        return (CRITICISM, REVISION)

    def asks_about(self, item: RatingItem) -> str:
        """Both questions, as sentences."""
        first = "first response" if item.is_open else "first speech"
        return f"Is the criticism right? Is the revision better than the {first}?"

    def questions_about(
        self, item: RatingItem, asked: tuple[TaskQuestion, ...]
    ) -> tuple[TaskQuestion, ...]:
        """The two; answers to an open prompt are no speeches."""
        return (CRITICISM, REVISION_OF_RESPONSE) if item.is_open else asked

    def answer(
        self, given: Mapping[str, str], constitution: Constitution | None = None
    ) -> RevisionAnswer:
        """The verdicts on both."""
        return RevisionAnswer(
            criticism=CriticismIs(given["criticism"]), revision=RevisionIs(given["revision"])
        )

    def how(self, answering: AnswerState, key: Key, *, wide: bool) -> str:
        """Keys that answer the open question."""
        ways = {
            CRITICISM.name: "Criticism: 1 right, 2 partly, 3 wrong.",
            REVISION.name: f"Revision: {key('left')} worse, {key('tie')} same, "
            f"{key('right')} better.",
        }
        return " ".join(ways[each.name] for each in answering.left)

    def press(self, key: str, answering: AnswerState) -> KeyEffect:
        """A digit says how right the criticism is, an arrow how good the revision."""
        if key in REVISION_BY_KEY:
            return KeyEffect(REVISION.name, REVISION_BY_KEY[key], current=1)
        value = CRITICISM.by_digit(key)
        return (
            KeyEffect(current=0) if value is None else KeyEffect(CRITICISM.name, value, current=1)
        )
