"""Base of the screens that show turns: the transcript, its quotes, and moving about in them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Static

from oversight.judging.items import PersonAction, RefusedAction
from oversight.judging.session import ItemSession
from oversight.text.terminal import visible
from oversight.tui.keys import KEYS, Keys, key_of
from oversight.tui.marking import mark_unfinished
from oversight.tui.screens.dialogs import KeysScreen, LineScreen, RoomyScreen
from oversight.tui.widgets.panels import ListedQuote, QuotePanel, styled_excerpt
from oversight.tui.widgets.seen import SeenTranscript
from oversight.tui.widgets.transcript import Column, TranscriptRow, TranscriptView
from oversight.types import Source, Turn


class SourceScreen(ModalScreen[None]):
    """Scrolls and searches a source."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,w", "leave", "Back"),
        Binding("slash", "search", "Search"),
        Binding("n", "match(1)", "Next match"),
        Binding("N", "match(-1)", "Earlier match"),
    ]

    def __init__(self, source: Source) -> None:
        """A screen over `source`."""
        super().__init__()
        self._source = source

    def compose(self) -> ComposeResult:
        """The source and nothing else."""
        yield TranscriptView(id="source")

    def on_mount(self) -> None:
        """Show it."""
        title = visible(self._source.title, newlines=False) or "The source"
        heading = f"{title} · / searches · Esc goes back"
        column = Column("source", heading, "heading-judge", mark_unfinished(self._source.text))
        view = self.query_one(TranscriptView)
        view.set_rows([TranscriptRow(0, [column])])
        view.focus()

    @work
    async def action_search(self) -> None:
        """Look for words."""
        view = self.query_one(TranscriptView)
        needle = await self.app.push_screen_wait(LineScreen("Search", view.needle))
        if needle is not None:
            view.search(needle)

    def action_match(self, by: int) -> None:
        """Go to the next match, or the one before."""
        self.query_one(TranscriptView).next_match(by)

    def action_leave(self) -> None:
        """Go back."""
        self.dismiss(None)


T = TypeVar("T")

MOST_QUESTION_LINES = 8
"""As many as `#question` in judge.tcss has."""


class QuestionHead(Static):
    """Question and options above the turns; of long ones the beginning, and the key to the rest."""

    def __init__(self) -> None:
        super().__init__(id="question")
        self.whole = Text()
        self._rest = ""
        self._fitted_to = 0

    def show(self, whole: Text, key: str) -> None:
        """Show `whole`, or as much as there is room for; `key` shows all of it."""
        self.whole, self._rest = whole, f"… {key} shows the question and the options in full"
        self._fitted_to = 0
        self.update(whole)
        self.on_resize()

    def on_resize(self) -> None:
        """Fit it to the width."""
        width = self.content_size.width
        if width in (0, self._fitted_to):
            return
        self._fitted_to = width
        lines = self.whole.wrap(self.app.console, width)
        if len(lines) > MOST_QUESTION_LINES:
            seen = Text("\n").join(lines[: MOST_QUESTION_LINES - 1])
            self.update(seen.append(f"\n{self._rest}", style="bold italic"))
        else:
            self.update(self.whole)


class ReadingScreen(RoomyScreen[T]):
    """Turns to be read."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - Textual's own form

    KEYS: ClassVar[Keys] = KEYS
    """All keys of this application."""
    NAMES: ClassVar[tuple[str, ...]]
    """Names of the keys of this screen."""
    FOOT: ClassVar[Sequence[str]]
    """Lines below the list of keys."""

    def __init__(self, session: ItemSession, changed_keys: Mapping[str, str]) -> None:
        """A screen over a session at an item, whose keys are changed so."""
        super().__init__()
        self.session = session
        self._changed_keys = changed_keys
        self._around = False
        self._panels: list[str] = []
        """Ids of panels that are open, the one opened last at the end."""

    @abstractmethod
    def shown_turns(self) -> Sequence[Turn]:
        """The turns that have been revealed."""

    @abstractmethod
    def listed_quotes(self) -> list[ListedQuote]:
        """Quotes for the list of them."""

    @abstractmethod
    def say(self, note: str) -> None:
        """Show a note until the next act."""

    @abstractmethod
    def refuse(self, refusal: RefusedAction) -> None:
        """Say why something was not done."""

    def show_panels(self) -> None:
        """Draw the panels beside the transcript anew."""
        self.show_quotes()

    # --- what is on it ---------------------------------------------------------------

    def show_question(self, whole: Text) -> None:
        """Show the question with its options above the turns."""
        self.query_one(QuestionHead).show(whole, self.key("question"))

    def action_do_question(self) -> None:
        """Show the question and its options in full, however long."""
        text = self.query_one(QuestionHead).whole.plain
        self.app.push_screen(SourceScreen(Source(title="The question", text=text)))

    @property
    def transcript(self) -> SeenTranscript:
        """The transcript."""
        return self.query_one("#transcript", SeenTranscript)

    def key(self, name: str) -> str:
        """A key as one would say it."""
        return key_of(name, self._changed_keys, self.KEYS)

    def current_turn(self) -> Turn | None:
        """The turn that the reader is at."""
        column = self.transcript.current_column()
        found = [t for t in self.shown_turns() if column is not None and t.id == column.key]
        return found[0] if found else None

    def current_quote(self) -> tuple[Turn, int] | None:
        """The quote that the reader is at: a turn, and the index of one of its quotes."""
        turn, number = self.current_turn(), self.transcript.current_quote
        return None if turn is None or number is None else (turn, number)

    def show_quotes(self, *, also_open: bool = False) -> None:
        """Draw the list of quotes anew; `also_open` keeps its side of the screen open."""
        panel = self.query_one(QuotePanel)
        self.query_one("#side").set_class(bool(panel.display) or also_open, "-open")
        if panel.display:
            current = self.current_quote()
            place = None if current is None else (current[0].id, current[1])
            panel.show(self.listed_quotes(), place, *self._surroundings(current))

    def _surroundings(self, current: tuple[Turn, int] | None) -> tuple[Text | None, str]:
        if not self._around or current is None:
            return None, ""
        found = self.session.source_around(current[0].quotes[current[1]])
        if isinstance(found, RefusedAction):
            return None, found.said({})
        return styled_excerpt(found), ""

    def open_panel(self, id: str) -> None:
        """Show a panel beside the transcript."""
        if id not in self._panels:
            self._panels.append(id)
        self.query_one(f"#{id}").display = True
        self.show_panels()

    def close_panel(self, id: str | None = None) -> bool:
        """Hide a panel, or the one that was opened last; true if there was one."""
        if not self._panels:
            return False
        closed = id or self._panels[-1]
        self._panels.remove(closed)
        self.query_one(f"#{closed}").display = False
        self.show_panels()
        return True

    # --- moving about ------------------------------------------------------------------

    def action_do_turn_next(self) -> None:
        """Go to the next turn."""
        self.transcript.move_turn(1)

    def action_do_turn_previous(self) -> None:
        """Go to the turn before."""
        self.transcript.move_turn(-1)

    def action_do_quote_next(self) -> None:
        """Go to the next quote."""
        self.transcript.move_quote(1)

    def action_do_quote_previous(self) -> None:
        """Go to the quote before."""
        self.transcript.move_quote(-1)

    def action_do_fold(self) -> None:
        """Fold the current turn."""
        self.transcript.fold()

    def action_do_fold_all(self) -> None:
        """Fold all turns."""
        self.transcript.fold_all()

    def on_transcript_view_moved(self) -> None:
        """Another quote may be the current one."""
        self.show_panels()

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

    def action_do_source(self) -> None:
        """Show the source, where that is allowed."""
        refusal, source = (
            self.session.refusal(PersonAction.READ_SOURCE),
            self.session.transcript.question.source,
        )
        if refusal is not None:
            self.refuse(refusal)
        elif source is not None:
            self.app.push_screen(SourceScreen(source))

    def action_do_quotes(self) -> None:
        """Show all quotes, or hide them."""
        if "quotes" in self._panels:
            self.close_panel("quotes")
        else:
            self.open_panel("quotes")

    def action_do_around(self) -> None:
        """Show the source around the current quote."""
        if self.transcript.current_quote is None:
            self.transcript.move_quote(1)
        self._around = not self._around
        if self._around:
            self.open_panel("quotes")
        self.show_panels()

    def action_do_help(self) -> None:
        """All keys."""
        self.app.push_screen(KeysScreen(self.NAMES, self._changed_keys, self.KEYS, self.FOOT))

    def action_do_theme(self) -> None:
        """Light or dark."""
        self.app.theme = "textual-light" if self.app.current_theme.dark else "textual-dark"
