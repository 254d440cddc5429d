"""A judge's acts at one item, written one by one as they happen."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from pydantic import JsonValue

from oversight.errors import StoreError
from oversight.judging.work import Work, apply, fold
from oversight.store import Store
from oversight.types import EventKind, JudgingEvent, Stored

RETRY_S = 1.0
"""How long after a failed write it is tried again."""


def now() -> str:
    """UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class JudgingLog:
    """The log of one judge at one item, in one session, and the work that it comes to.

    An event changes `work` at once and is written in the background, in order; a write that
    fails is tried again until it succeeds, and `on_trouble` is told.
    """

    def __init__(self, store: Store, debate_id: str, judge: str) -> None:
        self.store = store
        self.debate_id = debate_id
        self.judge = judge
        self.session = uuid.uuid4().hex[:12]
        self.work: Work = fold(store.events(judge, debate_id))
        self.on_trouble: Callable[[str | None], None] = lambda message: None
        self._number = 0
        self._waiting: list[tuple[Stored, ...]] = []
        self._writing: asyncio.Task[None] | None = None

    def add(self, kind: EventKind, /, *records: Stored, **data: JsonValue) -> JudgingEvent:
        """Note an act, with other `records` that stand or fall with it."""
        event = self._event(kind, data)
        self.work = apply(self.work, event)
        self._waiting.append((*records, event))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())
        return event

    async def write(self, kind: EventKind, /, *records: Stored, **data: JsonValue) -> None:
        """Note an act and return when it is durable, together with `records`.

        Raises:
            StoreError: It could not be written, and has not happened.
        """
        await self.flush()
        event = self._event(kind, data)
        await self.store.append(*records, event)
        self.work = apply(self.work, event)

    def _event(self, kind: EventKind, data: dict[str, JsonValue]) -> JudgingEvent:
        event = JudgingEvent(
            debate_id=self.debate_id,
            judge=self.judge,
            session=self.session,
            number=self._number,
            at=now(),
            kind=kind,
            data=data,
        )
        self._number += 1
        return event

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
        found = fold(self.store.events(self.judge, self.debate_id))
        changed = found != self.work
        self.work = found
        return changed

    async def _write(self) -> None:
        in_trouble = False
        while self._waiting:
            some = list(self._waiting)
            try:
                await self.store.append(*(record for group in some for record in group))
            except StoreError as error:
                in_trouble = True
                self.on_trouble(str(error))
                await asyncio.sleep(RETRY_S)
                continue
            del self._waiting[: len(some)]
            if in_trouble:
                in_trouble = False
                self.on_trouble(None)
