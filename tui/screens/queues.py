"""Queues of judges and of raters: items that wait, were begun, put off and done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.binding import BindingType

from oversight.judging.assisting import Assistants
from oversight.judging.desk import Desk, TaskDesk
from oversight.judging.items import DebateItem, RefusalReason, RefusedAction, TaskItem
from oversight.judging.queue_session import LeftState
from oversight.store.claims import ItemState, QueueItem
from oversight.store.rating_queue import RatingItem
from oversight.text.terminal import rich_text
from oversight.tui.keys import KEYS, RATING_KEYS, RATING_SHOWN, Keys, bindings
from oversight.tui.screens.debate import FOOT, DebateScreen
from oversight.tui.screens.items import ItemsScreen, name_of
from oversight.tui.screens.task import FOOT as RATING_FOOT
from oversight.tui.screens.task import RatingScreen
from oversight.types import Feedback, Judgment, Role, Seat, Task

NAMES = ("next", "skip", "filter", "theme", "help", "back")


class JudgingQueueScreen(ItemsScreen[QueueItem, str, DebateItem, Judgment]):
    """Lists debates; the one under the cursor is judged next."""

    BINDINGS: ClassVar[list[BindingType]] = list(bindings(NAMES))
    COLUMNS: ClassVar[tuple[str, ...]] = ("Question", "Protocol", "Data set", "Judges")
    KEYS: ClassVar[Keys] = KEYS
    NAMES: ClassVar[tuple[str, ...]] = NAMES
    FOOT: ClassVar[Sequence[str]] = FOOT

    def __init__(self, desk: Desk, assistants: Assistants) -> None:
        """The queue of a desk; debates may be judged with the help of `assistants`."""
        super().__init__(desk, desk.settings.name, desk.settings.keys)
        self.desk = desk
        self.assistants = assistants

    def state_of(self, item: QueueItem) -> Text:
        """The sign of its state, and one for a debate that still goes on."""
        state = super().state_of(item)
        if item.live:
            state.append("▸", style="bold red")
        return state

    def cells(self, item: QueueItem) -> list[Text]:
        """The question, the protocol, the data set, and the number of people who judge it."""
        question = rich_text(" ".join(item.question.split()))
        judges = Text(str(item.num_judges), justify="right")
        return [question, rich_text(item.protocol), rich_text(item.dataset), judges]

    def hint_for(self, item: QueueItem | None) -> str:
        """The effect of Enter on the item under the cursor."""
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
        """The reason why nothing is listed, and what may be done about it."""
        return self.desk.why_empty()

    def screen_of(self, item: DebateItem, note: str) -> DebateScreen:
        """The screen on which a debate is judged; `note` is said first."""
        return DebateScreen(self.desk, item, self.assistants, note)


QUEUE_KEYS: Keys = {**RATING_KEYS, "next": (RATING_KEYS["next"][0], "Rate")}
RATING_NAMES = ("next", "previous", "skip", "filter", "theme", "help", "back")


class RatingQueueScreen(ItemsScreen[RatingItem, RatingItem, TaskItem, Feedback]):
    """Lists items of a task; the one under the cursor is rated next."""

    BINDINGS: ClassVar[list[BindingType]] = list(bindings(RATING_NAMES, QUEUE_KEYS, RATING_SHOWN))
    COLUMNS: ClassVar[tuple[str, ...]] = ("Question", "Speaker", "Protocol", "Raters")
    WHOLE: ClassVar[frozenset[str]] = frozenset({"Speaker"})
    KEYS: ClassVar[Keys] = QUEUE_KEYS
    NAMES: ClassVar[tuple[str, ...]] = RATING_NAMES
    FOOT: ClassVar[Sequence[str]] = RATING_FOOT

    def __init__(self, desk: TaskDesk) -> None:
        """The queue of a desk."""
        super().__init__(desk, desk.settings.name, desk.settings.keys)
        self.desk = desk

    def cells(self, item: RatingItem) -> list[Text]:
        """The question, the speaker, the protocol, and the number of people who rate it."""
        question, protocol = rich_text(" ".join(item.question.split())), rich_text(item.protocol)
        speaker = Text(f"{_speaker(item, self.desk.task.turns)}, step {item.step + 1}")
        raters = Text(str(item.num_judges), justify="right")
        return [question, speaker, protocol, raters]

    def summary_words(self) -> Text:
        """The constitution whose principles are asked about."""
        constitution = self.desk.constitution
        if constitution is None:
            return Text()
        return Text(" · by ").append_text(rich_text(constitution.name, "bold"))

    def hint_for(self, item: RatingItem | None) -> str:
        """The effect of Enter on the item under the cursor."""
        one = self.desk.task.one
        takes = f"{self.key('next')} takes the {one} under the cursor, and then the next ones"
        return f"{takes}." if item is None else f"{takes}. {name_of(item)}"

    def empty(self) -> str:
        """The reason why nothing is listed, and what may be done about it."""
        return self.desk.why_empty()

    def screen_of(self, item: TaskItem, note: str) -> RatingScreen:
        """The screen on which an item is rated; `note` is said first."""
        return RatingScreen(self.desk, item, note)

    def tell_left(self, item: TaskItem, how: LeftState) -> None:
        """Note what has become of an item that was left."""
        super().tell_left(item, how)
        if how is LeftState.SENT:
            back = self.key("previous")
            self.note(f"✓ {self.queue.num_sent} sent. {back} goes back to it.")

    def last_words(self) -> str:
        """The number of ratings that were sent."""
        self.take_note()
        return f"{self.queue.num_sent} sent now."

    @work(exclusive=True)
    async def action_do_previous(self) -> None:
        """Go back to the item that was sent last."""
        if self.queue.last_sent is None:
            self._say(RefusedAction(RefusalReason.NONE_SENT).said({}))
        else:
            await self.work_from(self.queue.last_sent, reopen=True)


def _speaker(item: RatingItem, turns: Task) -> str:
    """The speaker, by number: letters are the options', which are not listed here."""
    if item.is_open:
        return (Role.RESPONDER if item.seat is Seat.A else Role.CRITIC).value.capitalize()
    if turns is Task.REVISIONS:
        return Role.CONSULTANT.value.capitalize()
    return f"Speaker {1 if item.seat is Seat.A else 2}"
