"""The log of who rates, at one item."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from oversight.judging.folding import SHARED_CHANGES, Changes, DraftWork, drafted, fold_events, sent
from oversight.judging.log import ActLog, now
from oversight.store import Store
from oversight.types import AnyRatingAct, QuestionsAnswered, RatingEvent, RatingOpened, RatingSent


@dataclass(frozen=True)
class RatingDraft:
    """The rating as it stands, each change of which can be taken back."""

    answers: Mapping[str, str] = field(default_factory=dict)
    """By the name of the question."""
    rationale: str = ""


@dataclass(frozen=True)
class RatingWork(DraftWork[RatingDraft]):
    """Someone's work on one item."""

    draft: RatingDraft = RatingDraft()
    shown: tuple[str, ...] | None = None
    """Ids of the turns, in the order drawn when the item was first opened; None before."""


def fold(events: Iterable[RatingEvent], start: RatingWork | None = None) -> RatingWork:
    """The work that `events` come to, in the order in which they were written."""
    return fold_events(start or RatingWork(), events, _CHANGES)


def apply(work: RatingWork, event: RatingEvent) -> RatingWork:
    """The work after one more event."""
    return fold([event], work)


def _opened(work: RatingWork, act: RatingOpened) -> RatingWork:
    if work.shown is not None:
        return work
    return replace(work, shown=act.shown, study=act.study)


def _answered(work: RatingWork, act: QuestionsAnswered) -> RatingWork:
    given = {**work.draft.answers, **act.answers}
    return drafted(work, "", answers={k: v for k, v in given.items() if v is not None})


_CHANGES: Changes[RatingWork] = {
    **SHARED_CHANGES,
    RatingOpened: _opened,
    QuestionsAnswered: _answered,
    RatingSent: sent,
}


class RatingLog(ActLog[RatingWork, AnyRatingAct, RatingEvent]):
    """The log of one person at one item of a task."""

    def __init__(self, store: Store, debate_id: str, item: str, judge: str) -> None:
        self.item = item
        super().__init__(store, debate_id, judge)

    def _read(self) -> RatingWork:
        return fold(self.store.rating_events(self.item, self.judge))

    def _apply(self, event: RatingEvent) -> RatingWork:
        return apply(self.work, event)

    def _event(self, act: AnyRatingAct, number: int) -> RatingEvent:
        return RatingEvent(
            debate_id=self.debate_id,
            item=self.item,
            judge=self.judge,
            session=self.session,
            number=number,
            at=now(),
            act=act,
        )
