"""The queue of a judge, line by line."""

from __future__ import annotations

from functools import partial

from oversight.errors import OversightError, StoreError
from oversight.judging.assisting import Assistants
from oversight.judging.desk import ORDER, Desk, Item, fits
from oversight.judging.settings import JudgingSettings
from oversight.store import Store
from oversight.store.queue import ItemState, QueueItem, Taken
from oversight.tui.hints import withheld
from oversight.tui.linear.item import LinearItem
from oversight.tui.linear.lines import (
    NotKept,
    Read,
    Write,
    in_terminal,
    next_line,
    one_line,
    queue_line,
)

LISTED = 20
"""Items of the queue that are listed unless all are asked for."""

REASON_OF_TAKEN = {
    Taken.ENOUGH: "Others have judged it, or are at it.",
    Taken.ELSEWHERE: "It is open in another window, or being run by another program.",
}


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
        self._words = ""
        self._items: list[QueueItem] = []
        self._failure: StoreError | None = None
        """Of the last thing that the store was asked for, if that failed."""

    async def run(self) -> None:
        """Until the judge or the input ends.

        Raises:
            StoreError: The last thing that the store was asked for failed: whoever gave the lines
                by a script sees it in the exit status.
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
            except NotKept:
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
            return await self._judge_on(self._chosen(word))
        if word in ("skip", "unskip"):
            chosen = self._chosen(rest)
            if chosen is not None:
                await self._desk.skip(chosen.debate_id, on=word == "skip")
                self._failure = None
                self._write("Put off." if word == "skip" else "Taken back.")
        elif word in ("list", "filter"):
            self._words = rest if word == "filter" else self._words
            self._list(None if rest == "all" else LISTED)
        elif word in ("help", "?"):
            self._write(QUEUE_HELP)
        else:
            self._write(f"Not understood: {one_line(word)}. Type help.")
        return ""

    def _list(self, limit: int | None) -> None:
        found = self._desk.queue()
        fitting = [each for each in found if fits(each, self._words)]
        self._items = sorted(fitting, key=lambda each: ORDER.index(each.state))
        counts = [f"{sum(each.state is s for each in found)} {s.value}" for s in ItemState]
        self._write(f"Queue: {', '.join(counts)}.")
        for number, item in enumerate(self._items[:limit], 1):
            self._write(queue_line(number, item))
        if limit is not None and len(self._items) > limit:
            self._write(f"And {len(self._items) - limit} more: list all shows them.")
        if not found:
            self._write(
                "Nothing to judge in this store: `oversight debate` runs debates. Answers to open "
                "prompts are rated, not judged: `oversight rate revisions`."
            )

    def _chosen(self, number: str) -> QueueItem | None:
        if number.isdecimal() and 1 <= int(number) <= len(self._items):
            return self._items[int(number) - 1]
        self._write("Which item? Give its number in the list.")
        return None

    async def _judge_on(self, chosen: QueueItem | None) -> str:
        """Judge the chosen item, or else the next; and those that follow until one is left."""
        if chosen is not None:
            item, taken = self._desk.take(chosen.debate_id)
            if item is None:
                self._write(REASON_OF_TAKEN[taken])
                return ""
        else:
            item = self._desk.take_next()
        where = "next"
        while item is not None:
            before = item.acts.work.num_sent
            where = await LinearItem(
                self._desk, item, self._assistants, self._read, self._write
            ).run()
            self._failure = None
            self._tell_of(item, is_sent=item.acts.work.num_sent > before)
            if where != "next":
                break
            item = self._desk.take_next(after=item.transcript.debate.id)
        if where == "next":
            self._write("Nothing more waits for you.")
        if where != "quit":
            self._list(LISTED)
        return where

    def _tell_of(self, item: Item, *, is_sent: bool) -> None:
        """What has become of an item that was left."""
        work = item.acts.work
        if is_sent:
            if said := withheld(self._desk.num_withheld(item.transcript.debate.id)):
                self._write(said)
        elif work.skipped:
            self._write("Put off: unskip and its number take that back.")
        elif not work.num_sent:
            self._write("Left; all you did is kept. It is begun, and its number goes on with it.")


QUEUE_HELP = """\
next: judge the next item. A number: judge that item of the list.
skip 3, unskip 3: put an item off, or take that back.
filter words: list only items with these words. list, list all: list again.
quit: leave. Everything is kept as it happens."""
