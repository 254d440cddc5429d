"""Base of the queues of judging and rating: a list of items, a filter, and a line about them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Generic

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Static

from oversight.errors import OversightError
from oversight.judging.desk import AnyDesk, Listed, Named, Opened, Sent
from oversight.judging.items import RefusedAction
from oversight.judging.queue_session import LeftState, QueueSession, Where
from oversight.store.claims import ItemState, QueueItem
from oversight.store.rating_queue import RatingItem
from oversight.text.terminal import rich_text
from oversight.tui.keys import Keys, key_of
from oversight.tui.screens.dialogs import KeysScreen, LineScreen, RoomyScreen

SIGN_OF_STATE = {
    ItemState.WAITING: ("○", ""),
    ItemState.BEGUN: ("◐", "bold yellow"),
    ItemState.SKIPPED: ("↷", "dim"),
    ItemState.DONE: ("●", "green"),
}

STATE_WIDTH = 2
PADDING = 2
"""Cells of a column beside its own."""
SCROLL_BAR = 2
LEAST_WIDTH = 12
"""Of the first column."""
LONGEST_NAME = 240
"""Characters of a question in the hint, of whose lines there is room for six."""


def name_of(item: QueueItem | RatingItem) -> str:
    """The question of an item on one line, cut where it is longer than a hint may be."""
    name = " ".join(item.question.split())
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def fitted(
    names: Sequence[str],
    rows: Sequence[Sequence[Text]],
    width: int,
    whole: Collection[str] = (),
) -> list[int]:
    """Widths of columns that fit side by side: the widest of the others are cut until two fifths
    are left for the first one, and that takes what they leave. Columns in `whole` are not cut."""
    room = width - STATE_WIDTH - PADDING * (len(names) + 1) - SCROLL_BAR
    longest = [
        max([len(name), *(row[at].cell_len for row in rows)]) for at, name in enumerate(names)
    ]
    others = longest[1:]
    least = [
        most if name in whole else len(name)
        for name, most in zip(names[1:], longest[1:], strict=True)
    ]
    first = min(longest[0], 2 * room // 5)
    while room - sum(others) < first and others != least:
        widest = max(range(len(others)), key=lambda at: others[at] - least[at])
        others[widest] -= 1
    return [max(min(longest[0], room - sum(others)), LEAST_WIDTH), *others]


class ItemsTable(DataTable[Text], inherit_bindings=False):
    """A table whose rows fit its width: keys move by rows alone, Enter is the screen's."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "cursor_up", show=False),
        Binding("down", "cursor_down", show=False),
        Binding("pageup", "page_up", show=False),
        Binding("pagedown", "page_down", show=False),
        Binding("home,ctrl+home", "scroll_top", show=False),
        Binding("end,ctrl+end", "scroll_bottom", show=False),
    ]


class ItemsScreen(RoomyScreen[None], Generic[Listed, Named, Opened, Sent]):
    """Lists items; Enter takes up the one under the cursor."""

    COLUMNS: ClassVar[tuple[str, ...]]
    """Headings, after that of the state."""
    WHOLE: ClassVar[Collection[str]] = ()
    """Columns that are never cut: their ends are what tells rows apart."""
    KEYS: ClassVar[Keys]
    """All keys of this application."""
    NAMES: ClassVar[tuple[str, ...]]
    """Names of the keys of this screen."""
    FOOT: ClassVar[Sequence[str]]
    """Lines below the list of keys."""

    LEFT: ClassVar[Mapping[LeftState, str]] = {
        LeftState.SKIPPED: "Put off (↷).",
        LeftState.BEGUN: "Left; all you did is kept (◐).",
    }
    """Sentences about an item that was left without being sent."""

    def __init__(
        self,
        desk: AnyDesk[Listed, Named, Opened, Sent],
        study: str,
        changed_keys: Mapping[str, str],
    ) -> None:
        """The queue of a desk, in a study if that has a name."""
        super().__init__()
        self.queue: QueueSession[Listed, Named, Opened, Sent] = QueueSession(desk)
        self._study = study
        self._changed_keys = changed_keys
        self._widths: list[int] = []
        self._note = ""
        self._is_trouble = False
        self._note_row: int | None = None
        """The row at which a note was shown."""

    @abstractmethod
    def cells(self, item: Listed) -> list[Text]:
        """A row of the table, without the item's state: the first cell is the longest."""

    @abstractmethod
    def hint_for(self, item: Listed | None) -> str:
        """The effect of Enter on the item under the cursor."""

    @abstractmethod
    def empty(self) -> str:
        """The sentence shown for an empty store, with how to fill it."""

    @abstractmethod
    def screen_of(self, item: Opened, note: str) -> Screen[Where]:
        """The screen on which an item is done; `note` is said first."""

    def state_of(self, item: Listed) -> Text:
        """The sign of its state."""
        sign, style = SIGN_OF_STATE[item.state]
        return Text(sign, style=style)

    def summary_words(self) -> Text:
        """Words about the work, shown behind the judge and the study."""
        return Text()

    def key(self, name: str) -> str:
        """A key as one would say it."""
        return key_of(name, self._changed_keys, self.KEYS)

    # --- what is on it ---------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """A line of progress, the table, a hint, the keys."""
        yield Static(id="too-small")
        yield Static(id="summary")
        yield ItemsTable(id="items", cursor_type="row", zebra_stripes=True)
        yield Static(id="hint")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """List what there is."""
        self.refresh_items()
        self.query_one(DataTable).focus()

    def on_screen_resume(self) -> None:
        """Others may have worked on it meanwhile."""
        if self.is_mounted:
            self.refresh_items()

    def on_resize(self, event: Resize) -> None:
        """Rows are cut to the width."""
        table = self.query_one(DataTable)
        if event.size.width and table.columns:
            row = table.cursor_row
            self._show_items(event.size.width)
            table.move_cursor(row=row)

    def refresh_items(self) -> None:
        """Read the queue anew."""
        try:
            self.queue.refresh()
        except OversightError as error:
            self._say(str(error), trouble=True)
            return
        self._show_items(self.size.width)
        self.query_one(DataTable).move_cursor(row=self.first_row())
        self._show_summary()
        self._say_all()
        self._note_row = self.query_one(DataTable).cursor_row if self._note else None
        self._note, self._is_trouble = "", False

    def _show_items(self, width: int) -> None:
        table = self.query_one(DataTable)
        table.clear(columns=True)
        rows = [self.cells(each) for each in self.queue.items]
        widths = self._widths = fitted(self.COLUMNS, rows, width, self.WHOLE)
        table.add_column(" ", width=STATE_WIDTH)
        for name, room in zip(self.COLUMNS, widths, strict=True):
            table.add_column(name, width=room)
        for each, cells in zip(self.queue.items, rows, strict=True):
            for cell, room in zip(cells, widths, strict=True):
                cell.truncate(room, overflow="ellipsis")
            table.add_row(self.state_of(each), *cells, key=each.key)

    def _show_summary(self) -> None:
        judge = self.queue.desk.judge
        whole = Text("You are ").append_text(rich_text(judge, "bold"))
        if self._study:
            whole.append(" in study ").append_text(rich_text(self._study))
        whole.append_text(self.summary_words()).append(f"\n{self.queue.num_sent} sent now")
        for state in ItemState:
            number = self.queue.counts[state]
            whole.append(f" · {SIGN_OF_STATE[state][0]} {number} {state.value}")
        if self.queue.words:
            whole.append("\nFilter: ", style="yellow").append_text(rich_text(self.queue.words))
        self.query_one("#summary", Static).update(whole)

    def _cut_in_row(self) -> list[str]:
        """Return the cells that are cut in the row under the cursor, but for the question."""
        item = self.under_cursor()
        if item is None:
            return []
        cells = zip(self.cells(item)[1:], self._widths[1:], strict=True)
        return [cell.plain for cell, room in cells if cell.cell_len > room]

    def _hint(self) -> str:
        if self.queue.items:
            hint = self.hint_for(self.under_cursor())
            return " · ".join([hint, *self._cut_in_row()])
        if self.queue.words:
            return f"Nothing fits the filter; {self.key('filter')} changes it."
        return self.empty()

    def first_row(self) -> int:
        """That of the item that was left last, if it is begun: the next key goes on with it."""
        begun = [each.key for each in self.queue.items if each.state is ItemState.BEGUN]
        last = self.queue.last_left
        return begun.index(last) if last in begun else 0

    def _say_all(self) -> None:
        """Show the note, and after it the next thing to do; a trouble stands alone."""
        words = self._note if self._is_trouble else f"{self._note} {self._hint()}".strip()
        self._say(words, trouble=self._is_trouble)

    def note(self, words: str, *, trouble: bool = False) -> None:
        """Say it when the queue is shown again, until the cursor moves."""
        self._note, self._is_trouble = words, trouble

    def take_note(self) -> str:
        """The note that was to be said, for another screen to say."""
        note, self._note = self._note, ""
        return note

    def _say(self, words: str, *, trouble: bool = False) -> None:
        hint = self.query_one("#hint", Static)
        hint.set_class(trouble, "-trouble")
        hint.update(rich_text(words))
        self.show_foot()

    def offers(self, name: str) -> bool:
        """True if the key of that name does something now."""
        chosen = self.under_cursor()
        if name == "next":
            return chosen is not None
        return name != "skip" or (chosen is not None and chosen.state is not ItemState.DONE)

    def under_cursor(self) -> Listed | None:
        """The item that Enter takes up."""
        row = self.query_one(DataTable).cursor_row
        return self.queue.items[row] if 0 <= row < len(self.queue.items) else None

    # --- one item after another --------------------------------------------------------

    @work(exclusive=True)
    async def action_do_next(self) -> None:
        """Take up the item under the cursor, then the next ones until the judge comes back."""
        chosen = self.under_cursor()
        if chosen is not None:
            await self.work_from(chosen)

    async def work_from(self, first: Listed, *, reopen: bool = False) -> None:
        """Take up `first`, then the next ones until the judge comes back."""
        try:
            where = await self.queue.work(self, first, reopen=reopen)
        except OversightError as error:
            self.note(str(error), trouble=True)
        else:
            if where == "next":
                self.note(f"That was the last one that waits. {self.last_words()}".strip())
        self.refresh_items()

    async def work_on(self, item: Opened) -> Where:
        """Show an item until the judge leaves it."""
        where: Where = await self.app.push_screen_wait(self.screen_of(item, self.take_note()))
        return where

    def tell_left(self, item: Opened, how: LeftState) -> None:
        """Note what has become of an item that was left."""
        is_sent = how is LeftState.SENT
        self.note(self.queue.desk.told_after(item) if is_sent else self.LEFT.get(how, ""))

    def tell_refused(self, refusal: RefusedAction) -> None:
        """Note why an item could not be taken up."""
        self.note(refusal.said({}))

    def last_words(self) -> str:
        """Words for the end of a queue, behind that no more item waits."""
        return self.take_note()

    # --- keys ------------------------------------------------------------------------

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Say what Enter does with the row; a note stays until the cursor moves."""
        if event.cursor_row != self._note_row:
            self._note_row = None
            self._say(self._hint())

    def on_data_table_row_selected(self) -> None:
        """Enter, or a click, on a row."""
        self.action_do_next()

    async def action_do_skip(self) -> None:
        """Put the item under the cursor off, or take that back."""
        chosen = self.under_cursor()
        if chosen is None or chosen.state is ItemState.DONE:
            return
        await self.queue.skip(chosen, on=chosen.state is not ItemState.SKIPPED)
        self.refresh_items()

    @work
    async def action_do_filter(self) -> None:
        """List only what has these words."""
        wanted = await self.app.push_screen_wait(
            LineScreen("Show only items with these words", self.queue.words)
        )
        if wanted is not None:
            self.queue.words = wanted
            self.refresh_items()

    def action_do_help(self) -> None:
        """All keys."""
        self.app.push_screen(KeysScreen(self.NAMES, self._changed_keys, self.KEYS, self.FOOT))

    def action_do_theme(self) -> None:
        """Light or dark."""
        self.app.theme = "textual-light" if self.app.current_theme.dark else "textual-dark"

    def action_do_back(self) -> None:
        """Leave."""
        self.app.exit()
