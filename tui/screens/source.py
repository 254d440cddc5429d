"""The whole source, for those whom the protocol lets read it."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen

from oversight.text.terminal import visible
from oversight.tui.marking import mark_unfinished
from oversight.tui.screens.dialogs import LineScreen
from oversight.tui.widgets.transcript import Column, Row, TranscriptView
from oversight.types import Source


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
        view.set_rows([Row(0, [column])])
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
