"""The queue: what waits for this judge, what was begun, put off and done."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import DataTable, Footer, Static

from oversight.errors import OversightError
from oversight.judging.assisting import Assistants
from oversight.judging.desk import Desk
from oversight.store.queue import ItemState, QueueItem, Taken
from oversight.text.terminal import rich_text
from oversight.tui.keys import KEYS, bindings, key_of
from oversight.tui.screens.debate import FOOT, DebateScreen, Left
from oversight.tui.screens.dialogs import KeysScreen, LineScreen
from oversight.tui.screens.roomy import RoomyScreen

SIGN_OF_STATE = {
    ItemState.WAITING: ("○", ""),
    ItemState.BEGUN: ("◐", "bold yellow"),
    ItemState.SKIPPED: ("↷", "dim"),
    ItemState.DONE: ("●", "green"),
}

REASON_OF_TAKEN = {
    Taken.ENOUGH: "Others have taken it up meanwhile.",
    Taken.ELSEWHERE: "It is open in another window, or being run by another program.",
}

NAMES = ("next", "skip", "filter", "theme", "help", "back")

ORDER = (ItemState.BEGUN, ItemState.WAITING, ItemState.SKIPPED, ItemState.DONE)
"""States in the order in which their items are listed."""


class QueueScreen(RoomyScreen[None]):
    """Lists items; the one under the cursor is judged next."""

    BINDINGS: ClassVar[list[BindingType]] = list(bindings(NAMES))

    def __init__(self, desk: Desk, assistants: Assistants) -> None:
        super().__init__()
        self.desk = desk
        self.assistants = assistants
        self.num_sent = 0
        self._wanted = ""
        self._items: list[QueueItem] = []
        self._note = ""
        self._is_trouble = False
        self._note_row: int | None = None
        """The row at which a note was shown."""

    def compose(self) -> ComposeResult:
        """A line of progress, the table, a hint, the keys."""
        yield Static(id="too-small")
        yield Static(id="summary")
        yield DataTable(id="items", cursor_type="row", zebra_stripes=True)
        yield Static(id="hint")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """List what there is."""
        table = self.query_one(DataTable)
        table.add_columns(" ", "Question", "Protocol", "Data set", "Judges")
        self.refresh_items()
        table.focus()

    def on_screen_resume(self) -> None:
        """Others may have judged meanwhile."""
        if self.is_mounted:
            self.refresh_items()

    def refresh_items(self) -> None:
        """Read the queue anew."""
        try:
            found = self.desk.queue()
        except OversightError as error:
            self._say(str(error), trouble=True)
            return
        fitting = [each for each in found if self._fits(each)]
        self._items = sorted(fitting, key=lambda each: ORDER.index(each.state))
        table = self.query_one(DataTable)
        table.clear()
        for each in self._items:
            table.add_row(*_cells(each, self.size.width), key=each.debate_id)
        self._show_summary(found)
        self._say(self._note or self._hint(), trouble=self._is_trouble)
        self._note_row = table.cursor_row if self._note else None
        self._note, self._is_trouble = "", False

    def _fits(self, item: QueueItem) -> bool:
        words = f"{item.question} {item.protocol} {item.dataset} {item.state.value}".casefold()
        return self._wanted.casefold() in words

    def _show_summary(self, found: list[QueueItem]) -> None:
        counts = {state: sum(each.state is state for each in found) for state in ItemState}
        whole = Text("You are ").append_text(rich_text(self.desk.judge, "bold"))
        study = self.desk.settings.name
        if study:
            whole.append(" in study ").append_text(rich_text(study))
        whole.append(f"\n{self.num_sent} sent now")
        for state, noun in (
            (ItemState.WAITING, "waiting"),
            (ItemState.BEGUN, "begun"),
            (ItemState.SKIPPED, "skipped"),
            (ItemState.DONE, "done"),
        ):
            whole.append(f" · {SIGN_OF_STATE[state][0]} {counts[state]} {noun}")
        if self._wanted:
            whole.append("\nFilter: ", style="yellow").append_text(rich_text(self._wanted))
        self.query_one("#summary", Static).update(whole)

    def _hint(self) -> str:
        keys = self.desk.settings.keys
        if not self._items:
            if self._wanted:
                return f"Nothing fits the filter; {key_of('filter', keys)} changes it."
            return (
                "Nothing to judge in this store. `oversight debate` runs debates; with "
                "--judge human they wait for you."
            )
        enter, chosen = key_of("next", keys), self._under_cursor()
        if chosen is None:
            return f"{enter} judges the item under the cursor."
        name = " ".join(chosen.question.split())
        if chosen.live:
            return f"{enter} goes on, live (▸): {name}"
        return f"{enter} judges: {name}"

    def _say(self, note: str, *, trouble: bool = False) -> None:
        hint = self.query_one("#hint", Static)
        hint.set_class(trouble, "-trouble")
        hint.update(rich_text(note))

    def _under_cursor(self) -> QueueItem | None:
        row = self.query_one(DataTable).cursor_row
        return self._items[row] if 0 <= row < len(self._items) else None

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Say what Enter does with the row; a note stays until the cursor moves."""
        if event.cursor_row != self._note_row:
            self._note_row = None
            self._say(self._hint())

    def on_data_table_row_selected(self) -> None:
        """Enter, or a click, on a row."""
        self.action_do_next()

    @work(exclusive=True)
    async def action_do_next(self) -> None:
        """Judge the item under the cursor, then the next ones until the judge comes back."""
        chosen = self._under_cursor()
        debate_id = None if chosen is None else chosen.debate_id
        while debate_id is not None:
            where = await self._judge(debate_id)
            self.refresh_items()
            if where != "next":
                return
            following = await self._next_free(debate_id)
            if following is None:
                self._note = "That was the last one that waits."
                self.refresh_items()
            debate_id = following

    async def _judge(self, debate_id: str) -> Left:
        try:
            item, taken = self.desk.take(debate_id)
        except OversightError as error:
            self._note, self._is_trouble = str(error), True
            return "queue"
        if item is None:
            self._note = REASON_OF_TAKEN[taken]
            return "queue"
        before = item.acts.work.num_sent
        where: Left = await self.app.push_screen_wait(
            DebateScreen(self.desk, item, self.assistants)
        )
        self.num_sent += item.acts.work.num_sent > before
        return where

    async def _next_free(self, after: str) -> str | None:
        for state in (ItemState.BEGUN, ItemState.WAITING):
            for each in self.desk.queue():
                if each.state is state and each.debate_id != after and self._fits(each):
                    return each.debate_id
        return None

    async def action_do_skip(self) -> None:
        """Put the item under the cursor off, or take that back."""
        chosen = self._under_cursor()
        if chosen is None or chosen.state is ItemState.DONE:
            return
        await self.desk.skip(chosen.debate_id, on=chosen.state is not ItemState.SKIPPED)
        self.refresh_items()

    @work
    async def action_do_filter(self) -> None:
        """List only what has these words."""
        wanted = await self.app.push_screen_wait(
            LineScreen("Show only items with these words", self._wanted)
        )
        if wanted is not None:
            self._wanted = wanted
            self.refresh_items()

    def action_do_help(self) -> None:
        """All keys."""
        self.app.push_screen(KeysScreen(NAMES, self.desk.settings.keys, KEYS, FOOT))

    def action_do_theme(self) -> None:
        """Light or dark."""
        self.app.theme = "textual-light" if self.app.current_theme.dark else "textual-dark"

    def action_do_back(self) -> None:
        """Leave."""
        self.app.exit()


def _cells(item: QueueItem, width: int) -> list[Text]:
    sign, style = SIGN_OF_STATE[item.state]
    state = Text(sign, style=style)
    if item.live:
        state.append("▸", style="bold red")
    room = max(width - 48, 20)
    question = rich_text(" ".join(item.question.split()))
    question.truncate(room, overflow="ellipsis", pad=False)
    judges = Text(str(item.num_judges), justify="right")
    return [state, question, rich_text(item.protocol), rich_text(item.dataset), judges]
