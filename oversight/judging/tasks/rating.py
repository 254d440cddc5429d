"""From a judge's work to the rating that is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oversight.constitutions import Constitution
from oversight.errors import ProtocolError
from oversight.ids import content_id
from oversight.judging.log import now
from oversight.judging.tasks.log import RatingWork
from oversight.store.rating_queue import RatingItem
from oversight.types import (
    CriticismIs,
    Feedback,
    PairAnswer,
    Preferred,
    PrinciplesAnswer,
    RevisionAnswer,
    RevisionIs,
    Task,
)
from oversight.types.ratings import MAX_SCORE, NOT_APPLICABLE, Answer

STRENGTHS = {1: "slightly", 2: "clearly", 3: "much"}
NUM_NAMED = 3
"""Unanswered questions that are named; the hint has three lines."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer that can be given."""

    value: str
    sign: str
    """As it stands in a row of choices."""
    words: str
    """What was said by it, as a sentence or the end of one."""


@dataclass(frozen=True, slots=True)
class TaskQuestion:
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


PREFERRED = TaskQuestion(
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
REVISION = TaskQuestion(
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


def questions(task: Task, constitution: Constitution | None = None) -> tuple[TaskQuestion, ...]:
    """What is asked of an item of `task`."""
    if task is Task.PAIRS:
        return (PREFERRED,)
    if task is Task.REVISIONS:
        return (CRITICISM, REVISION)
    principles = constitution.principles if constitution is not None else ()
    return tuple(
        TaskQuestion(each.id, each.id, _SCORES, each.text, digits="123450") for each in principles
    )


def fingerprint(constitution: Constitution) -> str:
    """Id of the principles as they read now."""
    return content_id("constitution", [[p.id, p.text] for p in constitution.principles])


def unanswered(
    asked: Sequence[TaskQuestion], answers: Mapping[str, str]
) -> tuple[TaskQuestion, ...]:
    """The questions that have no answer yet."""
    return tuple(each for each in asked if each.choice(answers.get(each.name)) is None)


def missing(
    asked: Sequence[TaskQuestion], work: RatingWork, *, need_rationale: bool = False
) -> str | None:
    """What still stands in the way of sending, as a sentence for the judge, or None."""
    left = unanswered(asked, work.draft.answers)
    if left and len(asked) == 1:
        return "Say first which is better, or that both are equal, or both bad."
    if left:
        names = [each.label for each in left[:NUM_NAMED]]
        more = [f"{len(left) - len(names)} more"] if len(left) > len(names) else []
        return f"Not answered yet: {', '.join([*names, *more])}."
    if need_rationale and not work.draft.rationale.strip():
        return "This study asks for a rationale: say in a sentence why."
    return None


def rating_of(
    work: RatingWork,
    item: RatingItem,
    judge: str,
    constitution: Constitution | None,
    unseen: Mapping[str, float] | None = None,
) -> Feedback:
    """The rating that the work comes to now, as its next revision; `unseen` are turns that have
    not been on the screen completely, each with the share that was.

    Raises:
        ProtocolError: Something is not answered yet, see `missing`.
    """
    try:
        answer = _answer(item.task, work.draft.answers, constitution)
    except (KeyError, ValueError):
        raise ProtocolError("a rating with questions left open: answer them first") from None
    return Feedback(
        debate_id=item.debate_id,
        item=item.key,
        turn_ids=work.shown or item.turn_ids,
        judge=judge,
        revision=work.num_sent,
        answer=answer,
        rationale=work.draft.rationale,
        study=work.study,
        sent_at=now(),
        active_s=round(sum(work.active_s.values()), 3),
        unseen=None if unseen is None else dict(unseen),
    )


def _answer(task: Task, given: Mapping[str, str], constitution: Constitution | None) -> Answer:
    if task is Task.PAIRS:
        side, _, strength = given["preferred"].partition("-")
        if strength.isdigit():
            return PairAnswer(preferred=Preferred(side), strength=int(strength))
        return PairAnswer(preferred=Preferred(given["preferred"].replace("-", "_")))
    if task is Task.REVISIONS:
        return RevisionAnswer(
            criticism=CriticismIs(given["criticism"]), revision=RevisionIs(given["revision"])
        )
    if constitution is None:
        raise ValueError("no constitution")
    scores = {each.id: given[each.id] for each in constitution.principles}
    return PrinciplesAnswer(
        constitution=constitution.name,
        fingerprint=fingerprint(constitution),
        scores={id_: None if s == NOT_APPLICABLE else int(s) for id_, s in scores.items()},
    )
