"""Rating line by line: plain text and numbered answers, for screen readers, pipes and scripts.

The same desk and log as the full screen: what is begun here goes on there.
"""

from __future__ import annotations

import uuid
from functools import partial

from oversight.agents.judging import labels
from oversight.errors import OversightError
from oversight.judging.desk import TaskDesk
from oversight.judging.items import RefusedAction, TaskItem
from oversight.judging.queue_session import LeftState, QueueSession, Where
from oversight.judging.session import RatingSession
from oversight.judging.tasks import unanswered
from oversight.judging.work import WHOLE
from oversight.store.rating_queue import RatingItem
from oversight.tui.linear.lines import (
    Read,
    Write,
    in_terminal,
    indented,
    kept,
    marked_text,
    next_line,
    one_line,
)
from oversight.tui.marking import named_by_seat
from oversight.tui.rows import said_by
from oversight.types import AttentionPaid, Feedback, Turn

HELP = """\
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
        self._write(f"You are {one_line(self._desk.judge)}. {HELP}")
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
            self._write(HELP)

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
