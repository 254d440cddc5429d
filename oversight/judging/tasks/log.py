"""A judge's acts at one item, written one by one as they happen, as in `judging.log`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from pydantic import JsonValue

from oversight.errors import StoreError
from oversight.judging.log import RETRY_S, now
from oversight.judging.tasks.work import Work, apply, fold
from oversight.store import Store
from oversight.types import RatingAct, RatingEvent, Stored


class RatingLog:
    """The log of one judge at one item, in one session, and the work that it comes to.

    An event changes `work` at once and is written in the background, in order; a write that
    fails is tried again until it succeeds, and `on_trouble` is told.
    """

    def __init__(self, store: Store, debate_id: str, item: str, judge: str) -> None:
        self.store = store
        self.debate_id = debate_id
        self.item = item
        self.judge = judge
        self.session = uuid.uuid4().hex[:12]
        self.work: Work = fold(store.rating_events(item, judge))
        self.on_trouble: Callable[[str | None], None] = lambda message: None
        self._number = 0
        self._waiting: list[RatingEvent] = []
        self._writing: asyncio.Task[None] | None = None

    def add(self, kind: RatingAct, /, **data: JsonValue) -> None:
        """Note an act."""
        event = self._event(kind, data)
        self.work = apply(self.work, event)
        self._waiting.append(event)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def write(self, kind: RatingAct, /, *records: Stored, **data: JsonValue) -> None:
        """Note an act and return when it is durable, together with `records`.

        Raises:
            StoreError: It could not be written, and has not happened.
        """
        await self.flush()
        event = self._event(kind, data)
        await self.store.append(*records, event)
        self.work = apply(self.work, event)

    @property
    def num_waiting(self) -> int:
        """Acts that are not durable yet."""
        return len(self._waiting)

    async def flush(self) -> None:
        """Return when everything is durable."""
        while self._writing is not None and not self._writing.done():
            await asyncio.shield(self._writing)

    def refresh(self) -> bool:
        """Take in what other windows have written; whether that changed anything."""
        if self._waiting:
            return False
        found = fold(self.store.rating_events(self.item, self.judge))
        changed = found != self.work
        self.work = found
        return changed

    def _event(self, kind: RatingAct, data: dict[str, JsonValue]) -> RatingEvent:
        event = RatingEvent(
            debate_id=self.debate_id,
            item=self.item,
            judge=self.judge,
            session=self.session,
            number=self._number,
            at=now(),
            kind=kind,
            data=data,
        )
        self._number += 1
        return event

    async def _write(self) -> None:
        in_trouble = False
        while self._waiting:
            some = list(self._waiting)
            try:
                await self.store.append(*some)
            except StoreError as error:
                in_trouble = True
                self.on_trouble(str(error))
                await asyncio.sleep(RETRY_S)
                continue
            del self._waiting[: len(some)]
            if in_trouble:
                in_trouble = False
                self.on_trouble(None)
