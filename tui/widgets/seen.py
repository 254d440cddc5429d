"""A transcript that knows which of its lines have been on the screen, and says how many have not.

Places are counted in letters: characters that are neither spaces nor marks of ours. So what was
read stays read when the terminal is resized, when a quote is picked, and when a turn that was read
as it was written stands at last with its quotes checked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from oversight.judging.work import WHOLE, Span, joined
from oversight.tui.marking import PICKED, SIGN_OF_STATUS, Line
from oversight.tui.widgets.transcript import INDENT, Column, TranscriptRow, TranscriptView

MARKS = "".join([*SIGN_OF_STATUS.values(), PICKED, "“”"])


def num_letters(text: str) -> int:
    """The number of characters without spaces and marks of quotes."""
    packed = "".join(text.split())
    if packed.isascii():
        return len(packed)
    return len(packed) - sum(map(packed.count, MARKS))


class Seen:
    """The parts of one turn that have been on the screen."""

    def __init__(self, num_letters: int = 0, shares: Iterable[Span] = ()) -> None:
        """A turn of so many letters, with those stretches seen already, as shares of it."""
        self._spans = joined((start * num_letters, end * num_letters) for start, end in shares)

    def add(self, start: float, end: float) -> None:
        """These letters have been on the screen."""
        self._spans = joined((*self._spans, (start, end)))

    def of(self, start: float, end: float) -> float:
        """The number of these letters that have been on the screen."""
        return sum(max(min(end, e) - max(start, s), 0.0) for s, e in self._spans)

    def shares(self, num_letters: int) -> tuple[Span, ...]:
        """The stretches as shares of a turn of so many letters."""
        whole = max(num_letters, 1)
        ends = ((round(s / whole, 4), round(min(e / whole, 1.0), 4)) for s, e in self._spans)
        return joined((start, end) for start, end in ends if start < end)


class SeenLines:
    """The lines of a turn at one width, and which of them have been on the screen."""

    def __init__(
        self, text: str, lines: Sequence[Line], seen: Seen, before: SeenLines | None = None
    ) -> None:
        """Lines of `text`; `before` is the same for a text that this one begins with."""
        self.lines = lines
        self._seen = seen
        self._places = [0]
        self._flags = bytearray()
        if before is not None:
            # The last lines may break elsewhere now.
            same = max(len(before.lines) - 2, 0)
            if before.lines[:same] == lines[:same]:
                self._places = before._places[: same + 1]
                self._flags = before._flags[:same]
        for start, end in lines[len(self._flags) :]:
            first = self._places[-1]
            last = first + num_letters(text[start:end])
            self._places.append(last)
            # Half of a line: a break may have moved by a word since.
            self._flags.append(2 * seen.of(first, last) >= last - first)

    def show(self, first: int, last: int) -> bool:
        """Lines from `first` to before `last` are on the screen; whether any is for the first
        time."""
        if 0 not in self._flags[first:last]:
            return False
        self._flags[first:last] = b"\x01" * (last - first)
        self._seen.add(self._places[first], self._places[last])
        return True

    def num_unread(self, first: int = 0, last: int | None = None) -> int:
        """The number of lines from `first` to before `last` that have never been on the screen."""
        return self._flags.count(0, first, len(self._flags) if last is None else last)

    def first_unread(self) -> int | None:
        """The first line that has never been on the screen."""
        found = self._flags.find(0)
        return None if found < 0 else found

    def shares(self) -> tuple[Span, ...]:
        """The parts that have been seen, as shares of the whole turn."""
        return self._seen.shares(self._places[-1]) if self.num_unread() else WHOLE


class SeenTranscript(TranscriptView):
    """Shows rows of turns, and notes which lines of those that are to be read were in sight."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.on_looked: Callable[[], None] = lambda: None
        """Called when other lines have come onto the screen, or how many have never been there is
        another number. Not a message: on its way a picture would be painted without what is said
        of it."""
        self.unread = (0, 0)
        """Lines above and below that have never been on the screen."""
        self.to_read = (0, 0)
        """The same without turns that are not to be read any more."""
        self.waived: Collection[str] = ()
        """Keys of those turns."""
        self._seen: dict[str, Seen] = {}
        self._lines: dict[str, SeenLines] = {}
        self._before: dict[str, tuple[Span, ...]] = {}
        """The parts of turns that had been seen when this view was opened."""
        self._known: set[str] = set()
        """Turns of which it was told that they have been seen."""
        self._news: set[str] = set()
        self._looks_soon = False
        self._from: str | None = None
        """The turn that is shown from its beginning until the reader moves."""
        self._from_at = 0

    def relay(self) -> None:
        """Lay the rows out anew, after content or width has changed."""
        super().relay()
        self._stay_from()
        self._tell()
        self.look_soon()

    def restore_seen(self, seen: Mapping[str, tuple[Span, ...]]) -> None:
        """Take over the parts of turns seen in earlier sessions."""
        self._before = dict(seen)
        self._known |= set(seen)

    def is_now(self, old: str, new: str) -> None:
        """The turn with the key `old`, which was being written, is the one with the key `new`."""
        if old in self._seen:
            self._seen[new] = self._seen.pop(old)
            self._news.add(new)
        if self._from == old:
            self._from = new

    def take_seen(self, *, completely: bool = False) -> dict[str, tuple[Span, ...]]:
        """The parts seen, by key, of turns of which more was seen since the last time;
        only of those that have been seen `completely` by now."""
        found: dict[str, tuple[Span, ...]] = {}
        for row in self.rows if self._news else ():
            for column in row.columns:
                if column.key in self._news and not column.is_writing:
                    shares = self._seen_lines(row, column).shares()
                    if shares and (shares == WHOLE or not completely):
                        found[column.key] = shares
        self._news -= set(found)
        return found

    def look_soon(self) -> None:
        """Note which lines are on the screen, once they are."""
        if not self._looks_soon and self.is_attached:
            self._looks_soon = True
            self.call_after_refresh(self._note_sight)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Other lines come onto the screen."""
        super().watch_scroll_y(old_value, new_value)
        self._tell()
        self.look_soon()

    def show_from(self, key: str) -> None:
        """Show a turn from its beginning, and stay there while more is written, until the reader
        moves."""
        self._from, self._from_at = key, round(self.scroll_offset.y)
        self._stay_from()

    def show_unread(self) -> None:
        """Go to the first line that has never been on the screen; unfold what hides it."""
        columns = [column for row in self.rows for column in row.columns if column.is_to_read]
        if self.unread == (0, 0):
            for column in columns:
                column.is_folded = False
            self.relay()
        for number, row in enumerate(self.rows):
            for place, column in enumerate(row.columns):
                line = self._seen_lines(row, column).first_unread()
                if column.is_to_read and not column.is_folded and line is not None:
                    # Below the heading in the uppermost line.
                    self._scroll_at_once(self._body_top(number, place) + line - 1)
                    return

    def _seen_lines(self, row: TranscriptRow, column: Column) -> SeenLines:
        lines = column.lines(self._column_width(row) - INDENT)
        kept = self._lines.get(column.key)
        if kept is not None and kept.lines is lines:
            return kept
        if column.key not in self._seen:
            spans = self._before.get(column.key, ())
            self._seen[column.key] = Seen(num_letters(column.body.text) if spans else 0, spans)
        begun = kept if column.is_writing else None
        made = SeenLines(column.body.text, lines, self._seen[column.key], begun)
        self._lines[column.key] = made
        return made

    def _note_sight(self) -> None:
        self._looks_soon = False
        if not self.is_attached:
            return
        told = len(self._news)
        if self._is_read:
            self._note_lines()
        self._tell(has_news=len(self._news) != told)

    @property
    def _is_read(self) -> bool:
        """True if the words in sight count as read: behind a dialog none do."""
        return self.app.screen is self.screen and self.size.height > 1

    def _tell(self, *, has_news: bool = False) -> None:
        """Say how many lines have never been on the screen, in the picture that shows those in
        sight: one that told of it afterwards would be painted in addition."""
        if not self.is_attached:
            return
        before = self.unread, self.to_read
        self.unread = self._num_unread()
        self.to_read = self._num_unread(self.waived) if self.waived else self.unread
        if self.unread != before[0]:
            above, below = self.unread
            signs = [f"▲ {above} lines above unread"] * bool(above)
            signs += [f"▼ {below} more lines unread"] * bool(below)
            self.border_subtitle = " · ".join(signs)
        if (self.unread, self.to_read) != before or has_news:
            self.on_looked()

    def _parts(self) -> Iterable[tuple[int, Column, SeenLines, int, int]]:
        """Unfolded turns that are to be read, each with its row and its lines that are in sight
        now: from the first to before the last."""
        top = round(self.scroll_offset.y) + 1  # a heading stands in the uppermost line
        bottom = top - 1 + self.size.height
        for number, row in enumerate(self.rows):
            for place, column in enumerate(row.columns):
                if column.is_to_read and not column.is_folded:
                    lines = self._seen_lines(row, column)
                    num, body = len(lines.lines), self._body_top(number, place)
                    first, last = (min(max(each - body, 0), num) for each in (top, bottom))
                    yield number, column, lines, first, last

    def _note_lines(self) -> None:
        for _, column, lines, first, last in self._parts():
            is_new = first < last and lines.show(first, last)
            if is_new or (first < last and column.key not in self._known):
                self._news.add(column.key)
                self._known.add(column.key)

    def _num_unread(self, without: Collection[str] = ()) -> tuple[int, int]:
        above: dict[int, list[int]] = defaultdict(list)
        below: dict[int, list[int]] = defaultdict(list)
        is_read = self._is_read
        for row, column, lines, first, last in self._parts():
            if column.key in without:
                continue
            above[row].append(lines.num_unread(0, first))
            below[row].append(lines.num_unread(last if is_read else first))
        # Turns that stand side by side are read together.
        of_row = max if self.is_wide else sum
        return sum(map(of_row, above.values())), sum(map(of_row, below.values()))

    def _body_top(self, number: int, place: int) -> int:
        """The line at which the words of a turn begin."""
        return self._line_of((number, place)) + 1

    def _show_line(self, line: int) -> None:
        self._from = None  # the reader has gone to a place of their own
        super()._show_line(line)

    def _stay_from(self) -> None:
        if self._from is None:
            return
        if round(self.scroll_offset.y) != self._from_at:
            self._from = None
            return
        for number, row in enumerate(self.rows):
            for place, column in enumerate(row.columns):
                if column.key == self._from:
                    self._scroll_at_once(self._line_of((number, place)))
                    self._from_at = round(self.scroll_offset.y)

    def _scroll_at_once(self, line: int) -> None:
        self.scroll_to(y=line, animate=False, force=True, immediate=True)
