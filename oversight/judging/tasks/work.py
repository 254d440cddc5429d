"""The state of someone's work on an item of a task: a fold over its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from oversight.judging import folding
from oversight.judging.folding import SHARED_CHANGES, Changes, DraftWork, drafted
from oversight.types import QuestionsAnswered, RatingEvent, RatingOpened, RatingSent


@dataclass(frozen=True)
class Draft:
    """What can be taken back: the rating as it stands."""

    answers: Mapping[str, str] = field(default_factory=dict)
    """By the name of the question."""
    rationale: str = ""


@dataclass(frozen=True)
class Work(DraftWork[Draft]):
    """Someone's work on one item."""

    draft: Draft = Draft()
    shown: tuple[str, ...] | None = None
    """Ids of the turns, in the order drawn when the item was first opened; None before."""


def fold(events: Iterable[RatingEvent], start: Work | None = None) -> Work:
    """The work that `events` come to, in the order in which they were written."""
    return folding.fold(start or Work(), events, _CHANGES)


def apply(work: Work, event: RatingEvent) -> Work:
    """The work after one more event."""
    return fold([event], work)


def _opened(work: Work, act: RatingOpened) -> Work:
    if work.shown is not None:
        return work
    return replace(work, shown=act.shown, study=act.study)


def _answered(work: Work, act: QuestionsAnswered) -> Work:
    given = {**work.draft.answers, **act.answers}
    return drafted(work, "", answers={k: v for k, v in given.items() if v is not None})


_CHANGES: Changes[Work] = {
    **SHARED_CHANGES,
    RatingOpened: _opened,
    QuestionsAnswered: _answered,
    RatingSent: folding.sent,
}
