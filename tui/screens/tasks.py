"""The queue of those who rate: what waits, what was begun, put off and done."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import DataTable, Footer, Static

from oversight.agents.speaking import speaker_name
from oversight.errors import OversightError
from oversight.judging.tasks.desk import TaskDesk, TaskItem
from oversight.store.queue import ItemState
from oversight.store.rating_queue import RatingItem
from oversight.text.terminal import rich_text
from oversight.tui.keys import RATING_KEYS, RATING_SHOWN, bindings, key_of
from oversight.tui.screens.compare import CompareScreen
from oversight.tui.screens.dialogs import KeysScreen, LineScreen
from oversight.tui.screens.principles import PrinciplesScreen
from oversight.tui.screens.queue import ORDER, REASON_OF_TAKEN, SIGN_OF_STATE
from oversight.tui.screens.revisions import RevisionsScreen
from oversight.tui.screens.roomy import RoomyScreen
from oversight.tui.screens.task import Left, TaskScreen
from oversight.tui.screens.task_reading import FOOT
from oversight.types import RatingAct, Role, Task

SCREEN_OF_TASK: dict[Task, type[TaskScreen]] = {
    Task.PAIRS: CompareScreen,
    Task.PRINCIPLES: PrinciplesScreen,
    Task.REVISIONS: RevisionsScreen,
}

EMPTY_OF_TASK = {
    Task.PAIRS: (
        "No pairs in this store. First run debates in which each speech is the best of several "
        "candidates: oversight debate --protocol debate_single_turn_best_of_n"
    ),
    Task.PRINCIPLES: "No speeches in this store. Run debates first: oversight debate",
    Task.REVISIONS: (
        "No revisions in this store. Run debates in which a critic speaks first: "
        "oversight debate --protocol critique"
    ),
}

ONE_OF_TASK = {Task.PAIRS: "pair", Task.PRINCIPLES: "response", Task.REVISIONS: "revision"}

OTHER_CELLS = 19
"""Of a row, beside question, speaker and protocol: state, raters, padding, a scroll bar."""

NAMES = ("next", "previous", "skip", "filter", "theme", "help", "back")


class TasksScreen(RoomyScreen[None]):
    """Lists items; the one under the cursor is rated next."""

    BINDINGS: ClassVar[list[BindingType]] = list(bindings(NAMES, RATING_KEYS, RATING_SHOWN))

    def __init__(self, desk: TaskDesk) -> None:
        """The queue of a desk."""
        super().__init__()
        self.desk = desk
        self.num_sent = 0
        self._last_sent: RatingItem | None = None
        self._wanted = ""
        self._items: list[RatingItem] = []
        self._note = ""
        self._is_trouble = False

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
        table.add_columns(" ", "Question", "Speaker", "Protocol", "Raters")
        self.refresh_items()
        table.focus()

    def on_screen_resume(self) -> None:
        """Others may have rated meanwhile."""
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
            table.add_row(*_cells(each, self.size.width), key=each.key)
        self._show_summary(found)
        self._say(self._note or self._hint(), trouble=self._is_trouble)
        self._note, self._is_trouble = "", False

    def _fits(self, item: RatingItem) -> bool:
        words = f"{item.question} {item.protocol} {item.dataset} {item.state.value}".casefold()
        return self._wanted.casefold() in words

    def _show_summary(self, found: list[RatingItem]) -> None:
        whole = Text("You are ").append_text(rich_text(self.desk.judge, "bold"))
        if self.desk.settings.name:
            whole.append(" in study ").append_text(rich_text(self.desk.settings.name))
        if self.desk.constitution is not None:
            whole.append(" · by ").append_text(rich_text(self.desk.constitution.name, "bold"))
        whole.append(f"\n{self.num_sent} sent now")
        for state in (ItemState.WAITING, ItemState.BEGUN, ItemState.SKIPPED, ItemState.DONE):
            number = sum(each.state is state for each in found)
            whole.append(f" · {SIGN_OF_STATE[state][0]} {number} {state.value}")
        if self._wanted:
            whole.append("\nFilter: ", style="yellow").append_text(rich_text(self._wanted))
        self.query_one("#summary", Static).update(whole)

    def _key(self, name: str) -> str:
        return key_of(name, self.desk.settings.keys, RATING_KEYS)

    def _hint(self) -> str:
        if self._items:
            one = ONE_OF_TASK[self.desk.task]
            return f"{self._key('next')} takes the {one} under the cursor, and then the next ones."
        if self._wanted:
            return f"Nothing fits the filter; {self._key('filter')} changes it."
        return EMPTY_OF_TASK[self.desk.task]

    def _say(self, note: str, *, trouble: bool = False) -> None:
        hint = self.query_one("#hint", Static)
        hint.set_class(trouble, "-trouble")
        hint.update(rich_text(note))

    def _under_cursor(self) -> RatingItem | None:
        row = self.query_one(DataTable).cursor_row
        return self._items[row] if 0 <= row < len(self._items) else None

    def on_data_table_row_selected(self) -> None:
        """Enter, or a click, on a row."""
        self.action_do_next()

    @work(exclusive=True)
    async def action_do_next(self) -> None:
        """Rate the item under the cursor, then the next ones until the judge comes back."""
        chosen = self._under_cursor()
        if chosen is not None:
            await self._rate_on(chosen)

    @work(exclusive=True)
    async def action_do_previous(self) -> None:
        """Back to the one that was sent last."""
        if self._last_sent is None:
            self._say("Nothing was sent in this session.")
        else:
            await self._rate_on(self._last_sent, reopen=True)

    async def _rate_on(self, first: RatingItem, *, reopen: bool = False) -> None:
        try:
            item, taken = self.desk.take(first)
            if item is None:
                self._note = REASON_OF_TAKEN[taken]
            while item is not None:
                item, reopen = await self._rate(item, reopen=reopen)
        except OversightError as error:
            self._note, self._is_trouble = str(error), True
        self.refresh_items()

    async def _rate(self, item: TaskItem, *, reopen: bool) -> tuple[TaskItem | None, bool]:
        """Rate one item; the next one, and whether it is to be reopened."""
        if reopen and not item.acts.work.is_open:
            item.acts.add(RatingAct.REOPENED)
        before = item.acts.work.num_sent
        screen = SCREEN_OF_TASK[self.desk.task](self.desk, item, self._note)
        self._note = ""
        where: Left = await self.app.push_screen_wait(screen)
        if item.acts.work.num_sent > before:
            self.num_sent += 1
            self._last_sent = item.item
            self._note = f"✓ {self.num_sent} sent. {self._key('previous')} goes back to it."
        if where == "queue":
            return None, False
        if where == "previous" and self._last_sent is not None:
            again, taken = self.desk.take(self._last_sent)
            if again is None:
                self._note = REASON_OF_TAKEN[taken]
            return again, True
        if where == "previous":
            self._note = "Nothing was sent in this session."
            return self.desk.take(item.item)[0], False
        following = self.desk.take_next(item.item.key)
        if following is None:
            self._note = f"That was the last one that waits. {self.num_sent} sent now."
        return following, False

    async def action_do_skip(self) -> None:
        """Put the item under the cursor off, or take that back."""
        chosen = self._under_cursor()
        if chosen is None or chosen.state is ItemState.DONE:
            return
        await self.desk.skip(chosen, on=chosen.state is not ItemState.SKIPPED)
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
        self.app.push_screen(KeysScreen(NAMES, self.desk.settings.keys, RATING_KEYS, FOOT))

    def action_do_theme(self) -> None:
        """Light or dark."""
        self.app.theme = "textual-light" if self.app.current_theme.dark else "textual-dark"

    def action_do_back(self) -> None:
        """Leave."""
        self.app.exit()


def _cells(item: RatingItem, width: int) -> list[Text]:
    sign, style = SIGN_OF_STATE[item.state]
    question, protocol = rich_text(" ".join(item.question.split())), rich_text(item.protocol)
    speaker = Text(f"{_speaker(item)}, step {item.step + 1}")
    room = width - speaker.cell_len - OTHER_CELLS
    protocol.truncate(room // 3, overflow="ellipsis")
    question.truncate(max(room - protocol.cell_len, 20), overflow="ellipsis")
    raters = Text(str(item.num_judges), justify="right")
    return [Text(sign, style=style), question, speaker, protocol, raters]


def _speaker(item: RatingItem) -> str:
    """Who speaks; in the queue the role is not known but by the task."""
    if item.task is Task.REVISIONS:
        return speaker_name(item.seat, Role.CONSULTANT)
    return f"Seat {item.seat.value.upper()}"
