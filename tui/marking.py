"""A turn as a person reads it: its words made safe, its quotes marked by sign and style.

All words are foreign, and pass `oversight.text.terminal.visible` here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from oversight.text.quotes import strip_quotes
from oversight.text.terminal import visible
from oversight.types import QuoteStatus, Turn

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
class Span:
    """A stretch of a text that has a style of its own."""

    start: int
    end: int
    style: str


@dataclass(frozen=True, slots=True)
class Marked:
    """A text that is safe to show, with its styles."""

    text: str
    spans: tuple[Span, ...] = ()
    """In order, not overlapping."""
    quotes: tuple[tuple[int, int], ...] = ()
    """Where each quote of the turn stands in `text`."""


def mark(turn: Turn, picked: Iterable[int] = ()) -> Marked:
    """The turn's text with a sign and quotation marks for each quote in place of its tags.

    A verified quote is shown in the source's own words.
    """
    chosen = set(picked)
    pieces: list[str] = []
    spans: list[Span] = []
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
        spans.append(Span(begin, length, f"quote-{quote.status.value.replace('_', '-')}"))
        places.append((begin, length))
        done = quote.end
    put(_plain(strip_quotes(turn.text[done:])))
    return Marked("".join(pieces), tuple(spans), tuple(places))


def mark_unfinished(text: str) -> Marked:
    """Words that are being written: their quotes are not checked yet."""
    whole = _TAG.sub(lambda tag: "”" if tag[1] else "“", text)
    return Marked(_plain(whole))


def _plain(text: str) -> str:
    """A speaker's own words, which forge no sign of a quote."""
    return visible(_FORGED.sub(r"⟨\g<sign>⟩", text)).replace("\t", "    ")


def with_matches(marked: Marked, found: Iterable[tuple[int, int]], style: str) -> Marked:
    """The same with further stretches in a style of their own, over what they had."""
    spans = list(marked.spans)
    for start, end in found:
        cut: list[Span] = []
        for span in spans:
            if span.end <= start or span.start >= end:
                cut.append(span)
                continue
            if span.start < start:
                cut.append(Span(span.start, start, span.style))
            if span.end > end:
                cut.append(Span(end, span.end, span.style))
        spans = [*cut, Span(start, end, style)]
    return Marked(marked.text, tuple(sorted(spans, key=lambda s: s.start)), marked.quotes)
