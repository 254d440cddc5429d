"""What the queues of judging and rating share: a list of items, a filter, and a line about them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.widgets import DataTable, Footer, Static

from oversight.errors import OversightError
from oversight.judging.desk import ORDER, fits
from oversight.store.queue import ItemState, QueueItem, Taken
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

REASON_OF_TAKEN = {
    Taken.ENOUGH: "Others have taken it up meanwhile.",
    Taken.ELSEWHERE: "It is open in another window, or being run by another program.",
}


Item = TypeVar("Item", QueueItem, RatingItem)


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


class ItemsScreen(RoomyScreen[None], Generic[Item]):
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

    def __init__(self, judge: str, study: str, changed_keys: Mapping[str, str]) -> None:
        """A list for `judge`, in a study if that has a name."""
        super().__init__()
        self.num_sent = 0
        self._person = judge
        self._study = study
        self._changed_keys = changed_keys
        self._wanted = ""
        self._items: list[Item] = []
        self._widths: list[int] = []
        self._note = ""
        self._is_trouble = False
        self._note_row: int | None = None
        """The row at which a note was shown."""

    @abstractmethod
    def all_items(self) -> list[Item]:
        """What there is for this judge.

        Raises:
            OversightError: The store cannot be read.
        """

    @abstractmethod
    def cells(self, item: Item) -> list[Text]:
        """A row of the table, without the item's state: the first cell is the longest."""

    @abstractmethod
    def hint_for(self, item: Item | None) -> str:
        """What Enter does with the item under the cursor."""

    @abstractmethod
    def empty(self) -> str:
        """What is said where there is nothing, and how to come by something."""

    @abstractmethod
    def action_do_next(self) -> object:
        """Take up the item under the cursor, then the next ones until the judge comes back."""

    @abstractmethod
    async def put_off(self, item: Item, *, on: bool) -> None:
        """Skip an item, or take that back."""

    def state_of(self, item: Item) -> Text:
        """The sign of its state."""
        sign, style = SIGN_OF_STATE[item.state]
        return Text(sign, style=style)

    def by_what(self) -> Text:
        """What else is said of the work, behind the judge and the study."""
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
            found = self.all_items()
        except OversightError as error:
            self._say(str(error), trouble=True)
            return
        fitting = [each for each in found if self.fits(each)]
        self._items = sorted(fitting, key=lambda each: ORDER.index(each.state))
        self._show_items(self.size.width)
        self.query_one(DataTable).move_cursor(row=self.first_row())
        self._show_summary(found)
        self._say_all()
        self._note_row = self.query_one(DataTable).cursor_row if self._note else None
        self._note, self._is_trouble = "", False

    def _show_items(self, width: int) -> None:
        table = self.query_one(DataTable)
        table.clear(columns=True)
        rows = [self.cells(each) for each in self._items]
        widths = self._widths = fitted(self.COLUMNS, rows, width, self.WHOLE)
        table.add_column(" ", width=STATE_WIDTH)
        for name, room in zip(self.COLUMNS, widths, strict=True):
            table.add_column(name, width=room)
        for each, cells in zip(self._items, rows, strict=True):
            for cell, room in zip(cells, widths, strict=True):
                cell.truncate(room, overflow="ellipsis")
            table.add_row(self.state_of(each), *cells, key=each.key)

    def fits(self, item: Item) -> bool:
        """Whether it has the words of the filter."""
        return fits(item, self._wanted)

    def _show_summary(self, found: list[Item]) -> None:
        whole = Text("You are ").append_text(rich_text(self._person, "bold"))
        if self._study:
            whole.append(" in study ").append_text(rich_text(self._study))
        whole.append_text(self.by_what()).append(f"\n{self.num_sent} sent now")
        for state in ItemState:
            number = sum(each.state is state for each in found)
            whole.append(f" · {SIGN_OF_STATE[state][0]} {number} {state.value}")
        if self._wanted:
            whole.append("\nFilter: ", style="yellow").append_text(rich_text(self._wanted))
        self.query_one("#summary", Static).update(whole)

    def _cut_in_row(self) -> list[str]:
        """Return the cells that are cut in the row under the cursor, but for the question."""
        item = self.under_cursor()
        if item is None:
            return []
        cells = zip(self.cells(item)[1:], self._widths[1:], strict=True)
        return [cell.plain for cell, room in cells if cell.cell_len > room]

    def _hint(self) -> str:
        if self._items:
            hint = self.hint_for(self.under_cursor())
            return " · ".join([hint, *self._cut_in_row()])
        if self._wanted:
            return f"Nothing fits the filter; {self.key('filter')} changes it."
        return self.empty()

    def first_row(self) -> int:
        """The row at which the cursor stands in a list that was just read."""
        return 0

    def _say_all(self) -> None:
        """Say the note, and after it what is to be done; what is wrong stands alone."""
        words = self._note if self._is_trouble else f"{self._note} {self._hint()}".strip()
        self._say(words, trouble=self._is_trouble)

    def note(self, words: str, *, trouble: bool = False) -> None:
        """Say it when the queue is shown again, until the cursor moves."""
        self._note, self._is_trouble = words, trouble

    def take_note(self) -> str:
        """What was to be said, for another screen to say."""
        note, self._note = self._note, ""
        return note

    def _say(self, words: str, *, trouble: bool = False) -> None:
        hint = self.query_one("#hint", Static)
        hint.set_class(trouble, "-trouble")
        hint.update(rich_text(words))
        self.show_foot()

    def offers(self, name: str) -> bool:
        """Whether the key of that name does something now."""
        chosen = self.under_cursor()
        if name == "next":
            return chosen is not None
        return name != "skip" or (chosen is not None and chosen.state is not ItemState.DONE)

    def under_cursor(self) -> Item | None:
        """The item that Enter takes up."""
        row = self.query_one(DataTable).cursor_row
        return self._items[row] if 0 <= row < len(self._items) else None

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
        await self.put_off(chosen, on=chosen.state is not ItemState.SKIPPED)
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
        self.app.push_screen(KeysScreen(self.NAMES, self._changed_keys, self.KEYS, self.FOOT))

    def action_do_theme(self) -> None:
        """Light or dark."""
        self.app.theme = "textual-light" if self.app.current_theme.dark else "textual-dark"

    def action_do_back(self) -> None:
        """Leave."""
        self.app.exit()
