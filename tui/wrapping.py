"""Lines of a text at a width: by words, in cells of the terminal, in time linear in its length."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from rich.cells import cell_len, get_character_cell_size, split_graphemes

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
    """Where each thing that is drawn as one ends (a letter and its accents), and its cells."""

    def __init__(self, text: str, start: int, end: int) -> None:
        spans, _ = split_graphemes(text[start:end])
        self._ends = [start + stop for _, stop, _ in spans]
        self._cells = [0, *itertools.accumulate(cells for *_, cells in spans)]

    def reach(self, start: int, width: int) -> int:
        """How far the text goes from `start` in `width` cells: by one end at least."""
        first = bisect_right(self._ends, start)
        last = bisect_right(self._cells, self._cells[first] + width) - 2
        return self._ends[max(first, last)]


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
