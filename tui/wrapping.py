"""Lines of a text at a width: by words, in cells of the terminal, in time linear in its length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, get_character_cell_size

from oversight.tui.marking import Marked, Span

Line = tuple[int, int]
"""Where a line begins and ends in the text."""


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
    one_cell = text[start:end].isascii() or cell_len(text[start:end]) == end - start
    while start < end:
        reach = start + width if one_cell else _reach(text, start, end, width)
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


def _reach(text: str, start: int, end: int, width: int) -> int:
    """How far the text goes in `width` cells, by one character at least."""
    used = 0
    for place in range(start, end):
        used += get_character_cell_size(text[place])
        if used > width:
            return max(place, start + 1)
    return end


def pieces(marked: Marked, line: Line, first_span: int = 0) -> tuple[list[tuple[str, str]], int]:
    """A line's text in pieces of one style: (text, style), style empty for plain words.

    Args:
        marked: The whole text.
        line: Which line of it.
        first_span: Spans before this one end before the line.

    Returns:
        The pieces, and the first span that may reach into the next line.
    """
    start, end = line
    spans: Sequence[Span] = marked.spans
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
