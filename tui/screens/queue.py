"""The queue: what waits for this judge, what was begun, put off and done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.binding import BindingType

from oversight.errors import OversightError
from oversight.judging.assisting import Assistants
from oversight.judging.desk import STATES_IN_TURN, Desk, Item
from oversight.store.queue import ItemState, QueueItem
from oversight.text.terminal import rich_text
from oversight.tui.hints import withheld
from oversight.tui.keys import KEYS, Keys, bindings
from oversight.tui.screens.debate import FOOT, DebateScreen, Left
from oversight.tui.screens.items import REASON_OF_TAKEN, ItemsScreen, name_of

NAMES = ("next", "skip", "filter", "theme", "help", "back")


class QueueScreen(ItemsScreen[QueueItem]):
    """Lists debates; the one under the cursor is judged next."""

    BINDINGS: ClassVar[list[BindingType]] = list(bindings(NAMES))
    COLUMNS: ClassVar[tuple[str, ...]] = ("Question", "Protocol", "Data set", "Judges")
    KEYS: ClassVar[Keys] = KEYS
    NAMES: ClassVar[tuple[str, ...]] = NAMES
    FOOT: ClassVar[Sequence[str]] = FOOT

    def __init__(self, desk: Desk, assistants: Assistants) -> None:
        """The queue of a desk, with those who may help."""
        super().__init__(desk.judge, desk.settings.name, desk.settings.keys)
        self.desk = desk
        self.assistants = assistants
        self._left = ""

    def all_items(self) -> list[QueueItem]:
        """All debates for this judge."""
        return self.desk.queue()

    def state_of(self, item: QueueItem) -> Text:
        """The sign of its state, and whether it still goes on."""
        state = super().state_of(item)
        if item.live:
            state.append("▸", style="bold red")
        return state

    def cells(self, item: QueueItem) -> list[Text]:
        """What is asked, by which protocol, of which data set, and how many judge it."""
        question = rich_text(" ".join(item.question.split()))
        judges = Text(str(item.num_judges), justify="right")
        return [question, rich_text(item.protocol), rich_text(item.dataset), judges]

    def hint_for(self, item: QueueItem | None) -> str:
        """What Enter does with the item under the cursor."""
        enter = self.key("next")
        if item is None:
            return f"{enter} judges the item under the cursor."
        name = name_of(item)
        if item.state is ItemState.DONE:
            return f"{enter} shows what you sent: {name}"
        if item.state is ItemState.BEGUN and not item.live:
            return f"{enter} goes on with: {name}"
        return f"{enter} goes on, live (▸): {name}" if item.live else f"{enter} judges: {name}"

    def empty(self) -> str:
        """How to come by something to judge."""
        return (
            "Nothing to judge in this store. `oversight debate` runs debates; with "
            "--judge human they wait for you."
        )

    @work(exclusive=True)
    async def action_do_next(self) -> None:
        """Judge the item under the cursor, then the next ones until the judge comes back."""
        chosen = self.under_cursor()
        debate_id = None if chosen is None else chosen.debate_id
        while debate_id is not None:
            where = await self._judge(debate_id)
            if where != "next":
                self.refresh_items()
                return
            following = self._next_free(debate_id)
            if following is None:
                self.note(f"That was the last one that waits. {self.take_note()}".strip())
                self.refresh_items()
            debate_id = following

    async def _judge(self, debate_id: str) -> Left:
        try:
            item, taken = self.desk.take(debate_id)
        except OversightError as error:
            self.note(str(error), trouble=True)
            return "queue"
        if item is None:
            self.note(REASON_OF_TAKEN[taken])
            return "queue"
        before = item.acts.work.num_sent
        where: Left = await self.app.push_screen_wait(
            DebateScreen(self.desk, item, self.assistants, self.take_note())
        )
        self._left = debate_id
        is_sent = item.acts.work.num_sent > before
        self.num_sent += is_sent
        self.note(self._said_of(item, is_sent=is_sent))
        return where

    def _said_of(self, item: Item, *, is_sent: bool) -> str:
        """What has become of an item that was left."""
        if is_sent:
            return withheld(self.desk.num_withheld(item.transcript.debate.id))
        if item.acts.work.skipped:
            return "Put off (↷)."
        if item.acts.work.num_sent:
            return ""
        return "Left; all you did is kept (◐)."

    def first_row(self) -> int:
        """That of the item that was left last, if it is begun: the next key goes on with it."""
        begun = [each.debate_id for each in self._items if each.state is ItemState.BEGUN]
        return begun.index(self._left) if self._left in begun else 0

    def _next_free(self, after: str) -> str | None:
        listed = self.desk.listed(self._wanted)
        free = (e.debate_id for e in listed if e.state in STATES_IN_TURN and e.debate_id != after)
        return next(free, None)

    async def put_off(self, item: QueueItem, *, on: bool) -> None:
        """Skip a debate, or take that back."""
        await self.desk.skip(item.debate_id, on=on)
