"""Lines in and out: read while other work goes on, written as words come."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Protocol

import typer

from oversight.errors import StoreError
from oversight.judging.items import DebateItem, SourceExcerpt
from oversight.judging.tasks.debate import NAME_OF_VERDICT, CalibrationBin, JudgmentScore
from oversight.store.claims import QueueItem
from oversight.text.quotes import strip_quotes
from oversight.text.terminal import visible
from oversight.tui.marking import heading, named_by_seat
from oversight.tui.rows import options_of
from oversight.types import Judgment, Question, Quote, QuoteStatus, Turn

LEAVE_S = 5.0
"""Time that leaving waits for a store that cannot be written."""

Read = Callable[[str], str | None]
"""From a prompt to the next line, or None at the end of the input."""
Write = Callable[[str], None]
"""Takes one or more whole lines."""


async def next_line(read: Read, prompt: str) -> str | None:
    """The next line; writing in the background goes on meanwhile.

    In a thread of its own that dies with the program: one that waits for a key would keep it.
    """
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str | None] = loop.create_future()

    def give(text: str | None, error: BaseException | None) -> None:
        if not line.done():
            line.set_exception(error) if error is not None else line.set_result(text)

    def wait() -> None:
        text, error = None, None
        try:
            text = read(prompt)
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(give, text, error)

    threading.Thread(target=wait, daemon=True).start()
    return await line


class UnsavedWorkError(StoreError):
    """The store cannot be written, and a person's last acts are lost with the program."""


class PendingActs(Protocol):
    """The log of a person's acts at an item."""

    @property
    def num_waiting(self) -> int:
        """Acts that are not durable yet."""
        ...


async def kept(closing: Awaitable[None], acts: PendingActs) -> None:
    """Return when an item is left with everything written down.

    Raises:
        NotKept: The store could not be written for `LEAVE_S`; without an end to the wait, a script
            whose input has ended would stand still for good.
    """
    try:
        await asyncio.wait_for(closing, LEAVE_S)
    except TimeoutError:
        raise UnsavedWorkError(
            f"the store could not be written: {acts.num_waiting} of your last acts are not kept. "
            "All before them are."
        ) from None


class LineBuffer:
    """Words as they come, passed on by the line or sentence, so that nothing is written over."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._rest = ""

    def take(self, text: str) -> None:
        """Some more words."""
        *whole, self._rest = re.split(r"\n|(?<=[.!?]) ", self._rest + text)
        for line in filter(None, whole):
            self._write(line)

    def end(self) -> None:
        """Nothing more comes."""
        if self._rest:
            self._write(self._rest)
        self._rest = ""


class LineSession(Protocol):
    """A session that reads lines and writes lines."""

    def __call__(self, *, read: Read, write: Write) -> Coroutine[None, None, None]:
        """Run until its user or the input ends."""


def in_terminal(session: LineSession) -> None:
    """Run it over standard input and output; the end of the input leaves, and all is kept."""
    # Characters that cannot be decoded or shown must not end a judge's work.
    for stream in (sys.stdin, sys.stdout):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    prompts = sys.stdin.isatty()

    def read(prompt: str) -> str | None:
        try:
            return input(prompt if prompts else "")
        except EOFError:
            return None

    def write(text: str) -> None:
        typer.echo(text)

    asyncio.run(session(read=read, write=write))


Numbered = tuple[int, Turn, int]
"""A quote: its number in the debate, its turn, and its place among that turn's quotes."""

NAME_OF_STATUS = {
    QuoteStatus.VERIFIED: "verified",
    QuoteStatus.NEAR: "near",
    QuoteStatus.UNVERIFIED: "not found",
    QuoteStatus.TOO_SHORT: "too short",
}

_FORGED = re.compile(r"\[(?=\s*(?:verified|near|not\s+found|too\s+short)\b)", re.IGNORECASE)


def one_line(text: str) -> str:
    """Foreign text in one line of ours, which forges no mark of a quote."""
    return visible(_FORGED.sub("⟨[⟩", " ".join(text.split())), newlines=False)


def own_words(text: str) -> str:
    """A speaker's words, which forge no mark of a quote."""
    return visible(_FORGED.sub("⟨[⟩", text)).replace("\t", "    ")


def indented(text: str) -> str:
    """Each line set off from our own; other kinds of line end are made visible before."""
    return "\n".join(f"  {line}" for line in text.split("\n"))


def queue_line(number: int, item: QueueItem) -> str:
    """An item of the queue."""
    live = ", live" if item.live else ""
    judges = "1 judge" if item.num_judges == 1 else f"{item.num_judges} judges"
    where = f"{one_line(item.protocol)}, data set {one_line(item.dataset)}"
    return f"{number}. [{item.state.value}{live}] {one_line(item.question)} ({where}, {judges})"


def question_lines(item: DebateItem) -> list[str]:
    """The protocol, the question and its options."""
    debate, question = item.transcript.debate, item.transcript.question
    kind = "still going on" if item.live else "recorded"
    lines = [f"Protocol {one_line(debate.protocol.name)}, {kind}."]
    lines.append(f"Question: {one_line(question.text)}")
    return [*lines, *(f"{label}: {one_line(text)}" for label, text, _ in options_of(item))]


def turn_text(item: DebateItem, number: int, turn: Turn, first_quote: int) -> str:
    """A turn with its quotes marked in words, and below it what each quote's number is."""
    who = heading(item.transcript, turn.seat, turn.role, turn.act, turn.round)
    lines = [f"Turn {number}. {one_line(who)}", indented(marked_text(turn))]
    if turn.quotes:
        places = enumerate(turn.quotes, first_quote)
        each = ", ".join(f"{place} {NAME_OF_STATUS[quote.status]}" for place, quote in places)
        lines.append(f"Quotes of turn {number}: {each}.")
    if note := named_by_seat(item.transcript.debate, [turn.text]):
        lines.append(note)
    return "\n".join(lines)


def quote_lines(turns: Sequence[Turn], picked: Iterable[tuple[str, int]]) -> list[str]:
    """All quotes by number, those that the judge leans on named."""
    chosen = set(picked)
    lines = []
    for number, turn, place in numbered_quotes(turns):
        leaned = ", you lean on it" if (turn.id, place) in chosen else ""
        where = f"turn {turns.index(turn) + 1}{leaned}"
        lines.append(f"Quote {number}, {where}: {quote_text(turn.quotes[place], one_line)}")
    return lines or ["No quotes yet."]


def numbered_quotes(turns: Sequence[Turn]) -> list[Numbered]:
    """All quotes in the order in which they are read, numbered from 1."""
    places = [(turn, place) for turn in turns for place in range(len(turn.quotes))]
    return [(number, turn, place) for number, (turn, place) in enumerate(places, 1)]


def quote_text(quote: Quote, show: Callable[[str], str] = own_words) -> str:
    """A quote with its mark; a verified one in the source's own words."""
    words = show(quote.text)
    if quote.status is QuoteStatus.VERIFIED and quote.source_text is not None:
        words = show(quote.source_text)
    mark = NAME_OF_STATUS[quote.status]
    if quote.status is QuoteStatus.NEAR and quote.source_text is not None:
        mark = f"near; the source says “{show(quote.source_text)}”"
    return f"[{mark}] “{words}”"


def excerpt_text(found: SourceExcerpt) -> str:
    """The source around a quote, set off from our own lines."""
    text = own_words(f"{found.before}{found.quoted}{found.after}")
    return f"The source around it:\n{indented(text)}"


def judgment_lines(item: DebateItem) -> list[str]:
    """The judgment as it stands now."""
    work = item.acts.work
    draft = work.draft
    lines = [f"Verdict: {NAME_OF_VERDICT[draft.verdict]}.", f"Belief: {belief_text(item)}."]
    if draft.rationale:
        lines.append(f"Rationale: {one_line(draft.rationale)}")
    num_quotes = len(draft.leaned_on)
    lines.append(f"You lean on {num_quotes} quote{'' if num_quotes == 1 else 's'}.")
    sent = f"sent {work.num_sent} times" if work.num_sent != 1 else "sent once"
    lines.append("Not sent yet." if not work.num_sent else f"It was {sent}.")
    return lines


def belief_text(item: DebateItem) -> str:
    """The belief in each option, by its letter."""
    probs = item.acts.work.draft.probs
    if probs is None:
        return "none yet"
    return ", ".join(f"{label} {probs[index]:.0%}" for label, _, index in options_of(item))


def sent_lines(
    judgment: Judgment,
    question: Question,
    result: JudgmentScore | None,
    strip: Sequence[CalibrationBin],
) -> list[str]:
    """Lines told to a judge after sending: the right answer, the score, and their calibration."""
    number = judgment.revision
    lines = [f"Sent, revision {number}; the earlier ones are kept." if number else "Sent."]
    if result is None:
        return lines
    lines.append(f"Right is: {one_line(question.options[result.correct].text)}")
    lines.append(f"{result.outcome_words} {result.score_words}.")
    lines += [
        f"When {each.low:.0%} to {each.high:.0%} sure you were right {each.num_right} of "
        f"{each.num} times."
        for each in strip
        if each.num
    ]
    return lines


def marked_text(turn: Turn) -> str:
    """The words of a turn, its quotes marked in words."""
    pieces, done = [], 0
    for quote in turn.quotes:
        pieces += [own_words(strip_quotes(turn.text[done : quote.start])), quote_text(quote)]
        done = quote.end
    return "".join([*pieces, own_words(strip_quotes(turn.text[done:]))]) or "(nothing)"
