"""The queue of those who rate: what waits, what was begun, put off and done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.binding import BindingType

from oversight.errors import OversightError
from oversight.judging.desk import TaskDesk, TaskItem
from oversight.store.rating_queue import RatingItem
from oversight.text.terminal import rich_text
from oversight.tui.keys import RATING_KEYS, RATING_SHOWN, Keys, bindings
from oversight.tui.screens.items import REASON_OF_TAKEN, ItemsScreen, name_of
from oversight.tui.screens.task import FOOT, Left, TaskScreen
from oversight.types import ItemReopened, Role, Seat, Task

QUEUE_KEYS: Keys = {**RATING_KEYS, "next": (RATING_KEYS["next"][0], "Rate")}
NAMES = ("next", "previous", "skip", "filter", "theme", "help", "back")


class TasksScreen(ItemsScreen[RatingItem]):
    """Lists what is to be rated; the one under the cursor is rated next."""

    BINDINGS: ClassVar[list[BindingType]] = list(bindings(NAMES, QUEUE_KEYS, RATING_SHOWN))
    COLUMNS: ClassVar[tuple[str, ...]] = ("Question", "Speaker", "Protocol", "Raters")
    WHOLE: ClassVar[frozenset[str]] = frozenset({"Speaker"})
    KEYS: ClassVar[Keys] = QUEUE_KEYS
    NAMES: ClassVar[tuple[str, ...]] = NAMES
    FOOT: ClassVar[Sequence[str]] = FOOT

    def __init__(self, desk: TaskDesk) -> None:
        """The queue of a desk."""
        super().__init__(desk.judge, desk.settings.name, desk.settings.keys)
        self.desk = desk
        self._last_sent: RatingItem | None = None

    def all_items(self) -> list[RatingItem]:
        """All items of the task for this rater."""
        return self.desk.queue()

    def cells(self, item: RatingItem) -> list[Text]:
        """What is asked, who speaks, by which protocol, and how many rate it."""
        question, protocol = rich_text(" ".join(item.question.split())), rich_text(item.protocol)
        speaker = Text(f"{_speaker(item, self.desk.task.turns)}, step {item.step + 1}")
        raters = Text(str(item.num_judges), justify="right")
        return [question, speaker, protocol, raters]

    def by_what(self) -> Text:
        """The constitution whose principles are asked about."""
        constitution = self.desk.constitution
        if constitution is None:
            return Text()
        return Text(" · by ").append_text(rich_text(constitution.name, "bold"))

    def hint_for(self, item: RatingItem | None) -> str:
        """What Enter does."""
        one = self.desk.task.one
        takes = f"{self.key('next')} takes the {one} under the cursor, and then the next ones"
        return f"{takes}." if item is None else f"{takes}. {name_of(item)}"

    def empty(self) -> str:
        """How to come by something to rate."""
        return self.desk.task.empty

    @work(exclusive=True)
    async def action_do_next(self) -> None:
        """Rate the item under the cursor, then the next ones until the judge comes back."""
        chosen = self.under_cursor()
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
                self.note(REASON_OF_TAKEN[taken])
            while item is not None:
                item, reopen = await self._rate(item, reopen=reopen)
        except OversightError as error:
            self.note(str(error), trouble=True)
        self.refresh_items()

    async def _rate(self, item: TaskItem, *, reopen: bool) -> tuple[TaskItem | None, bool]:
        """Rate one item; the next one, and whether it is to be reopened."""
        if reopen and not item.acts.work.is_open:
            item.acts.add(ItemReopened())
        before = item.acts.work.num_sent
        screen = TaskScreen(self.desk, item, self.take_note())
        where: Left = await self.app.push_screen_wait(screen)
        if item.acts.work.num_sent > before:
            self.num_sent += 1
            self._last_sent = item.item
            self.note(f"✓ {self.num_sent} sent. {self.key('previous')} goes back to it.")
        if where == "queue":
            return None, False
        if where == "previous" and self._last_sent is not None:
            again, taken = self.desk.take(self._last_sent)
            if again is None:
                self.note(REASON_OF_TAKEN[taken])
            return again, True
        if where == "previous":
            self.note("Nothing was sent in this session.")
            return self.desk.take(item.item)[0], False
        following = self.desk.take_next(item.item.key)
        if following is None:
            self.note(f"That was the last one that waits. {self.num_sent} sent now.")
        return following, False

    async def put_off(self, item: RatingItem, *, on: bool) -> None:
        """Skip an item, or take that back."""
        await self.desk.skip(item, on=on)


def _speaker(item: RatingItem, turns: Task) -> str:
    """Who speaks, by number: letters are the options', which are not listed here."""
    if item.is_open:
        return (Role.RESPONDER if item.seat is Seat.A else Role.CRITIC).value.capitalize()
    if turns is Task.REVISIONS:
        return Role.CONSULTANT.value.capitalize()
    return f"Speaker {1 if item.seat is Seat.A else 2}"
