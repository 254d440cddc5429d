"""From a judge's work to the rating that is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from oversight.constitutions import Constitution
from oversight.errors import ProtocolError
from oversight.judging.log import now
from oversight.judging.tasks.asking import Question, fingerprint
from oversight.judging.tasks.work import Work
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
from oversight.types.ratings import NOT_APPLICABLE, Answer


def unanswered(asked: Sequence[Question], answers: Mapping[str, str]) -> tuple[Question, ...]:
    """The questions that have no answer yet."""
    return tuple(each for each in asked if each.choice(answers.get(each.name)) is None)


def missing(asked: Sequence[Question], work: Work, *, need_rationale: bool = False) -> str | None:
    """What still stands in the way of sending, as a sentence for the judge, or None."""
    left = unanswered(asked, work.draft.answers)
    if left and len(asked) == 1:
        return "Say first which is better, or that both are equal, or both bad."
    if left:
        return f"Not answered yet: {', '.join(each.label for each in left)}."
    if need_rationale and not work.draft.rationale.strip():
        return "This study asks for a rationale: say in a sentence why."
    return None


def rating_of(
    work: Work,
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
