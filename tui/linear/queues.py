"""Queues line by line: a judge's debates, and a rater's items with their numbered answers.

Plain text, for screen readers, pipes and scripts. The desk and the log are those of the full
screens: what is begun here goes on there.
"""

from __future__ import annotations

import uuid
from functools import partial

from oversight.agents.judging import labels
from oversight.errors import OversightError, StoreError
from oversight.judging.assisting import Assistants
from oversight.judging.desk import Desk, TaskDesk
from oversight.judging.items import DebateItem, RefusedAction, TaskItem
from oversight.judging.queue_session import LeftState, QueueSession, Where
from oversight.judging.session import RatingSession
from oversight.judging.settings import JudgingSettings
from oversight.judging.tasks import unanswered
from oversight.judging.work import WHOLE
from oversight.store import Store
from oversight.store.claims import ItemState, QueueItem
from oversight.store.rating_queue import RatingItem
from oversight.tui.linear.debate import LinearItem
from oversight.tui.linear.lines import (
    Read,
    UnsavedWorkError,
    Write,
    in_terminal,
    indented,
    kept,
    marked_text,
    next_line,
    one_line,
    queue_line,
)
from oversight.tui.marking import named_by_seat
from oversight.tui.rows import said_by
from oversight.types import AttentionPaid, Feedback, Turn

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


RATING_HELP = """\
A number answers. why WORDS keeps a rationale, undo takes the last act back, skip puts the item off,
before shows what was said before, previous goes back to the item that was sent last, quit leaves;
all is kept. When everything is answered, an empty line sends it and the next item comes."""


async def rate_linear(desk: TaskDesk, *, read: Read, write: Write) -> None:
    """Rate items until the judge or the input ends, or nothing waits."""
    await LinearRatings(desk, read, write).run()


class LinearRatings:
    """One item after another, line by line."""

    def __init__(self, desk: TaskDesk, read: Read, write: Write) -> None:
        self._desk = desk
        self._read = read
        self._write = write

    async def run(self) -> None:
        """Rate items until the judge or the input ends, or nothing waits."""
        self._write(f"You are {one_line(self._desk.judge)}. {RATING_HELP}")
        queue = QueueSession(self._desk)
        where = await queue.work(self)
        if where != "next":
            self._write(f"{queue.num_sent} sent now; everything is kept.")
            return
        self._write(f"{self._end(queue)}\n{queue.num_sent} sent now.")

    def _end(self, queue: QueueSession[RatingItem, RatingItem, TaskItem, Feedback]) -> str:
        """Say why no item comes any more."""
        if queue.num_sent:
            return "Nothing waits any more."
        if not queue.refresh():
            return self._desk.why_empty()
        left = [f"{num} {state.value}" for state, num in queue.counts.items()]
        return f"Nothing to rate in this store. Yours: {', '.join(left)}; the full screen lists it."

    async def work_on(self, item: TaskItem) -> Where:
        """Let the judge work on an item until they leave it."""
        return await LinearRating(self._desk, item, self._read, self._write).run()

    def tell_left(self, item: TaskItem, how: LeftState) -> None:
        """Say nothing: the next item is shown, or the end is told."""

    def tell_refused(self, refusal: RefusedAction) -> None:
        """Say why an item could not be taken up."""
        self._write(refusal.said({}))


class LinearRating:
    """One item."""

    def __init__(self, desk: TaskDesk, item: TaskItem, read: Read, write: Write) -> None:
        self._desk = desk
        self._item = item
        self._acts = item.acts
        self._read = read
        self._write = write
        self._session = RatingSession(desk, item)

    async def run(self) -> Where:
        """Take commands until the item is left; returns the way on from there."""
        self._acts.on_trouble = self._on_trouble
        self._desk.open(self._item)
        self._show()
        self._session.attention.touch("responses")
        try:
            return await self._converse()
        finally:
            self._session.note(stop=True)
            await kept(self._desk.close(self._item), self._acts)

    async def _converse(self) -> Where:
        self._ask()
        while (line := await next_line(self._read, "> ")) is not None:
            self._session.attention.touch("responses")
            word, _, rest = line.strip().partition(" ")
            if word.lower() in ("quit", "q"):
                return "quit"
            if word.lower() == "previous":
                return "previous"
            if word.lower() == "skip" and self._done(self._session.skip()):
                return "next"
            if not word and await self._send():
                return "next"
            if word:
                self._do(word.lower(), rest)
            self._ask()
        return "quit"

    def _done(self, refusal: RefusedAction | None) -> bool:
        """Say why something was not done; true if it was done."""
        if refusal is not None:
            self._write(refusal.said({}))
        return refusal is None

    def _do(self, word: str, rest: str) -> None:
        if word == "undo":
            if self._done(self._session.undo()):
                self._write("Taken back.")
        elif word == "why":
            self._done(self._session.say_why(rest, uuid.uuid4().hex[:8]))
        elif word == "skip":
            return
        elif word == "before":
            for turn in self._item.before():
                self._write(f"Before: {said_by(self._item, turn)}\n{indented(marked_text(turn))}")
                self._name_seats(turn)
        elif word.isdigit():
            self._answer(int(word))
        else:
            self._write(RATING_HELP)

    def _answer(self, number: int) -> None:
        left = unanswered(self._session.asked, self._acts.work.draft.answers)
        if not left:
            self._write("Everything is answered; undo takes the last one back.")
            return
        by_number = left[0].by_number
        if number in by_number:
            self._done(self._session.answer(left[0].name, by_number[number]))
        else:
            self._write(f"{number} is no answer to that.")

    async def _send(self) -> bool:
        self._session.note(stop=True)
        try:
            sent = await self._session.send()
        except OversightError as error:
            self._write(f"Not sent: {one_line(str(error))}. An empty line sends it again.")
            return False
        self._write(sent.said({}) if isinstance(sent, RefusedAction) else "Sent.")
        return not isinstance(sent, RefusedAction)

    def _ask(self) -> None:
        """Ask the first open question, or repeat the answers."""
        answers = self._acts.work.draft.answers
        left = unanswered(self._session.asked, answers)
        if not left:
            chosen = [each.choice(answers[each.name]) for each in self._session.asked]
            words = " ".join(c.words.rstrip(".") + "." for c in chosen if c is not None)
            self._write(f"You said: {words} An empty line sends it.")
            return
        asked = left[0]
        about = f" {one_line(asked.text)}" if asked.text else ""
        named = {value: number for number, value in asked.by_number.items()}
        given = ", ".join(f"{named[c.value]} {c.words.rstrip('.')}" for c in asked.choices)
        self._write(f"{one_line(asked.label)}?{about} {given}.")

    def _show(self) -> None:
        transcript = self._item.transcript
        question, listing = transcript.question, transcript.debate.orders.options
        for message in question.history:
            self._write(f"{message.role.capitalize()}: {one_line(message.content)}")
        if question.is_open and question.source and transcript.debate.protocol.speakers_see_source:
            self._write(f"Source: {one_line(question.source.text)}")
        asked = "Prompt" if question.is_open else "Question"
        self._write(f"{asked}: {one_line(question.text)}")
        for label, index in zip(labels(len(listing)), listing, strict=True):
            self._write(f"{label}: {one_line(question.options[index].text)}")
        turns = self._item.turns()
        self._write(said_by(self._item, turns[0]))
        self._write(self._desk.task.asks_about(self._item.item))
        if number := len(self._item.before()):
            self._write(f"{number} turns were said before; before shows them.")
        for turn, name in zip(turns, self._desk.task.names_of(self._item.item), strict=True):
            self._write(f"{name}:\n{indented(marked_text(turn))}")
            self._name_seats(turn)
        self._acts.add(AttentionPaid(panels={}, seen={turn.id: WHOLE for turn in turns}))

    def _name_seats(self, turn: Turn) -> None:
        if note := named_by_seat(self._item.transcript.debate, [turn.text]):
            self._write(note)

    def _on_trouble(self, message: str | None) -> None:
        self._write(f"{one_line(message)} — trying again." if message else "Written after all.")


def rate_linear_in_terminal(desk: TaskDesk) -> None:
    """Rate over standard input and output."""
    in_terminal(partial(rate_linear, desk))
