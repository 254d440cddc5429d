"""Rating line by line: plain text and numbered answers, for screen readers, pipes and scripts.

The same desk and log as the full screen: what is begun here goes on there.
"""

from __future__ import annotations

import uuid
from functools import partial

from oversight.agents.judging import labels
from oversight.errors import OversightError
from oversight.judging.desk import TaskDesk, TaskItem
from oversight.judging.session import RatingSession, Refusal
from oversight.judging.tasks import unanswered
from oversight.judging.work import WHOLE
from oversight.text.quotes import strip_quotes
from oversight.tui.linear.lines import (
    Read,
    Write,
    in_terminal,
    indented,
    kept,
    next_line,
    one_line,
    own_words,
    quote_text,
)
from oversight.tui.marking import named_by_seat
from oversight.tui.rows import said_by
from oversight.types import AttentionPaid, Turn

HELP = """\
A number answers. why WORDS keeps a rationale, undo takes the last act back, skip puts the item off,
before shows what was said before, quit leaves; all is kept. When everything is answered, an empty
line sends it and the next item comes."""


async def rate_linear(desk: TaskDesk, *, read: Read, write: Write) -> None:
    """Rate items until the judge or the input ends, or nothing waits."""
    write(f"You are {one_line(desk.judge)}. {HELP}")
    num_sent, last = 0, None
    while True:
        item = desk.take_next(last)
        if item is None:
            said = "Nothing waits any more." if num_sent else "Nothing to rate in this store."
            write(f"{said} {num_sent} sent now.")
            return
        last = item.item.key
        before = item.acts.work.num_sent
        goes_on = await LinearRating(desk, item, read, write).run()
        num_sent += item.acts.work.num_sent > before
        if not goes_on:
            write(f"{num_sent} sent now; everything is kept.")
            return


class LinearRating:
    """One item."""

    def __init__(self, desk: TaskDesk, item: TaskItem, read: Read, write: Write) -> None:
        self._desk = desk
        self._item = item
        self._acts = item.acts
        self._read = read
        self._write = write
        self._session = RatingSession(desk, item)

    async def run(self) -> bool:
        """Until the item is left; whether the next one is wanted."""
        self._acts.on_trouble = self._on_trouble
        self._desk.open(self._item)
        self._show()
        self._session.attention.touch("responses")
        try:
            return await self._converse()
        finally:
            self._session.note(stop=True)
            await kept(self._desk.close(self._item), self._acts)

    async def _converse(self) -> bool:
        self._ask()
        while (line := await next_line(self._read, "> ")) is not None:
            self._session.attention.touch("responses")
            word, _, rest = line.strip().partition(" ")
            if word.lower() in ("quit", "q"):
                return False
            if word.lower() == "skip" and self._session.skip() is None:
                return True
            if not word and await self._send():
                return True
            if word:
                self._do(word.lower(), rest)
            self._ask()
        return False

    def _do(self, word: str, rest: str) -> None:
        if word == "undo":
            refusal = self._session.undo()
            self._write("Taken back." if refusal is None else refusal.said({}))
        elif word == "why":
            self._session.say_why(rest, uuid.uuid4().hex[:8])
        elif word == "before":
            for turn in self._item.before():
                self._write(f"Before: {said_by(self._item, turn)}\n{_words(turn)}")
                self._name_seats(turn)
        elif word.isdigit():
            self._answer(int(word))
        else:
            self._write(HELP)

    def _answer(self, number: int) -> None:
        left = unanswered(self._desk.asked, self._acts.work.draft.answers)
        if not left:
            self._write("Everything is answered; undo takes the last one back.")
            return
        by_number = left[0].by_number
        if number in by_number:
            self._session.answer(left[0].name, by_number[number])
        else:
            self._write(f"{number} is no answer to that.")

    async def _send(self) -> bool:
        self._session.note(stop=True)
        try:
            sent = await self._session.send()
        except OversightError as error:
            self._write(f"Not sent: {one_line(str(error))}. An empty line sends it again.")
            return False
        self._write(sent.said({}) if isinstance(sent, Refusal) else "Sent.")
        return not isinstance(sent, Refusal)

    def _ask(self) -> None:
        """The first question that is open, or what was answered."""
        answers = self._acts.work.draft.answers
        left = unanswered(self._desk.asked, answers)
        if not left:
            chosen = [each.choice(answers[each.name]) for each in self._desk.asked]
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
        if number := len(self._item.before()):
            self._write(f"{number} turns were said before; before shows them.")
        for turn, name in zip(turns, self._desk.task.names_of(self._item.item), strict=True):
            self._write(f"{name}:\n{_words(turn)}")
            self._name_seats(turn)
        self._acts.add(AttentionPaid(panels={}, seen={turn.id: WHOLE for turn in turns}))

    def _name_seats(self, turn: Turn) -> None:
        if note := named_by_seat(self._item.transcript.debate, [turn.text]):
            self._write(note)

    def _on_trouble(self, message: str | None) -> None:
        self._write(f"{one_line(message)} — trying again." if message else "Written after all.")


def _words(turn: Turn) -> str:
    """A speech with its quotes marked in words, set off from our own lines."""
    pieces, done = [], 0
    for quote in turn.quotes:
        pieces += [own_words(strip_quotes(turn.text[done : quote.start])), quote_text(quote)]
        done = quote.end
    whole = "".join([*pieces, own_words(strip_quotes(turn.text[done:]))])
    return indented(whole or "(nothing)")


def rate_linear_in_terminal(desk: TaskDesk) -> None:
    """Rate over standard input and output."""
    in_terminal(partial(rate_linear, desk))
