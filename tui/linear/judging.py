"""The queue of a judge, line by line."""

from __future__ import annotations

from functools import partial

from oversight.errors import OversightError, StoreError
from oversight.judging.assisting import Assistants
from oversight.judging.desk import Desk
from oversight.judging.items import DebateItem, RefusedAction
from oversight.judging.queue_session import LeftState, QueueSession, Where
from oversight.judging.settings import JudgingSettings
from oversight.store import Store
from oversight.store.queue import ItemState, QueueItem
from oversight.tui.linear.item import LinearItem
from oversight.tui.linear.lines import (
    Read,
    UnsavedWorkError,
    Write,
    in_terminal,
    next_line,
    one_line,
    queue_line,
)

LISTED = 20
"""Items of the queue that are listed unless all are asked for."""


def run_linear_in_terminal(store: Store, settings: JudgingSettings) -> None:
    """Judge over standard input and output."""
    in_terminal(partial(run_linear, Desk(store, settings)))


async def run_linear(desk: Desk, *, read: Read, write: Write) -> None:
    """Judge items until the judge or the input ends."""
    assistants = Assistants(desk.settings)
    try:
        await LinearQueue(desk, assistants, read, write).run()
    finally:
        await assistants.aclose()


class LinearQueue:
    """The queue, line by line."""

    def __init__(self, desk: Desk, assistants: Assistants, read: Read, write: Write) -> None:
        self._desk = desk
        self._assistants = assistants
        self._read = read
        self._write = write
        self._queue = QueueSession(desk)
        self._failure: StoreError | None = None
        """The error of the last reading of the store, if it failed."""

    async def run(self) -> None:
        """Take commands until the judge or the input ends.

        Raises:
            StoreError: The last thing that the store was asked for failed: a script that gave the
                lines sees it in the exit status.
        """
        self._write(f"You are {one_line(self._desk.judge)}. Type help for what you can do.")
        self._list(LISTED)
        while (line := await next_line(self._read, "queue> ")) is not None:
            word, _, rest = line.strip().partition(" ")
            if word.lower() in ("quit", "q"):
                break
            try:
                if await self._do(word.lower(), rest.strip()) == "quit":
                    break
            except UnsavedWorkError:
                raise
            except OversightError as error:
                self._failure = error if isinstance(error, StoreError) else self._failure
                self._write(one_line(str(error)))
        if self._failure is not None:
            raise self._failure

    async def _do(self, word: str, rest: str) -> str:
        if word in ("", "next", "n"):
            return await self._judge_on(None)
        if word.isdigit():
            chosen = self._chosen(word)
            return "" if chosen is None else await self._judge_on(chosen)
        if word in ("skip", "unskip"):
            chosen = self._chosen(rest)
            if chosen is not None:
                await self._queue.skip(chosen, on=word == "skip")
                self._failure = None
                self._write("Put off." if word == "skip" else "Taken back.")
        elif word in ("list", "filter"):
            self._queue.words = rest if word == "filter" else self._queue.words
            self._list(None if rest == "all" else LISTED)
        elif word in ("help", "?"):
            self._write(QUEUE_HELP)
        else:
            self._write(f"Not understood: {one_line(word)}. Type help.")
        return ""

    def _list(self, limit: int | None) -> None:
        items = self._queue.refresh()
        counts = [f"{self._queue.counts[state]} {state.value}" for state in ItemState]
        self._write(f"Queue: {', '.join(counts)}.")
        for number, item in enumerate(items[:limit], 1):
            self._write(queue_line(number, item))
        if limit is not None and len(items) > limit:
            self._write(f"And {len(items) - limit} more: list all shows them.")
        if not self._queue.counts:
            self._write(self._desk.why_empty())

    def _chosen(self, number: str) -> QueueItem | None:
        if number.isdecimal() and 1 <= int(number) <= len(self._queue.items):
            return self._queue.items[int(number) - 1]
        self._write("Which item? Give its number in the list.")
        return None

    async def _judge_on(self, chosen: QueueItem | None) -> Where:
        """Judge the chosen item, or else the next; and those that follow until one is left."""
        where = await self._queue.work(self, chosen)
        if where == "next":
            self._write("Nothing more waits for you.")
        if where != "quit":
            self._list(LISTED)
        return where

    async def work_on(self, item: DebateItem) -> Where:
        """Let the judge work on a debate until they leave it."""
        one = LinearItem(self._desk, item, self._assistants, self._read, self._write)
        where = await one.run()
        self._failure = None
        return where

    def tell_left(self, item: DebateItem, how: LeftState) -> None:
        """Say what has become of a debate that was left."""
        if how is LeftState.SENT:
            if said := self._desk.told_after(item):
                self._write(said)
        elif how is LeftState.SKIPPED:
            self._write("Put off: unskip and its number take that back.")
        elif how is LeftState.BEGUN:
            self._write("Left; all you did is kept. It is begun, and its number goes on with it.")

    def tell_refused(self, refusal: RefusedAction) -> None:
        """Say why a debate could not be taken up."""
        self._write(refusal.said({}))


QUEUE_HELP = """\
next: judge the next item. A number: judge that item of the list.
skip 3, unskip 3: put an item off, or take that back.
filter words: list only items with these words. list, list all: list again.
quit: leave. Everything is kept as it happens."""
