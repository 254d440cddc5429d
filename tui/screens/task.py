"""What the screens of all rating tasks share: an item to be read, and questions to be answered."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

from rich.text import Text
from textual import events, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.widgets import Footer, Static

from oversight.errors import OversightError
from oversight.judging.tasks.desk import TaskDesk, TaskItem
from oversight.judging.tasks.log import RatingLog
from oversight.judging.tasks.rating import missing, unanswered
from oversight.tui.hints import read_on
from oversight.tui.keys import RATING_KEYS, RATING_SHOWN, Keys, bindings
from oversight.tui.rows import BEFORE, header, quotes_of, rows_of_item
from oversight.tui.screens.dialogs import WordsScreen
from oversight.tui.screens.reading import QuestionHead
from oversight.tui.screens.work import LeftT, WorkScreen
from oversight.tui.widgets.choices import Choices
from oversight.tui.widgets.quotes import Listed, QuotePanel
from oversight.tui.widgets.seen import SeenTranscript
from oversight.types import ChangeUndone, QuestionsAnswered, Transcript, Turn

NAMES = tuple(
    name
    for name in RATING_KEYS
    if name not in ("left", "right", "tie", "both_bad", "ask_next", "ask_previous", "filter")
)
"""Keys that every task has."""
FOOT = (
    "   0–9  Answer by its digit           ↑↓ PgUp PgDn  Scroll",
    "Ctrl+Q  Leave; everything is kept",
)


def with_own(*own: str) -> tuple[str, ...]:
    """Keys of a task, the commonest first: those that answer come before the others."""
    return (NAMES[0], *own, *NAMES[1:])


def bound(names: Sequence[str]) -> list[BindingType]:
    """Bindings of a task's keys."""
    return list(bindings(names, RATING_KEYS, RATING_SHOWN))


class TaskReading(WorkScreen[LeftT]):
    """An item to be read."""

    KEYS: ClassVar[Keys] = RATING_KEYS
    FOOT: ClassVar[Sequence[str]] = FOOT

    acts: RatingLog

    def __init__(self, desk: TaskDesk, item: TaskItem) -> None:
        """A screen over `item`."""
        super().__init__(item.acts, desk.settings)
        self.desk = desk
        self.item = item

    def debate(self) -> Transcript:
        """What is rated is of this debate."""
        return self.item.transcript

    def shown_turns(self) -> Sequence[Turn]:
        """The turns that are asked about."""
        return self.item.turns()

    def listed_quotes(self) -> list[Listed]:
        """Their quotes."""
        return quotes_of(self.item)

    def fold_before(self, *, folded: bool) -> None:
        """Fold what was said before, or unfold it."""
        view = self.transcript
        for row in view.rows:
            for column in row.columns:
                if column.key.startswith(BEFORE):
                    column.is_folded = folded
        view.relay()

    def action_do_before(self) -> None:
        """Show what was said before, or fold it again."""
        columns = [c for r in self.transcript.rows for c in r.columns if c.key.startswith(BEFORE)]
        if not columns:
            self.say("Nothing was said before.")
            return
        self.fold_before(folded=not columns[0].is_folded)
        self.transcript.scroll_home(animate=False)


Left = Literal["queue", "next", "previous"]
"""Where to go from a screen that is left."""


class TaskScreen(TaskReading[Left]):
    """One item. A task says what it asks, and which keys answer it."""

    ASKS: ClassVar[str]
    """What is asked, as a sentence."""

    def __init__(self, desk: TaskDesk, item: TaskItem, note: str = "") -> None:
        """A screen over `item`; `note` is said first."""
        super().__init__(desk, item)
        self.current = 0
        """Which question is being answered."""
        self._begin = note

    # --- what is on it ---------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Question, responses with their quotes beside them, what is asked, hint, keys."""
        yield Static(id="too-small")
        yield QuestionHead()
        yield Static(self.ASKS, id="asks")
        with Container(id="middle"):
            yield SeenTranscript(id="transcript")
            with Container(id="side"):
                yield QuotePanel(id="quotes")
        yield Choices(id="choices")
        yield Static(id="hint")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Open the item, and go on where it was left."""
        super().on_mount()
        self.desk.open(self.item)
        self.query_one("#quotes").display = False
        self.show_question(header(self.item))
        self.transcript.restore_seen(self.acts.work.seen)
        rows = rows_of_item(self.item, self.key("before"))
        self.transcript.set_rows(rows)
        self.fold_before(folded=True)
        left = unanswered(self.desk.asked, self.acts.work.draft.answers)
        self.current = self.desk.asked.index(left[0]) if left else 0
        self.transcript.focus()
        self.show_all()

    def on_resize(self, event: events.Resize) -> None:
        """Lines break elsewhere now."""
        super().on_resize(event)
        self.call_after_refresh(self.show_all)

    def show_all(self) -> None:
        """Draw answers, quotes and hint anew."""
        if not self.is_mounted:
            return
        answers = self.acts.work.draft.answers
        self.query_one(Choices).show(self.desk.asked, answers, self.current)
        self.show_quotes()
        self._show_hint()

    def _hint(self) -> str:
        enter = self.key("next")
        if not self.acts.work.is_open:
            return f"Sent. {self.key('revise')} revises it, {enter} takes the next one."
        reading = read_on(self.transcript.to_read)
        if reading is not None:
            return reading
        if missing(self.desk.asked, self.acts.work) is not None:
            return self.how()
        rationale = self.key("rationale")
        need = self.desk.settings.require_rationale
        if missing(self.desk.asked, self.acts.work, need_rationale=need) is not None:
            return f"{self.said()} {rationale} says why: this study asks for it.".strip()
        why = "" if self.acts.work.draft.rationale else f" {rationale} says why."
        return f"{self.said()} {enter} sends it.{why}".strip()

    def offers(self, name: str) -> bool:
        """Whether the key of that name does something now."""
        if name in ("tie", "both_bad", "rationale"):
            return self.acts.work.is_open
        return name != "skip" or not self.acts.work.num_sent

    def _unseen(self) -> dict[str, float]:
        """Turns that are asked about and were not on the screen completely."""
        return self.item.unseen()

    @abstractmethod
    def how(self) -> str:
        """How to answer, in a sentence."""

    def said(self) -> str:
        """What was answered, in words."""
        given = self.acts.work.draft.answers
        chosen = [each.choice(given.get(each.name)) for each in self.desk.asked]
        return " ".join(choice.words for choice in chosen if choice is not None)

    # --- answering -------------------------------------------------------------------

    def answer(self, name: str, value: str | None) -> None:
        """Give an answer, if that may still be done."""
        if self._may_change():
            self._note_seen()
            left = self.item.unseen()
            self.acts.add(QuestionsAnswered(answers={name: value}, unseen=left))
            self.show_all()

    def on_choices_chosen(self, event: Choices.Chosen) -> None:
        """A click on a question or an answer."""
        names = [each.name for each in self.desk.asked]
        self.current = names.index(event.question)
        if event.value is not None:
            self.answer(event.question, event.value)
        self.show_all()

    def on_key(self, event: events.Key) -> None:
        """A digit answers the question that is being answered."""
        if event.character is not None and event.character in "0123456789":
            event.stop()
            self.digit(event.character)

    def digit(self, digit: str) -> None:
        """Give the answer that has this digit, and go on to the next question."""
        asked = self.desk.asked[self.current]
        if digit in asked.digits:
            self.answer(asked.name, asked.choices[asked.digits.index(digit)].value)

    def action_do_undo(self) -> None:
        """Take back the last change."""
        if not self.acts.work.can_undo:
            self.say(f"Nothing to take back. {self.key('previous')} goes to the last one sent.")
            return
        self.acts.add(ChangeUndone())
        self._note = "Taken back."
        self.show_all()

    @work
    async def action_do_rationale(self) -> None:
        """Say why."""
        if not self._may_change():
            return
        self.rationale.begin()
        rationale = self.acts.work.draft.rationale
        title = "Why? What was it that decided?"
        screen = RationaleScreen(title, rationale, on_change=self.rationale.keep)
        words = await self.app.push_screen_wait(screen)
        if words is not None:
            self.rationale.keep(words)
        self.rationale.write()
        self.show_all()

    # --- sending ---------------------------------------------------------------------

    async def action_do_next(self) -> None:
        """Send what was answered and take the next one, or say what is missing."""
        if not self.acts.work.is_open:
            await self._leave("next")
            return
        asked, need = self.desk.asked, self.desk.settings.require_rationale
        said = missing(asked, self.acts.work, need_rationale=need)
        if said is not None:
            left = unanswered(asked, self.acts.work.draft.answers)
            self.current = asked.index(left[0]) if left else self.current
            self._note = said
            self.show_all()
            if not left:
                self.action_do_rationale()
            return
        self._when_read(self._send)

    @work
    async def _send(self) -> None:
        try:
            await self.desk.send(self.item)
        except OversightError as error:
            self._trouble = f"Not sent: {error} — your work is kept; send it again."
            self.show_all()
            return
        await self._leave("next")

    async def action_do_previous(self) -> None:
        """Back to the one that was sent last."""
        await self._leave("previous")

    async def close(self) -> None:
        """Leave the item: write down what there is."""
        self.rationale.write()
        self._note_attention(stop=True)
        await self.desk.close(self.item)


class RationaleScreen(WordsScreen):
    """Asks why; nothing is sent by that."""

    def on_mount(self) -> None:
        """Say what the keys do here."""
        super().on_mount()
        self.query_one(".keys", Static).update(Text("Ctrl+S or Esc goes back; it is kept."))
