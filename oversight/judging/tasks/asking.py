"""The questions of each task, and the answers that each of them takes."""

from __future__ import annotations

from dataclasses import dataclass

from oversight.constitutions import Constitution
from oversight.ids import content_id
from oversight.types import CriticismIs, RevisionIs, Task
from oversight.types.ratings import MAX_SCORE, NOT_APPLICABLE

STRENGTHS = {1: "slightly", 2: "clearly", 3: "much"}


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer that can be given."""

    value: str
    sign: str
    """As it stands in a row of choices."""
    words: str
    """What was said by it, as a sentence or the end of one."""


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that is asked of an item."""

    name: str
    label: str
    choices: tuple[Choice, ...]
    text: str = ""
    """What it is about, at length."""
    digits: str = ""
    """The digit that gives each of the choices; empty where there is none."""

    def choice(self, value: str | None) -> Choice | None:
        """The choice of that value."""
        return next((each for each in self.choices if each.value == value), None)


PREFERRED = Question(
    "preferred",
    "Better",
    (
        *(
            Choice(f"left-{n}", "◂" * n, f"Left is {'much' if n == 3 else STRENGTHS[n]} better.")
            for n in (3, 2, 1)
        ),
        Choice("tie", "equal", "Both are equally good."),
        *(
            Choice(f"right-{n}", "▸" * n, f"Right is {'much' if n == 3 else STRENGTHS[n]} better.")
            for n in (1, 2, 3)
        ),
        Choice("both-bad", "both bad", "Both are bad: neither is to be learnt from."),
    ),
)
CRITICISM = Question(
    "criticism",
    "Criticism",
    (
        Choice(CriticismIs.RIGHT, "1 right", "The criticism is right."),
        Choice(CriticismIs.PARTLY, "2 partly right", "The criticism is partly right."),
        Choice(CriticismIs.WRONG, "3 wrong", "The criticism is wrong."),
    ),
    digits="123",
)
REVISION = Question(
    "revision",
    "Revision",
    (
        Choice(RevisionIs.WORSE, "← worse", "The revision is worse than the first speech."),
        Choice(RevisionIs.SAME, "same", "The revision is as good as the first speech."),
        Choice(RevisionIs.BETTER, "better →", "The revision is better than the first speech."),
    ),
)

_SCORES = (
    *(Choice(str(n), str(n), f"{n} of {MAX_SCORE}") for n in range(1, MAX_SCORE + 1)),
    Choice(NOT_APPLICABLE, "n/a", "does not apply"),
)


def questions(task: Task, constitution: Constitution | None = None) -> tuple[Question, ...]:
    """What is asked of an item of `task`."""
    if task is Task.PAIRS:
        return (PREFERRED,)
    if task is Task.REVISIONS:
        return (CRITICISM, REVISION)
    principles = constitution.principles if constitution is not None else ()
    return tuple(
        Question(each.id, each.id, _SCORES, each.text, digits="123450") for each in principles
    )


def fingerprint(constitution: Constitution) -> str:
    """Id of the principles as they read now."""
    return content_id("constitution", [[p.id, p.text] for p in constitution.principles])
