"""The screen of all rating tasks: an item to be read, and questions to be answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.text import Text
from textual import events, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.widgets import Footer, Static

from oversight.errors import OversightError
from oversight.judging.desk import TaskDesk
from oversight.judging.items import PersonAction, RefusalReason, RefusedAction, TaskItem
from oversight.judging.log import RatingLog
from oversight.judging.queue_session import Where
from oversight.judging.session import RatingSession
from oversight.judging.tasks import AnswerState
from oversight.text.terminal import rich_text
from oversight.tui.keys import RATING_KEYS, RATING_SHOWN, Keys, bindings
from oversight.tui.rows import BEFORE, header, quotes_of, rows_of_item
from oversight.tui.screens.dialogs import KeysScreen, WordsScreen
from oversight.tui.screens.reading import QuestionHead
from oversight.tui.screens.work import LeftT, WorkScreen, read_on
from oversight.tui.widgets.panels import Choices, ListedQuote, QuotePanel
from oversight.tui.widgets.seen import SeenTranscript
from oversight.types import Turn

NAMES = tuple(name for name in RATING_KEYS if name != "filter")
OF_TASKS = ("left", "right", "tie", "both_bad", "ask_next", "ask_previous")
"""Keys that only some tasks have."""
FOOT = (
    "   0–9  Answer by its digit           ↑↓ PgUp PgDn  Scroll",
    "Ctrl+Q  Leave; everything is kept",
)


class RatingReadingScreen(WorkScreen[LeftT]):
    """An item to be read."""

    OWN_WORDS: ClassVar[Mapping[RefusalReason, str]] = {
        **WorkScreen.OWN_WORDS,
        RefusalReason.NOTHING_TO_UNDO: "Nothing to take back. {previous} goes to the last one "
        "sent.",
    }
    KEYS: ClassVar[Keys] = RATING_KEYS
    FOOT: ClassVar[Sequence[str]] = FOOT

    session: RatingSession
    acts: RatingLog

    def __init__(self, desk: TaskDesk, item: TaskItem) -> None:
        """A screen over `item`."""
        super().__init__(RatingSession(desk, item), desk.settings)
        self.desk = desk
        self.item = item

    def shown_turns(self) -> Sequence[Turn]:
        """The turns that are asked about."""
        return self.item.turns()

    def listed_quotes(self) -> list[ListedQuote]:
        """Their quotes."""
        return quotes_of(self.item, self.desk.task.names_of(self.item.item))

    def fold_before(self, *, folded: bool) -> None:
        """Fold the earlier turns, or unfold them."""
        view = self.transcript
        for row in view.rows:
            for column in row.columns:
                if column.key.startswith(BEFORE):
                    column.is_folded = folded
        view.relay()

    def action_do_before(self) -> None:
        """Show the earlier turns, or fold them again."""
        columns = [c for r in self.transcript.rows for c in r.columns if c.key.startswith(BEFORE)]
        if not columns:
            self.say("Nothing was said before.")
            return
        self.fold_before(folded=not columns[0].is_folded)
        self.transcript.scroll_home(animate=False)


class RatingScreen(RatingReadingScreen[Where]):
    """One item. Its task says what it asks, and which keys answer it."""

    BINDINGS: ClassVar[list[BindingType]] = list(bindings(NAMES, RATING_KEYS, RATING_SHOWN))
    NAMES: ClassVar[tuple[str, ...]] = NAMES

    def __init__(self, desk: TaskDesk, item: TaskItem, note: str = "") -> None:
        """A screen over `item`; `note` is said first."""
        super().__init__(desk, item)
        self.about = desk.task
        self.current = 0
        """Index of the question that is being answered."""
        self._begin = note

    # --- what is on it ---------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Prompt, responses with their quotes beside them, questions, hint, keys."""
        yield Static(id="too-small")
        yield QuestionHead()
        yield Static(rich_text(self.about.asks_about(self.item.item)), id="asks")
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
        names = self.about.names_of(self.item.item)
        rows = rows_of_item(self.item, names, self.key("before"))
        self.transcript.set_rows(rows)
        self.fold_before(folded=True)
        left = self.answering.left
        self.current = self.session.asked.index(left[0]) if left else 0
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
        self.query_one(Choices).show(self.session.asked, answers, self.current)
        self.show_quotes()
        self._show_hint()

    def _hint(self) -> str:
        enter = self.key("next")
        if not self.acts.work.is_open:
            return f"Sent. {self.key('revise')} revises it, {enter} takes the next one."
        reading = read_on(self.transcript.to_read)
        if reading is not None:
            return reading
        if self._missing(need_rationale=False) is not None:
            return self.about.how(self.answering, self.key, wide=self.transcript.is_wide)
        rationale = self.key("rationale")
        said = self.about.said(self.answering)
        if self._missing() is not None:
            return f"{said} {rationale} says why: this study asks for it.".strip()
        why = "" if self.acts.work.draft.rationale else f" {rationale} says why."
        return f"{said} {enter} sends it.{why}".strip()

    def offers(self, name: str) -> bool:
        """True if the key of that name does something now."""
        if name in ("tie", "both_bad", "rationale"):
            return self.acts.work.is_open
        return name != "skip" or self.session.refusal(PersonAction.SKIP) is None

    @property
    def answering(self) -> AnswerState:
        """The answers so far, and the question that a key answers."""
        return AnswerState(self.session.asked, self.acts.work.draft.answers, self.current)

    def _missing(self, *, need_rationale: bool = True) -> str | None:
        refusal = self.session.missing(need_rationale=need_rationale)
        return None if refusal is None else refusal.words

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys of other tasks are not there."""
        name = action.removeprefix("do_")
        if name in OF_TASKS and name not in self.about.keys:
            return False
        return super().check_action(action, parameters)

    def action_do_help(self) -> None:
        """All keys of this task."""
        own = {name: (RATING_KEYS[name][0], does) for name, does in self.about.keys.items() if does}
        names = [name for name in NAMES if name not in OF_TASKS or name in self.about.keys]
        keys = {**RATING_KEYS, **own}
        self.app.push_screen(KeysScreen(names, self._changed_keys, keys, self.FOOT))

    # --- answering -------------------------------------------------------------------

    def answer(self, name: str, value: str | None) -> None:
        """Give an answer, if that may still be done."""
        if self._may_change():
            self._note_seen()
            self.session.answer(name, value)
            self.show_all()

    def on_choices_chosen(self, event: Choices.Chosen) -> None:
        """A click on a question or an answer."""
        names = [each.name for each in self.session.asked]
        self.current = names.index(event.question)
        if event.value is not None:
            self.answer(event.question, event.value)
        self.show_all()

    def on_key(self, event: events.Key) -> None:
        """A digit answers the question that is being answered."""
        is_digit = event.character is not None and event.character in "0123456789"
        if is_digit and self.takes_keys:
            event.stop()
            self.press(str(event.character))

    def press(self, key: str) -> None:
        """Have the task's effect of a key, by its name, or of a digit."""
        pressed = self.about.press(key, self.answering)
        if pressed.says:
            self.say(pressed.says.format_map({name: self.key(name) for name in RATING_KEYS}))
        if pressed.question:
            self.answer(pressed.question, pressed.value)
        if pressed.current is not None:
            self.current = pressed.current
            self.show_all()

    def action_do_left(self) -> None:
        """Go to the left, or call the left one better."""
        self.press("left")

    def action_do_right(self) -> None:
        """Go to the right, or call the right one better."""
        self.press("right")

    def action_do_tie(self) -> None:
        """Both are equally good."""
        self.press("tie")

    def action_do_both_bad(self) -> None:
        """Both are bad."""
        self.press("both_bad")

    def action_do_ask_next(self) -> None:
        """The next question."""
        self.press("ask_next")

    def action_do_ask_previous(self) -> None:
        """The question before."""
        self.press("ask_previous")

    def action_do_undo(self) -> None:
        """Take back the last change."""
        before = self.acts.work.draft.answers
        refusal = self.session.undo()
        if refusal is not None:
            self.refuse(refusal)
            return
        now = self.acts.work.draft.answers
        changed = [
            at
            for at, each in enumerate(self.session.asked)
            if before.get(each.name) != now.get(each.name)
        ]
        self.current = changed[0] if changed else self.current
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
        """Send the answers and take the next item, or name the first thing missing."""
        if not self.acts.work.is_open:
            await self._leave("next")
            return
        said = self._missing()
        if said is not None:
            left = self.answering.left
            self.current = self.session.asked.index(left[0]) if left else self.current
            self._note = said
            self.show_all()
            if self._missing(need_rationale=False) is None:
                self.action_do_rationale()
            return
        self._when_read(self._send, again=True)

    @work
    async def _send(self) -> None:
        try:
            sent = await self.session.send()
        except OversightError as error:
            self._trouble = f"Not sent: {error} — your work is kept; send it again."
            self.show_all()
            return
        if isinstance(sent, RefusedAction):
            self.refuse(sent)
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
        """Name the effects of the keys here."""
        super().on_mount()
        self.query_one(".keys", Static).update(Text("Ctrl+S or Esc goes back; it is kept."))
