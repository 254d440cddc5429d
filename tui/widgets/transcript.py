"""The transcript: turns under one another, or beside one another where there is room.

It draws single lines on demand (Textual's line API), so that a debate of 60,000 words scrolls like
one of sixty: words are wrapped once a width, and only lines in sight are made. In its uppermost
line stands the heading of what is read there, also where its own place is above.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Region, Size, Spacing
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from oversight.tui.marking import Line, MarkedText, pieces, with_matches, wrap

SIDE_BY_SIDE_WIDTH = 100
"""Cells from which two turns of one step stand beside one another."""
GAP = 3
INDENT = 2

STYLES = (
    "quote-verified",
    "quote-near",
    "quote-unverified",
    "quote-too-short",
    "match",
    "current-match",
    "current-quote",
    "heading-a",
    "heading-b",
    "heading-judge",
    "current",
    "faint",
)


@dataclass
class Column:
    """One turn, finished or being written."""

    key: str
    """The turn's id, or a name of its place while it is being written."""
    heading: str
    """Safe to show."""
    style: str
    body: MarkedText
    is_folded: bool = False
    is_writing: bool = False
    is_to_read: bool = False
    """Its words are to be on the screen before anything is answered."""
    _at: int = -1
    _lines: list[Line] = field(default_factory=list)

    def lines(self, width: int) -> list[Line]:
        """Its lines at a width, wrapped once."""
        if self._at != width:
            self._lines = wrap(self.body.text, width)
            self._at = width
        return self._lines

    def replace(self, body: MarkedText) -> None:
        """Show other words, or the same in other styles."""
        if body.text != self.body.text:
            self._at = -1
        self.body = body

    def take_lines(self, other: Column) -> None:
        """Use the lines to which the same turn was wrapped, if its words are still the same."""
        if other.body.text == self.body.text:
            self._at, self._lines = other._at, other._lines


@dataclass
class TranscriptRow:
    """The turns of one step."""

    step: int
    columns: list[Column]


class TranscriptView(ScrollView, can_focus=True, inherit_bindings=False):
    """Shows rows of turns."""

    # Only up and down: left and right are the belief's.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_up", "Up", show=False),
        Binding("down", "scroll_down", "Down", show=False),
        Binding("pageup", "page_up", "Page up", show=False),
        Binding("pagedown", "page_down", "Page down", show=False),
        Binding("home", "scroll_home", "Top", show=False),
        Binding("end", "scroll_end", "End", show=False),
    ]

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"transcript--{name}" for name in STYLES}

    class Moved(Message):
        """The current turn or quote is another one."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.rows: list[TranscriptRow] = []
        self.current: tuple[int, int] | None = None
        """Row and column of the current turn."""
        self.current_quote: int | None = None
        """Index of a quote in the current turn."""
        self.needle = ""
        self._found: list[tuple[str, int, int]] = []
        self._current_match = -1
        self._tops: list[int] = [0]
        self._looks: dict[str, Style] = {}
        self._drawn_width: int | None = None
        """The width while lines are drawn, which cannot change then."""
        self._overlaid: dict[str, MarkedText] = {}

    # --- content -----------------------------------------------------------------

    def set_rows(self, rows: Sequence[TranscriptRow]) -> None:
        """Show `rows`; folds and the current turn stay where they are."""
        old = {column.key: column for row in self.rows for column in row.columns}
        self.rows = list(rows)
        for row in self.rows:
            for column in row.columns:
                if column.key in old:
                    column.is_folded = old[column.key].is_folded
                    column.take_lines(old[column.key])
        if self.current is not None and self.current[0] >= len(self.rows):
            self.current = None
        self._search()
        self.relay()

    def column(self, key: str) -> Column | None:
        """The turn of that key."""
        for row in self.rows:
            for column in row.columns:
                if column.key == key:
                    return column
        return None

    def current_column(self) -> Column | None:
        """The current turn."""
        if self.current is None:
            return None
        row, column = self.current
        return self.rows[row].columns[column]

    def relay(self) -> None:
        """Lay the rows out anew, after content or width has changed."""
        self._overlaid = {}
        tops = [0]
        for row in self.rows:
            tops.append(tops[-1] + self._height(row))
        self._tops = tops
        self.virtual_size = Size(self._width, tops[-1])
        self.refresh()

    @property
    def _width(self) -> int:
        if self._drawn_width is not None:
            return self._drawn_width
        return max(self.scrollable_content_region.width, 20)

    @property
    def is_wide(self) -> bool:
        """True if turns stand side by side."""
        return self._width >= SIDE_BY_SIDE_WIDTH

    def _column_width(self, row: TranscriptRow) -> int:
        if len(row.columns) > 1 and self.is_wide:
            return (self._width - GAP) // 2
        return self._width

    def _height(self, row: TranscriptRow) -> int:
        heights = [self._column_height(row, column) for column in row.columns]
        return max(heights) if len(heights) > 1 and self.is_wide else sum(heights)

    def _column_height(self, row: TranscriptRow, column: Column) -> int:
        body = 0 if column.is_folded else len(column.lines(self._column_width(row) - INDENT))
        return 2 + body  # its heading above, an empty line below

    def notify_style_update(self) -> None:
        """Colours have changed."""
        self._looks = {}
        super().notify_style_update()

    def on_resize(self) -> None:
        """Wrap to the new width."""
        self.relay()

    # --- drawing -----------------------------------------------------------------

    def render_lines(self, crop: Region) -> list[Strip]:
        """Lines in sight."""
        self._drawn_width = self._width
        try:
            return super().render_lines(crop)
        finally:
            self._drawn_width = None

    def render_line(self, y: int) -> Strip:
        """One line in sight."""
        line = y + round(self.scroll_offset.y)
        width, plain = self._width, self._look("")
        strip = Strip.blank(width, plain)
        if line < self._tops[-1]:
            strip = self._line(line, is_uppermost=y == 0)
        return strip.adjust_cell_length(width, plain).apply_offsets(0, line)

    def _line(self, line: int, *, is_uppermost: bool = False) -> Strip:
        number = bisect_right(self._tops, line) - 1
        row, inside = self.rows[number], line - self._tops[number]
        width = self._column_width(row)
        if len(row.columns) > 1 and self.is_wide:
            inside = 0 if is_uppermost and inside < self._height(row) - 1 else inside
            left, right = (self._column_line(number, place, inside, width) for place in range(2))
            gap = Segment(" │ ", self._look("faint"))
            return Strip([*left.adjust_cell_length(width, self._look("")), gap, *right])
        for place, column in enumerate(row.columns):
            height = self._column_height(row, column)
            if inside < height:
                inside = 0 if is_uppermost and inside < height - 1 else inside
                return self._column_line(number, place, inside, width)
            inside -= height
        return Strip([])

    def _column_line(self, number: int, place: int, inside: int, width: int) -> Strip:
        column = self.rows[number].columns[place]
        is_current = self.current == (number, place)
        if inside == 0:
            return self._heading(column, is_current, width)
        bar = Segment("▌ " if is_current else "  ", self._look("current"))
        lines = [] if column.is_folded else column.lines(width - INDENT)
        if inside > len(lines):
            return Strip([])
        body = self._overlay(column, is_current)
        found, _ = pieces(body, lines[inside - 1])
        return Strip([bar, *(Segment(text, self._look(style)) for text, style in found)])

    def _heading(self, column: Column, is_current: bool, width: int) -> Strip:
        sign = "▶ " if is_current else "  "
        end = ""
        if column.is_writing:
            end = " …"
        elif column.is_folded:
            end = f" ⋯ {len(column.body.text.split())} words folded"
        segments = [
            Segment(sign, self._look("current")),
            Segment(column.heading, self._look(column.style)),
            Segment(end, self._look("faint")),
        ]
        return Strip(segments).crop(0, width)

    def _overlay(self, column: Column, is_current: bool) -> MarkedText:
        """The turn with matches of the search and the current quote in their own styles."""
        if column.key in self._overlaid:
            return self._overlaid[column.key]
        body = column.body
        here = [(s, e) for key, s, e in self._found if key == column.key]
        body = with_matches(body, here, "match")
        if 0 <= self._current_match < len(self._found):
            key, start, end = self._found[self._current_match]
            if key == column.key:
                body = with_matches(body, [(start, end)], "current-match")
        quote = self.current_quote if is_current else None
        if quote is not None and quote < len(body.quotes):
            body = with_matches(body, [body.quotes[quote]], "current-quote")
        self._overlaid[column.key] = body
        return body

    def _look(self, name: str) -> Style:
        if name not in self._looks:
            own = f"transcript--{name}"
            self._looks[name] = self.get_component_rich_style(own) if name else self.rich_style
        return self._looks[name]

    # --- moving ------------------------------------------------------------------

    @property
    def _page(self) -> int:
        """Lines below the heading."""
        return max(self.size.height - 1, 1)

    def scroll_page_up(self, **options: Any) -> None:
        """Scroll up by what was seen."""
        self.scroll_relative(y=-self._page, **options)

    def scroll_page_down(self, **options: Any) -> None:
        """Scroll down by what was seen."""
        self.scroll_relative(y=self._page, **options)

    def move_turn(self, by: int) -> None:
        """Go to the next or an earlier turn."""
        places = [(r, c) for r, row in enumerate(self.rows) for c in range(len(row.columns))]
        if not places:
            return
        if self.current is None:
            number = 0 if by > 0 else len(places) - 1
        else:
            number = min(max(places.index(self.current) + by, 0), len(places) - 1)
        self._go(places[number], None)

    def move_quote(self, by: int) -> None:
        """Go to the next or an earlier quote, of whichever turn."""
        places = [
            (r, c, q)
            for r, row in enumerate(self.rows)
            for c, column in enumerate(row.columns)
            for q in range(len(column.body.quotes))
        ]
        if not places:
            return
        row, column = self.current or (0, 0)
        quote = self.current_quote if self.current_quote is not None else (-1 if by > 0 else 0)
        here = (row, column, quote)
        if by > 0:
            later = [place for place in places if place > here]
            chosen = later[0] if later else places[0]
        else:
            earlier = [place for place in places if place < here]
            chosen = earlier[-1] if earlier else places[-1]
        self._go(chosen[:2], chosen[2])

    def go_to(self, key: str, quote: int | None = None) -> None:
        """Go to a turn by its key, and to a quote of it."""
        for r, row in enumerate(self.rows):
            for c, column in enumerate(row.columns):
                if column.key == key:
                    self._go((r, c), quote)

    def on_click(self, event: Click) -> None:
        """A click on a turn goes to it, and on a quote to that."""
        offset = event.get_content_offset(self)
        line = -1 if offset is None else offset.y + round(self.scroll_offset.y)
        if offset is None or not 0 <= line < self._tops[-1]:
            return
        number = bisect_right(self._tops, line) - 1
        row, inside = self.rows[number], line - self._tops[number]
        width = self._column_width(row)
        index, x = 0, offset.x
        if len(row.columns) > 1 and self.is_wide:
            index, x = (1, x - width - GAP) if x >= width + GAP else (0, x)
        else:
            while inside >= (height := self._column_height(row, row.columns[index])):
                inside -= height
                index += 1
        self.current = (number, index)
        is_heading = offset.y == 0
        quote = None if is_heading else self._quote_at(row.columns[index], inside, x, width)
        self.current_quote = quote
        self._overlaid = {}
        self.refresh()
        self.post_message(self.Moved())

    def _quote_at(self, column: Column, inside: int, x: int, width: int) -> int | None:
        """The quote of a turn that stands at a cell of it."""
        lines = [] if column.is_folded else column.lines(width - INDENT)
        if not 1 <= inside <= len(lines):
            return None
        place = lines[inside - 1][0] + x - INDENT
        for number, (start, end) in enumerate(column.body.quotes):
            if start <= place < end:
                return number
        return None

    def _go(self, place: tuple[int, int], quote: int | None) -> None:
        self.current, self.current_quote = place, quote
        self._overlaid = {}
        self._show_line(self._line_of(place, quote))
        self.refresh()
        self.post_message(self.Moved())

    def _line_of(
        self, place: tuple[int, int], quote: int | None = None, at: int | None = None
    ) -> int:
        """The line at which a turn, a quote of it or a place in it begins."""
        number, index = place
        row = self.rows[number]
        top = self._tops[number]
        if not self.is_wide:
            top += sum(self._column_height(row, each) for each in row.columns[:index])
        column = row.columns[index]
        if quote is not None and quote < len(column.body.quotes):
            at = column.body.quotes[quote][0]
        if at is None or column.is_folded:
            return top
        starts = [start for start, _ in column.lines(self._column_width(row) - INDENT)]
        return top + max(bisect_right(starts, at), 1)

    def _show_line(self, line: int) -> None:
        region = Region(0, line, self._width, min(4, self._page))
        heading = Spacing(top=1)
        self.scroll_to_region(region, spacing=heading, animate=False, force=True)

    def fold(self) -> None:
        """Fold the current turn, or unfold it."""
        column = self.current_column()
        if column is not None:
            column.is_folded = not column.is_folded
            self.relay()

    def fold_all(self) -> None:
        """Fold all turns, or unfold them if all are."""
        columns = [column for row in self.rows for column in row.columns]
        fold = not all(column.is_folded for column in columns)
        for column in columns:
            column.is_folded = fold
        self.relay()

    # --- searching ---------------------------------------------------------------

    def search(self, needle: str) -> int:
        """Look for words in all turns, upper and lower case alike; how many times they occur."""
        self.needle = needle
        self._current_match = -1
        self._search()
        self.next_match(1)
        return len(self._found)

    def next_match(self, by: int) -> None:
        """Go to the next or an earlier match, round the end."""
        if not self._found:
            self.refresh()
            return
        self._current_match = (self._current_match + by) % len(self._found)
        key, start, _ = self._found[self._current_match]
        for r, row in enumerate(self.rows):
            for c, column in enumerate(row.columns):
                if column.key == key:
                    column.is_folded = False
                    self.current, self.current_quote = (r, c), None
                    self.relay()
                    self._show_line(self._line_of((r, c), at=start))
                    self.post_message(self.Moved())

    def _search(self) -> None:
        self._overlaid = {}
        self._found = []
        wanted = self.needle.casefold()
        if not wanted:
            return
        for row in self.rows:
            for column in row.columns:
                self._found += [(column.key, s, e) for s, e in _places(column.body.text, wanted)]

    # --- selecting ---------------------------------------------------------------

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The words selected by mouse, as they are shown."""
        text = "\n".join(self._line(line).text.rstrip() for line in range(self._tops[-1]))
        return selection.extract(text), "\n"


def _places(text: str, wanted: str) -> Iterable[tuple[int, int]]:
    folded = text.casefold()
    # Where folding changes the length of a text its places would be others: then case counts.
    hay = folded if len(folded) == len(text) else text
    place = hay.find(wanted)
    while place >= 0:
        yield place, place + len(wanted)
        place = hay.find(wanted, place + len(wanted))
