"""The log of who rates, at one item."""

from __future__ import annotations

from oversight.judging.log import ActLog, now
from oversight.judging.tasks.work import Work, apply, fold
from oversight.store import Store
from oversight.types import AnyRatingAct, RatingEvent


class RatingLog(ActLog[Work, AnyRatingAct, RatingEvent]):
    """The log of one person at one item of a task."""

    def __init__(self, store: Store, debate_id: str, item: str, judge: str) -> None:
        self.item = item
        super().__init__(store, debate_id, judge)

    def _read(self) -> Work:
        return fold(self.store.rating_events(self.item, self.judge))

    def _apply(self, event: RatingEvent) -> Work:
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
