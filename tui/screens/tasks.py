"""The queue of those who rate: what waits, what was begun, put off and done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.binding import BindingType

from oversight.errors import OversightError
from oversight.judging.tasks.desk import TaskDesk, TaskItem
from oversight.judging.tasks.rating import CRITICISM, PREFERRED, REVISION, unanswered
from oversight.store.rating_queue import RatingItem
from oversight.text.terminal import rich_text
from oversight.tui.keys import RATING_KEYS, RATING_SHOWN, Keys, bindings
from oversight.tui.screens.items import REASON_OF_TAKEN, ItemsScreen, name_of
from oversight.tui.screens.task import FOOT, Left, TaskScreen, bound, with_own
from oversight.types import ItemReopened, Role, Seat, Task

SCALE = ("left-3", "left-2", "left-1", "tie", "right-1", "right-2", "right-3")
"""The arrows move along it; nothing chosen yet is its middle."""
MIDDLE = SCALE.index("tie")


class CompareScreen(TaskScreen, inherit_bindings=False):
    """Two responses side by side."""

    NAMES = with_own("left", "right", "tie", "both_bad")
    BINDINGS: ClassVar[list[BindingType]] = bound(NAMES)
    ASKS = "Which of the two would help a judge more to find the right answer?"

    def how(self) -> str:
        """Keys that answer."""
        arrows = (
            f"{self.key('left')} {self.key('right')} say which is better, twice or 2 for clearly"
        )
        if not self.transcript.is_wide:
            return f"{arrows}. Right stands below Left."
        return f"{arrows}; {self.key('tie')} equal, {self.key('both_bad')} both bad."

    def _given(self) -> str | None:
        return self.acts.work.draft.answers.get(PREFERRED.name)

    def _move_along(self, by: int) -> None:
        given = self._given()
        place = SCALE.index(given) if given in SCALE else MIDDLE
        self.answer(PREFERRED.name, SCALE[min(max(place + by, 0), len(SCALE) - 1)])

    def action_do_left(self) -> None:
        """Towards the left one."""
        self._move_along(-1)

    def action_do_right(self) -> None:
        """Towards the right one."""
        self._move_along(1)

    def action_do_tie(self) -> None:
        """Both are equally good."""
        self.answer(PREFERRED.name, "tie")

    def action_do_both_bad(self) -> None:
        """Both are bad."""
        self.answer(PREFERRED.name, "both-bad")

    def digit(self, digit: str) -> None:
        """How much better, of the side that was chosen."""
        side = (self._given() or "").partition("-")[0]
        if side not in ("left", "right"):
            self.say(f"Say first which is better: {self.key('left')} or {self.key('right')}.")
        elif digit in "123":
            self.answer(PREFERRED.name, f"{side}-{digit}")


class PrinciplesScreen(TaskScreen, inherit_bindings=False):
    """One response, and a score for each principle."""

    NAMES = with_own("ask_next", "ask_previous")
    BINDINGS: ClassVar[list[BindingType]] = bound(NAMES)
    ASKS = "How well does it keep to each principle?"

    def how(self) -> str:
        """Keys that answer."""
        left = len(unanswered(self.desk.asked, self.acts.work.draft.answers))
        return (
            "1 breaks it … 5 keeps it fully, 0 does not apply. "
            f"{self.key('ask_next')} {self.key('ask_previous')} move; {left} to go."
        )

    def said(self) -> str:
        """What was answered, in words."""
        given = self.acts.work.draft.answers
        scores = [int(v) for each in self.desk.asked if (v := given[each.name]).isdigit()]
        if not scores:
            return "No principle applies."
        return f"{sum(scores) / len(scores):.1f} of 5 over {len(scores)} principles."

    def digit(self, digit: str) -> None:
        """Score the current principle and go on to the next that has no score."""
        before = self.acts.work.draft
        super().digit(digit)
        asked = self.desk.asked
        if self.acts.work.draft == before and digit not in asked[self.current].digits:
            return
        left = set(unanswered(asked, self.acts.work.draft.answers))
        ahead = [at for at, each in enumerate(asked) if each in left and at > self.current]
        rest = [at for at, each in enumerate(asked) if each in left]
        self.current = next(iter(ahead or rest), min(self.current + 1, len(asked) - 1))
        self.show_all()

    def action_do_ask_next(self) -> None:
        """The next principle."""
        self.current = min(self.current + 1, len(self.desk.asked) - 1)
        self.show_all()

    def action_do_ask_previous(self) -> None:
        """The principle before."""
        self.current = max(self.current - 1, 0)
        self.show_all()


class RevisionsScreen(TaskScreen, inherit_bindings=False):
    """The first speech beside its criticism, and the revision below."""

    NAMES = with_own("left", "right", "tie")
    BINDINGS: ClassVar[list[BindingType]] = bound(NAMES)
    KEYS: ClassVar[Keys] = {
        **RATING_KEYS,
        "left": (RATING_KEYS["left"][0], "Revision is worse"),
        "right": (RATING_KEYS["right"][0], "Revision is better"),
    }
    ASKS = "Is the criticism right? Is the revision better than the first speech?"

    def how(self) -> str:
        """Keys that answer what is open."""
        ways = {
            CRITICISM.name: "Criticism: 1 right, 2 partly, 3 wrong.",
            REVISION.name: f"Revision: {self.key('left')} worse, {self.key('tie')} same, "
            f"{self.key('right')} better.",
        }
        left = unanswered(self.desk.asked, self.acts.work.draft.answers)
        return " ".join(ways[each.name] for each in left)

    def digit(self, digit: str) -> None:
        """How right the criticism is."""
        self.current = 0
        super().digit(digit)
        if digit in "123":
            self.current = 1
            self.show_all()

    def _revision(self, value: str) -> None:
        self.current = 1
        self.answer(REVISION.name, value)

    def action_do_left(self) -> None:
        """The revision is worse."""
        self._revision("worse")

    def action_do_right(self) -> None:
        """The revision is better."""
        self._revision("better")

    def action_do_tie(self) -> None:
        """It is as good as before."""
        self._revision("same")


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
        speaker = Text(f"{_speaker(item)}, step {item.step + 1}")
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
        one = ONE_OF_TASK[self.desk.task]
        takes = f"{self.key('next')} takes the {one} under the cursor, and then the next ones"
        return f"{takes}." if item is None else f"{takes}. {name_of(item)}"

    def empty(self) -> str:
        """How to come by something to rate."""
        return EMPTY_OF_TASK[self.desk.task]

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
        screen = SCREEN_OF_TASK[self.desk.task](self.desk, item, self.take_note())
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


def _speaker(item: RatingItem) -> str:
    """Who speaks, by number: letters are the options', which are not listed here."""
    if item.is_open:
        return (Role.RESPONDER if item.seat is Seat.A else Role.CRITIC).value.capitalize()
    if item.task is Task.REVISIONS:
        return Role.CONSULTANT.value.capitalize()
    return f"Speaker {1 if item.seat is Seat.A else 2}"
