"""What screens of rating share with whoever reads: responses, their quotes, and moving about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, TypeVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from oversight.judging.tasks.desk import TaskDesk, TaskItem
from oversight.tui.keys import RATING_KEYS, RATING_SHOWN, bindings, key_of
from oversight.tui.rating_rows import BEFORE, quotes_of
from oversight.tui.screens.dialogs import KeysScreen, LineScreen
from oversight.tui.screens.source import SourceScreen
from oversight.tui.widgets.quotes import QuotePanel, surroundings
from oversight.tui.widgets.transcript import TranscriptView
from oversight.types import Turn

T = TypeVar("T")

NAMES = tuple(
    name
    for name in RATING_KEYS
    if name not in ("left", "right", "tie", "both_bad", "ask_next", "ask_previous", "filter")
)
"""Keys that every task has."""


def with_own(*own: str) -> tuple[str, ...]:
    """Keys of a task, the commonest first: those that answer come before the others."""
    return (NAMES[0], *own, *NAMES[1:])


def bound(names: Sequence[str]) -> list[BindingType]:
    """Bindings of a task's keys."""
    return list(bindings(names, RATING_KEYS, RATING_SHOWN))


class TaskReading(Screen[T]):
    """An item to be read."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - Textual's own form

    NAMES: ClassVar[tuple[str, ...]]
    """Keys of this task."""

    def __init__(self, desk: TaskDesk, item: TaskItem) -> None:
        """A screen over `item`."""
        super().__init__()
        self.desk = desk
        self.item = item
        self._around = False

    @property
    def transcript(self) -> TranscriptView:
        """What is read."""
        return self.query_one("#transcript", TranscriptView)

    def key(self, name: str) -> str:
        """A key as one would say it."""
        return key_of(name, self.desk.settings.keys, RATING_KEYS)

    def say(self, note: str) -> None:
        """Show a note until the next act."""
        raise NotImplementedError

    def fold_before(self, *, folded: bool) -> None:
        """Fold what was said before, or unfold it."""
        view = self.transcript
        for row in view.rows:
            for column in row.columns:
                if column.key.startswith(BEFORE):
                    column.is_folded = folded
        view.relay()

    def action_do_before(self) -> None:
        """Show what was said before, or fold it again."""
        columns = [c for r in self.transcript.rows for c in r.columns if c.key.startswith(BEFORE)]
        if not columns:
            self.say("Nothing was said before.")
            return
        self.fold_before(folded=not columns[0].is_folded)
        self.transcript.scroll_home(animate=False)

    def action_do_quote_next(self) -> None:
        """Go to the next quote."""
        self.transcript.move_quote(1)

    def action_do_quote_previous(self) -> None:
        """Go to the quote before."""
        self.transcript.move_quote(-1)

    def action_do_quotes(self) -> None:
        """Show all quotes, or hide them."""
        panel = self.query_one(QuotePanel)
        panel.display = not panel.display
        self.show_quotes()
        self.call_after_refresh(self.show_quotes)

    def action_do_around(self) -> None:
        """Show what stands around the current quote."""
        if self.transcript.current_quote is None:
            self.transcript.move_quote(1)
        self._around = not self._around
        if self._around:
            self.query_one(QuotePanel).display = True
        self.show_quotes()

    def on_transcript_view_moved(self) -> None:
        """Another quote may be the current one."""
        self.show_quotes()

    def show_quotes(self) -> None:
        """Draw the list of quotes anew."""
        panel = self.query_one(QuotePanel)
        self.query_one("#side").set_class(bool(panel.display), "-open")
        if panel.display:
            current = self._current_quote()
            place = None if current is None else (current[0].id, current[1])
            panel.show(quotes_of(self.item), place, *self._surroundings(current))

    def _current_quote(self) -> tuple[Turn, int] | None:
        column, number = self.transcript.current_column(), self.transcript.current_quote
        found = [t for t in self.item.turns() if column is not None and t.id == column.key]
        return (found[0], number) if found and number is not None else None

    def _surroundings(self, current: tuple[Turn, int] | None) -> tuple[Text | None, str]:
        if not self._around or current is None:
            return None, ""
        protocol = self.item.transcript.debate.protocol
        context = None if protocol.judge_sees_source else protocol.quote_context
        if context == 0:
            return None, "    This protocol shows you no more of the source than the quotes."
        source = self.item.transcript.question.source
        around = surroundings(current[0].quotes[current[1]], source, context)
        return around, "" if around is not None else "    It was not found in the source."

    def action_do_source(self) -> None:
        """Show the source, where that is allowed."""
        source = self.item.transcript.question.source
        if source is None:
            self.say("This question has no source.")
        elif not self.item.transcript.debate.protocol.judge_sees_source:
            self.say("This protocol does not show you the source.")
        else:
            self.app.push_screen(SourceScreen(source))

    @work
    async def action_do_search(self) -> None:
        """Look for words."""
        needle = await self.app.push_screen_wait(LineScreen("Search", self.transcript.needle))
        if needle is not None:
            number = self.transcript.search(needle)
            keys = f"{self.key('match_next')} and {self.key('match_previous')} move"
            self.say(f"{number} matches; {keys}." if number else "Not found.")

    def action_do_match_next(self) -> None:
        """Go to the next match."""
        self.transcript.next_match(1)

    def action_do_match_previous(self) -> None:
        """Go to the match before."""
        self.transcript.next_match(-1)

    def action_do_help(self) -> None:
        """All keys."""
        self.app.push_screen(RatingKeysScreen(self.NAMES, self.desk.settings.keys))

    def action_do_theme(self) -> None:
        """Light or dark."""
        self.app.theme = "textual-light" if self.app.current_theme.dark else "textual-dark"


class RatingKeysScreen(KeysScreen):
    """All keys of a rating screen."""

    def compose(self) -> ComposeResult:
        """Two columns of keys."""
        table = Text()
        half = (len(self._names) + 1) // 2
        for left in range(half):
            for name in self._names[left::half]:
                key = key_of(name, self._changes, RATING_KEYS)
                table.append(f"{f'{key:>6}  {RATING_KEYS[name][1]}':<34}")
            table.append("\n")
        table.append("\n   0–9  Answer by its digit           ↑↓ PgUp PgDn  Scroll")
        table.append("\nCtrl+Q  Leave; everything is kept")
        with Vertical(classes="dialog"):
            yield Static(Text("Keys", style="bold"))
            yield VerticalScroll(Static(table))
            yield Static(Text("Esc goes back"), classes="keys")
