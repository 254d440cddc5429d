"""A person's acts at one item, written one by one as they happen."""

from __future__ import annotations

import asyncio
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Generic, TypeVar

from oversight.errors import StoreError
from oversight.judging.work import JudgingWork, RatingWork, apply, fold, fold_ratings
from oversight.store import Store
from oversight.types import AnyJudgingAct, AnyRatingAct, JudgingEvent, RatingEvent, Stored

WorkT = TypeVar("WorkT", JudgingWork, RatingWork)
ActT = TypeVar("ActT", AnyJudgingAct, AnyRatingAct)
EventT = TypeVar("EventT", JudgingEvent, RatingEvent)

RETRY_S = 1.0
"""Time after a failed write until it is tried again."""


def now() -> str:
    """UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class ActLog(ABC, Generic[WorkT, ActT, EventT]):
    """The log of one person at one item, in one session, and the work folded from it.

    An event changes `work` at once and is written in the background, in order; a write that
    fails is tried again until it succeeds, and `on_trouble` is told.
    """

    def __init__(self, store: Store, debate_id: str, judge: str) -> None:
        self.store = store
        self.debate_id = debate_id
        self.judge = judge
        self.session = uuid.uuid4().hex[:12]
        self.work: WorkT = self._read()
        self.on_trouble: Callable[[str | None], None] = lambda message: None
        self._number = 0
        self._waiting: list[tuple[Stored, ...]] = []
        self._writing: asyncio.Task[None] | None = None
        self._trouble = ""
        """Error of the last attempt to write, if it failed."""
        self._failed = asyncio.Event()
        """Set whenever an attempt fails."""

    @abstractmethod
    def _read(self) -> WorkT:
        """The work folded from all events in the store."""

    @abstractmethod
    def _event(self, act: ActT, number: int) -> EventT:
        """The event of an act that happens now."""

    def add(self, act: ActT, *records: Stored) -> EventT:
        """Note an act, with other `records` that stand or fall with it."""
        event = self._next(act)
        self.work = apply(self.work, event)
        self._waiting.append((*records, event))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())
        return event

    async def write(self, act: ActT, *records: Stored) -> None:
        """Note an act and return when it is durable, together with `records`.

        Raises:
            StoreError: It could not be written, and has not happened.
        """
        await self.settle()
        event = self._next(act)
        await self.store.append(*records, event)
        self.work = apply(self.work, event)

    @property
    def num_waiting(self) -> int:
        """Acts that are not durable yet."""
        return len(self._waiting)

    async def settle(self) -> None:
        """Return when everything is durable, for what must not be done before.

        Raises:
            StoreError: An attempt to write it has failed. It is tried again, but who waited for
                that would stand still as long as the store cannot be written.
        """
        while self._writing is not None and not self._writing.done():
            self._failed.clear()
            failing = asyncio.ensure_future(self._failed.wait())
            await asyncio.wait({self._writing, failing}, return_when=asyncio.FIRST_COMPLETED)
            failing.cancel()
            if self._trouble:
                raise StoreError(self._trouble)

    async def flush(self) -> None:
        """Return when everything is durable, however long that takes."""
        while self._writing is not None and not self._writing.done():
            await asyncio.shield(self._writing)

    def refresh(self) -> bool:
        """Take in what other windows have written; whether that changed anything."""
        if self._waiting:
            return False
        found = self._read()
        changed = found != self.work
        self.work = found
        return changed

    def _next(self, act: ActT) -> EventT:
        event = self._event(act, self._number)
        self._number += 1
        return event

    async def _write(self) -> None:
        while self._waiting:
            some = list(self._waiting)
            try:
                await self.store.append(*(record for group in some for record in group))
            except StoreError as error:
                self._trouble = str(error)
                self._failed.set()
                self.on_trouble(self._trouble)
                await asyncio.sleep(RETRY_S)
                continue
            del self._waiting[: len(some)]
            if self._trouble:
                self._trouble = ""
                self.on_trouble(None)


class JudgingLog(ActLog[JudgingWork, AnyJudgingAct, JudgingEvent]):
    """The log of a judge at one debate."""

    def _read(self) -> JudgingWork:
        return fold(self.store.events(self.judge, self.debate_id))

    def _event(self, act: AnyJudgingAct, number: int) -> JudgingEvent:
        return JudgingEvent(
            debate_id=self.debate_id,
            judge=self.judge,
            session=self.session,
            number=number,
            at=now(),
            act=act,
        )


class RatingLog(ActLog[RatingWork, AnyRatingAct, RatingEvent]):
    """The log of one person at one item of a task."""

    def __init__(self, store: Store, debate_id: str, item: str, judge: str) -> None:
        self.item = item
        super().__init__(store, debate_id, judge)

    def _read(self) -> RatingWork:
        return fold_ratings(self.store.rating_events(self.item, self.judge))

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
