"""A person's acts at one item, written one by one as they happen, and what each is about."""

from __future__ import annotations

import asyncio
import uuid
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, Literal, TypeVar

from oversight.errors import StoreError
from oversight.judging.work import JudgingWork, RatingWork, apply, fold, fold_ratings
from oversight.store import Store
from oversight.types import (
    AnyJudgingAct,
    AnyRatingAct,
    AssistantAnswered,
    AssistantAsked,
    AttentionPaid,
    BeliefGiven,
    DebateActed,
    ItemReopened,
    JudgingEvent,
    JudgmentSent,
    QuoteLeanedOn,
    RatingEvent,
    RatingOpened,
    RatingSent,
    RationaleGiven,
    Stored,
    Transcript,
    TurnsRevealed,
    VerdictChosen,
    WordsDrafted,
)

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


@dataclass(frozen=True, slots=True)
class ActTarget:
    """Something of a debate that a person's act is about."""

    kind: Literal["turn", "judgment", "rating"]
    id: str
    quote: int | None = None
    """Of a turn: index of the quote in it that is meant."""


class ActTargets:
    """Finds what acts at one debate are about; takes them in the order of their time."""

    def __init__(self, transcript: Transcript) -> None:
        self._transcript = transcript
        self._ids = {turn.id for turn in transcript.turns}
        self._spoken = transcript.spoken()
        self._items = {each.item: each.turn_ids for each in transcript.ratings}
        self._asked: dict[tuple[str, int], tuple[ActTarget, ...]] = {}
        """By judge and number."""
        self._revisions: dict[tuple[str, str], int] = defaultdict(int)
        """The next revision by person and item; the debate itself is the item ""."""

    def of(self, event: JudgingEvent | RatingEvent) -> tuple[ActTarget, ...]:
        """Turns, a judgment or a rating; nothing if the act is about the whole debate."""
        act = event.act
        if isinstance(act, AttentionPaid):
            return self._turns(act.seen)
        if isinstance(event, RatingEvent):
            if isinstance(act, RatingOpened) and act.shown:
                self._items.setdefault(event.item, act.shown)
            return self._record(event, event.item) or self._turns(self._items.get(event.item, ()))
        match act:
            case QuoteLeanedOn(turn=turn, quote=quote) if turn in self._ids:
                return (ActTarget("turn", turn, quote),)
            case DebateActed(step=step, seat=seat):
                return self._of_step(step, seat)
            case TurnsRevealed(step=step) | BeliefGiven(step=step) | WordsDrafted(step=step):
                return self._of_step(step)
            case AssistantAsked(number=number, turn=turn):
                self._asked[event.judge, number] = self._turns((turn or "",))
                return self._asked[event.judge, number]
            case AssistantAnswered(number=number):
                return self._asked.get((event.judge, number), ())
            case VerdictChosen() | RationaleGiven() | JudgmentSent() | ItemReopened():
                return self._record(event, "")
        return ()

    def _turns(self, ids: Iterable[str]) -> tuple[ActTarget, ...]:
        return tuple(ActTarget("turn", each) for each in ids if each in self._ids)

    def _of_step(self, step: int, seat: str = "") -> tuple[ActTarget, ...]:
        """The turn of a seat at a step; without one, those that were spoken last by then."""
        own = [turn.id for turn in self._spoken if (turn.step, turn.seat.value) == (step, seat)]
        last = max((turn.step for turn in self._spoken if turn.step <= step), default=None)
        return self._turns(own or [turn.id for turn in self._spoken if turn.step == last])

    def _record(self, event: JudgingEvent | RatingEvent, item: str) -> tuple[ActTarget, ...]:
        """The judgment, or the rating of an item, that came of an act."""
        revision = self._revisions[event.judge, item]
        if isinstance(event.act, JudgmentSent | RatingSent):
            revision = event.act.revision
            self._revisions[event.judge, item] = revision + 1
        wanted = (event.judge, revision)
        if not item:
            made = [j.id for j in self._transcript.judgments if (j.judge, j.revision) == wanted]
            return tuple(ActTarget("judgment", each) for each in made)
        if not isinstance(event.act, RationaleGiven | RatingSent):
            return ()
        held = [each for each in self._transcript.ratings if each.item == item]
        return tuple(ActTarget("rating", r.id) for r in held if (r.judge, r.revision) == wanted)
