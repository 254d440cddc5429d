"""What screens that show a debate share: the transcript, its quotes, and moving about in them."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from rich.text import Text
from textual import work
from textual.binding import BindingType
from textual.screen import Screen
from textual.widgets import Static

from oversight.judging.desk import Desk, Item
from oversight.judging.log import JudgingLog
from oversight.text.terminal import rich_text, visible
from oversight.tui.keys import KEYS, bindings, key_of
from oversight.tui.marking import mark
from oversight.tui.rows import listed_quotes, options_of
from oversight.tui.screens.dialogs import KeysScreen, LineScreen
from oversight.tui.screens.source import SourceScreen
from oversight.tui.widgets.quotes import QuotePanel, surroundings
from oversight.tui.widgets.transcript import TranscriptView
from oversight.types import Turn

T = TypeVar("T")

NAMES = tuple(name for name in KEYS if name != "filter")


class ReadingScreen(Screen[T]):
    """A debate to be read."""

    BINDINGS: ClassVar[list[BindingType]] = list(bindings(NAMES))
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - Textual's own form

    def __init__(self, desk: Desk, item: Item) -> None:
        """A screen over `item`."""
        super().__init__()
        self.desk = desk
        self.item = item
        self.acts: JudgingLog = item.acts
        self._around = False

    # --- what is on it ---------------------------------------------------------------

    @property
    def transcript(self) -> TranscriptView:
        """The transcript."""
        return self.query_one("#transcript", TranscriptView)

    @property
    def stepped(self) -> bool:
        """Whether recorded turns are revealed step by step."""
        return self.desk.settings.stepped

    def question_text(self) -> Text:
        """Question and options."""
        question, protocol = self.item.transcript.question, self.item.transcript.debate.protocol
        whole = Text().append_text(rich_text(question.text, "bold"))
        whole.append("   ").append_text(rich_text(protocol.name, "dim"))
        for label, text, _ in options_of(self.item):
            whole.append(f"\n{label}  ", style="bold")
            whole.append_text(rich_text(" ".join(text.split())))
        return whole

    def shown_turns(self) -> tuple[Turn, ...]:
        """The turns that have been revealed."""
        return self.item.shown(stepped=self.stepped)

    def current_turn(self) -> Turn | None:
        """The turn that the reader is at."""
        column = self.transcript.current_column()
        found = [t for t in self.shown_turns() if column is not None and t.id == column.key]
        return found[0] if found else None

    def show_quotes(self, *, also_open: bool = False) -> None:
        """Draw the list of quotes anew; `also_open` keeps its side of the screen open."""
        quotes = self.query_one(QuotePanel)
        self.query_one("#side").set_class(quotes.display or also_open, "-open")
        if quotes.display:
            turn, number = self.current_turn(), self.transcript.current_quote
            current = None if turn is None or number is None else (turn.id, number)
            around, refusal = self._surroundings(turn, number)
            listed = listed_quotes(self.item, self.shown_turns())
            quotes.show(listed, current, around, refusal)

    def show_panels(self) -> None:
        """Draw the panels beside the transcript anew."""
        self.show_quotes()

    def _surroundings(self, turn: Turn | None, number: int | None) -> tuple[Text | None, str]:
        if not self._around or turn is None or number is None:
            return None, ""
        protocol = self.item.transcript.debate.protocol
        context = None if protocol.judge_sees_source else protocol.quote_context
        if context == 0:
            return None, "    This protocol shows the judge no more of the source than the quotes."
        source = self.item.transcript.question.source
        around = surroundings(turn.quotes[number], source, context)
        return around, "" if around is not None else "    It was not found in the source."

    def key(self, name: str) -> str:
        """A key as one would say it."""
        return key_of(name, self.desk.settings.keys)

    def say(self, note: str) -> None:
        """Show a note in the hint's place."""
        self.query_one("#hint", Static).update(rich_text(note))

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

    def action_do_copy(self) -> None:
        """Copy the current quote, or the current turn."""
        turn, number = self.current_turn(), self.transcript.current_quote
        if turn is None:
            self.say(f"Nothing is chosen: {self.key('turn_next')} goes to a turn.")
            return
        text = mark(turn).text if number is None else visible(turn.quotes[number].text)
        self.app.copy_to_clipboard(text)
        self.say("Copied.")

    def may_read_source(self) -> bool:
        """Whether the protocol lets this person read the source."""
        return self.item.transcript.debate.protocol.judge_sees_source

    def action_do_source(self) -> None:
        """Show the source, where that is allowed."""
        source = self.item.transcript.question.source
        if source is None:
            self.say("This question has no source.")
        elif not self.may_read_source():
            self.say("This protocol does not show you the source.")
        else:
            self.app.push_screen(SourceScreen(source))

    def action_do_quotes(self) -> None:
        """Show all quotes, or hide them."""
        panel = self.query_one(QuotePanel)
        panel.display = not panel.display
        self.call_after_refresh(self.show_panels)
        self.show_panels()

    def action_do_around(self) -> None:
        """Show what stands around the current quote."""
        if self.transcript.current_quote is None:
            self.transcript.move_quote(1)
        self._around = not self._around
        if self._around:
            self.query_one(QuotePanel).display = True
        self.show_panels()

    def action_do_help(self) -> None:
        """All keys."""
        self.app.push_screen(KeysScreen(NAMES, self.desk.settings.keys))

    def action_do_theme(self) -> None:
        """Light or dark."""
        self.app.theme = "textual-light" if self.app.current_theme.dark else "textual-dark"
