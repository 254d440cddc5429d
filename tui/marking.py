"""A turn as a person reads it: its words made safe, its quotes marked by sign and style.

All words are foreign, and pass `oversight.text.terminal.visible` here.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, get_character_cell_size, split_graphemes

from oversight.agents.speaking import label_of, speaker_name
from oversight.text.quotes import strip_quotes
from oversight.text.terminal import visible
from oversight.types import Act, Debate, QuoteStatus, Role, Seat, Stance, Transcript, Turn

SIGN_OF_STATUS = {
    QuoteStatus.VERIFIED: "✓",
    QuoteStatus.NEAR: "≈",
    QuoteStatus.UNVERIFIED: "✗",
    QuoteStatus.TOO_SHORT: "·",
}
"""The sign alone tells; the colour helps."""

NAME_OF_STATUS = {
    QuoteStatus.VERIFIED: "verified",
    QuoteStatus.NEAR: "near miss",
    QuoteStatus.UNVERIFIED: "not in the source",
    QuoteStatus.TOO_SHORT: "too short to check",
}

PICKED = "★"
"""Beside a quote that the judge leans on."""

_FORGED = re.compile(r"(?P<sign>[✓≈✗·★])(?=[\s★✓≈✗·]*[“\"„«])")
"""A sign before a quotation mark, as only this program writes it."""
_TAG = re.compile(r"<\s*+(/)?\s*+quote\b[^<>]*+>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StyledSpan:
    """A stretch of a text that has a style of its own."""

    start: int
    end: int
    style: str


@dataclass(frozen=True, slots=True)
class MarkedText:
    """A text that is safe to show, with its styles."""

    text: str
    spans: tuple[StyledSpan, ...] = ()
    """In order, not overlapping."""
    quotes: tuple[tuple[int, int], ...] = ()
    """Beginning and end of each quote of the turn in `text`."""


def mark(turn: Turn, picked: Iterable[int] = ()) -> MarkedText:
    """The turn's text with a sign and quotation marks for each quote in place of its tags.

    A verified quote is shown in the source's own words.
    """
    chosen = set(picked)
    pieces: list[str] = []
    spans: list[StyledSpan] = []
    places: list[tuple[int, int]] = []
    length = done = 0

    def put(text: str) -> None:
        nonlocal length
        pieces.append(text)
        length += len(text)

    for number, quote in enumerate(turn.quotes):
        put(_plain(strip_quotes(turn.text[done : quote.start])))
        begin = length
        words = quote.text
        if quote.status is QuoteStatus.VERIFIED and quote.source_text is not None:
            words = quote.source_text
        star = PICKED if number in chosen else ""
        put(f"{star}{SIGN_OF_STATUS[quote.status]} “{_plain(words)}”")
        spans.append(StyledSpan(begin, length, f"quote-{quote.status.value.replace('_', '-')}"))
        places.append((begin, length))
        done = quote.end
    put(_plain(strip_quotes(turn.text[done:])))
    return MarkedText("".join(pieces), tuple(spans), tuple(places))


def mark_unfinished(text: str) -> MarkedText:
    """Words that are being written: their quotes are not checked yet."""
    whole = _TAG.sub(lambda tag: "”" if tag[1] else "“", text)
    return MarkedText(_plain(whole))


def _plain(text: str) -> str:
    """A speaker's own words, which forge no sign of a quote."""
    return visible(_FORGED.sub(r"⟨\g<sign>⟩", text)).replace("\t", "    ")


def with_matches(marked: MarkedText, found: Iterable[tuple[int, int]], style: str) -> MarkedText:
    """The same with further stretches in a style of their own, over what they had."""
    spans = list(marked.spans)
    for start, end in found:
        cut: list[StyledSpan] = []
        for span in spans:
            if span.end <= start or span.start >= end:
                cut.append(span)
                continue
            if span.start < start:
                cut.append(StyledSpan(span.start, start, span.style))
            if span.end > end:
                cut.append(StyledSpan(end, span.end, span.style))
        spans = [*cut, StyledSpan(start, end, style)]
    return MarkedText(marked.text, tuple(sorted(spans, key=lambda s: s.start)), marked.quotes)


VERB_OF_ACT = {
    Act.ASK: "asks",
    Act.RESPOND: "responds",
    Act.CRITIQUE: "criticises",
    Act.REVISE: "revises",
}

_SEAT_NAME = re.compile(r"\bdebater\s+([ab])\b", re.IGNORECASE)
"""The names of debaters in prompts: their seats, with the same letters as options."""


def heading(
    transcript: Transcript,
    seat: Seat,
    role: Role,
    act: Act,
    round: int,
    stance: Stance | None = None,
) -> str:
    """The speaker, the stance, the round and the option defended; the model stays hidden."""
    debate = transcript.debate
    parts = [called(debate, seat, role)]
    if stance is not None or act in VERB_OF_ACT:
        parts[0] += f" {stance or VERB_OF_ACT[act]}"
    parts.append(f"round {round}" if round else "opening")
    if act.argues(role) and seat is not Seat.JUDGE:
        option = debate.orders.defended_by(seat)
        # A debater's own name has the letter already.
        letter = label_of(option, debate.orders.options)
        about = "" if role is Role.DEBATER else f"for {letter}: "
        words = visible(transcript.question.options[option].text, newlines=False)
        parts.append(about + " ".join(words.split()))
    return " · ".join(parts)


def called(debate: Debate, seat: Seat, role: Role) -> str:
    """The name under which a speaker is shown: of a debater, by the option that they defend."""
    if role is not Role.DEBATER:
        return speaker_name(seat, role)
    return f"Debater for {label_of(debate.orders.defended_by(seat), debate.orders.options)}"


def named_by_seat(debate: Debate, texts: Iterable[str]) -> str:
    """The debaters that texts call by the names given in prompts, as a sentence; else nothing.

    Words of models and of people stand as they were written; this is said beside them.
    """
    if debate.protocol.speaker_role is not Role.DEBATER:
        return ""
    found = {letter.lower() for text in texts for letter in _SEAT_NAME.findall(text)}
    names = [
        f"“{speaker_name(seat, Role.DEBATER)}” is the "
        f"{called(debate, seat, Role.DEBATER).replace('Debater', 'debater')}"
        for seat in debate.protocol.speakers
        if seat.value in found
    ]
    return f"In these words {', '.join(names)}." if names else ""


Line = tuple[int, int]
"""Beginning and end of a line in the text."""


def wrap(text: str, width: int) -> list[Line]:
    """The lines of `text`; spaces at which a line breaks belong to none."""
    width = max(width, 1)
    found: list[Line] = []
    start = 0
    for paragraph in text.split("\n"):
        end = start + len(paragraph)
        found += _paragraph(text, start, end, width)
        start = end + 1
    return found


def _paragraph(text: str, start: int, end: int, width: int) -> Iterator[Line]:
    if end - start <= width and cell_len(text[start:end]) <= width:
        yield (start, end)
        return
    plain = all(get_character_cell_size(each) == 1 for each in set(text[start:end]))
    ends = None if plain else _Ends(text, start, end)
    while start < end:
        reach = start + width if ends is None else ends.reach(start, width)
        if reach >= end:
            yield (start, end)
            return
        # A word that ends just at the border still fits.
        space = text.rfind(" ", start, reach + 1)
        stop = reach if space <= start else space
        yield (start, stop)
        start = stop
        while start < end and text[start] == " ":
            start += 1


class _Ends:
    """The end of each grapheme (a letter and its accents), and the cells that it takes."""

    def __init__(self, text: str, start: int, end: int) -> None:
        spans, _ = split_graphemes(text[start:end])
        self._ends = [start + stop for _, stop, _ in spans]
        self._cells = [0, *itertools.accumulate(cells for *_, cells in spans)]

    def reach(self, start: int, width: int) -> int:
        """The end of the text that fits in `width` cells from `start`: one grapheme at least."""
        first = bisect_right(self._ends, start)
        last = bisect_right(self._cells, self._cells[first] + width) - 2
        return self._ends[max(first, last)]


def pieces(
    marked: MarkedText, line: Line, first_span: int = 0
) -> tuple[list[tuple[str, str]], int]:
    """A line's text in pieces of one style: (text, style), style empty for plain words.

    Args:
        marked: The whole text.
        line: Which line of it.
        first_span: Spans before this one end before the line.

    Returns:
        The pieces, and the first span that may reach into the next line.
    """
    start, end = line
    spans: Sequence[StyledSpan] = marked.spans
    number, place = first_span, start
    found: list[tuple[str, str]] = []
    while number < len(spans) and spans[number].end <= start:
        number += 1
    first_span = number
    while number < len(spans) and spans[number].start < end:
        span = spans[number]
        if span.start > place:
            found.append((marked.text[place : span.start], ""))
        found.append((marked.text[max(span.start, start) : min(span.end, end)], span.style))
        place = min(span.end, end)
        number += 1
    if place < end:
        found.append((marked.text[place:end], ""))
    return found, first_span
