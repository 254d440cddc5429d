"""The judging screen: a debate to be read, and everything a judge does with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import ClassVar

from textual import events, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.widgets import Footer, Static

from oversight.errors import OversightError
from oversight.judging.assisting import NAME_OF_HELP, NEEDS_WORDS, Assistants
from oversight.judging.desk import Desk
from oversight.judging.items import DebateItem, PersonAction, RefusalReason, RefusedAction
from oversight.judging.queue_session import Where
from oversight.judging.session import NextAction
from oversight.tui.keys import KEYS, bindings
from oversight.tui.marking import called
from oversight.tui.rows import options_of, question_of
from oversight.tui.screens.debate_reading import DebateReadingScreen
from oversight.tui.screens.dialogs import (
    ChoiceScreen,
    LineScreen,
    SentScreen,
    VerdictScreen,
    WordsScreen,
)
from oversight.tui.screens.reading import QuestionHead
from oversight.tui.screens.work import Hints, settle
from oversight.tui.widgets.panels import AssistantPanel, BeliefBar, QuotePanel
from oversight.tui.widgets.seen import SeenTranscript
from oversight.types import Act, Help

FRAME_S = 0.05
"""Time between two drawings of words that are being written."""
NAMES = tuple(name for name in KEYS if name != "filter")
JUDGES_ALONE = ("do_belief", "do_verdict", "do_lean", "do_assistant")
"""Acts that a person who speaks in the debate does not have."""
ACTS_OF_KEYS = {
    "assistant": PersonAction.ASSIST,
    "verdict": PersonAction.SEND,
    "belief_up": PersonAction.CHANGE,
    "skip": PersonAction.SKIP,
}
"""By the name of a key at the foot: the act that has to be possible for it to stand there."""
FOOT = (
    "   0–9  Type the belief in percent    ↑↓ PgUp PgDn  Scroll",
    "Ctrl+Q  Leave; everything is kept         y copies to the clipboard",
)


class DebateScreen(DebateReadingScreen[Where]):
    """One item."""

    BINDINGS: ClassVar[list[BindingType]] = list(bindings(NAMES))
    NAMES: ClassVar[tuple[str, ...]] = NAMES
    FOOT: ClassVar[Sequence[str]] = FOOT

    def __init__(
        self, desk: Desk, item: DebateItem, assistants: Assistants, note: str = ""
    ) -> None:
        """A screen over `item`; `note` is said first."""
        super().__init__(desk, item, assistants)
        self._begin = note

    # --- what is on it ---------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Question, transcript with panels beside it, belief, hint, keys."""
        yield Static(id="too-small")
        yield QuestionHead()
        with Container(id="middle"):
            yield SeenTranscript(id="transcript")
            with Container(id="side"):
                yield QuotePanel(id="quotes")
                yield AssistantPanel(id="assistant")
        yield BeliefBar(options_of(self.item), id="belief")
        yield Static(id="hint")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Open the item, and go on where it was left."""
        super().on_mount()
        self.desk.open(self.item)
        self.query_one("#quotes").display = False
        self.query_one("#assistant").display = False
        self.show_question(question_of(self.item))
        self.transcript.restore_seen(self.acts.work.seen)
        self.session.begin()
        self.show_all()
        self.transcript.focus()
        self.set_interval(FRAME_S, self._draw_frame)
        self.session.start()
        self.call_after_refresh(settle)

    def show_all(self) -> None:
        """Draw turns, panels, belief and hint anew."""
        self._show_turns()
        self.show_panels()
        self._show_belief()
        self._show_hint()

    def _show_belief(self) -> None:
        bar = self.query_one(BeliefBar)
        if bar.display == self.session.argues:
            bar.display = not self.session.argues
            self.refresh_bindings()
        bar.show(self.acts.work.draft.probs)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide the judge's keys from a person who speaks in the debate."""
        if action.startswith(JUDGES_ALONE) and self.session.argues:
            return False
        return super().check_action(action, parameters)

    def _trouble_now(self) -> str:
        if self._trouble or not self.live.trouble:
            return self._trouble
        again = f"{self.key('stop')} tries again, nothing of yours is lost"
        return f"{again}: {self.live.trouble}"

    def _hint(self) -> str:
        hints = Hints(self.session, self.desk.settings.keys, self.key)
        return hints.now(unread=self.transcript.to_read)

    def offers(self, name: str) -> bool:
        """True if the key of that name does something now."""
        if name == "next":
            return self.session.next() not in (NextAction.WAIT, NextAction.OTHERS)
        if name == "quotes":
            return "quotes" in self._panels or any(turn.quotes for turn in self.shown_turns())
        return name not in ACTS_OF_KEYS or self.session.refusal(ACTS_OF_KEYS[name]) is None

    # --- reading on ------------------------------------------------------------------

    def _read_on(self) -> None:
        refusal = self.session.may_read_on()
        if refusal is not None:
            self.refuse(refusal)
        else:
            self._note_attention()
            self.session.read_on()
            self._shows_next = True
            self.show_all()

    async def action_do_next(self) -> None:
        """Do the commonest act: read on, answer the live debate, or come to the verdict."""
        self.query_one(BeliefBar).apply_typed()
        match self.session.next():
            case NextAction.LEAVE:
                await self._leave("next")
            case NextAction.READ_ON:
                self._when_read(self._read_on)
            case NextAction.WAIT:
                self.say("The debaters are still writing; their words stand above.")
            case NextAction.RETRY:
                self.session.start()
            case NextAction.OTHERS:
                self._show_hint()
            case NextAction.ACT:
                self._answer_live(ends=False)
            case NextAction.DECIDE:
                # In the box of the verdict the keys of the belief are letters.
                self._show_hint()
                self.app.bell()
            case NextAction.SEND:
                self.action_do_verdict()

    # --- live ------------------------------------------------------------------------

    def _answer_live(self, *, ends: bool) -> None:
        """Give the debate the act that it waits for: a belief only once the turns were read."""
        if not self.live.waits_for(Act.BELIEVE):
            self._speak_live()
        elif self.acts.work.draft.probs is None:
            self.refuse(RefusedAction(RefusalReason.WAITS_FOR_BELIEF))
        else:
            self._when_read(lambda: self._answered(self.session.believe_live(ends=ends)))

    @work
    async def _speak_live(self) -> None:
        """Give the debate the words that it waits for."""
        speech = not self.live.waits_for(Act.ASK)
        title = "Your speech" if speech else "To the speakers: a question or a remark"
        hint = self._how_to_ask()
        if speech:
            hint = "Quote the source as <quote>its words</quote>; a program checks them."
        draft, keep = self.acts.work.words, self.session.draft_words
        words = await self.app.push_screen_wait(
            WordsScreen(title, draft, hint=hint, on_change=keep)
        )
        if words is not None:
            self._answered(
                self.session.speak(words, PersonAction.SAY if speech else PersonAction.ASK)
            )

    def _answered(self, refusal: RefusedAction | None) -> None:
        if refusal is not None:
            self.refuse(refusal)
            return
        self._shows_next = True
        self.show_all()

    def _how_to_ask(self) -> str:
        debate = self.item.transcript.debate
        seats = debate.protocol.speakers
        if len(seats) < 2:
            return ""
        name = called(debate, seats[0], debate.protocol.speaker_role)
        return f"To one side only: begin with its name, as “{name}: …”."

    def action_do_message(self) -> None:
        """Write to the speakers, when they wait for it."""
        refusal = self.session.refusal(PersonAction.ASK)
        if refusal is not None:
            self.refuse(refusal)
        else:
            self._answer_live(ends=False)

    def action_do_end(self) -> None:
        """End a live debate here."""
        refusal = self.session.refusal(PersonAction.END)
        if refusal is not None:
            self.refuse(refusal)
        else:
            self._answer_live(ends=True)

    # --- belief ----------------------------------------------------------------------

    def on_belief_bar_changed(self, event: BeliefBar.Changed) -> None:
        """Note a change of the belief, if it may be changed."""
        if self._may_change():
            self._note_seen()
            self.session.believe(event.probs, event.move)
        self._show_belief()
        self._show_hint()

    def action_do_belief_down(self) -> None:
        """Believe the option less."""
        self.query_one(BeliefBar).change(-0.05)

    def action_do_belief_up(self) -> None:
        """Believe the option more."""
        self.query_one(BeliefBar).change(0.05)

    def action_do_belief_down_1(self) -> None:
        """Believe the option a little less."""
        self.query_one(BeliefBar).change(-0.01)

    def action_do_belief_up_1(self) -> None:
        """Believe the option a little more."""
        self.query_one(BeliefBar).change(0.01)

    def action_do_belief_option(self) -> None:
        """Change the belief in the next option."""
        self.query_one(BeliefBar).select_next()

    def on_key(self, event: events.Key) -> None:
        """Digits are a belief that is typed."""
        if (
            event.character is not None
            and event.character in "0123456789"
            and not self.session.argues
            and self.takes_keys
        ):
            event.stop()
            self.query_one(BeliefBar).type_digit(event.character)

    async def action_do_back(self) -> None:
        """Drop a digit that is being typed; else as on any screen of one's work."""
        if not self.query_one(BeliefBar).drop_typed():
            await super().action_do_back()

    def action_do_lean(self) -> None:
        """Lean on the current quote, or no longer."""
        turn, number = self.current_turn(), self.transcript.current_quote
        if turn is None or number is None:
            self.say(f"No quote is chosen: {self.key('quote_next')} goes to the next one.")
        elif isinstance(on := self.session.lean(turn, number), RefusedAction):
            self.refuse(on)
        else:
            self._show_turns()
            self.show_panels()
            self.say("Picked: you lean on it." if on else "Put back.")

    def action_do_undo(self) -> None:
        """Take back the last change of the judgment."""
        refusal = self.session.undo()
        if refusal is not None:
            self.refuse(refusal)
            return
        self.query_one(BeliefBar).end_move()
        self.show_all()
        self.say("Taken back.")

    # --- the assistant -----------------------------------------------------------------

    def action_do_stop(self) -> None:
        """Stop the assistant, or try again what failed."""
        if self.assistant.is_answering:
            self.assistant.stop()
        elif self.live.trouble:
            self.session.start()
            self._show_hint()

    @work
    async def action_do_assistant(self) -> None:
        """Ask the assistant, or show its answers."""
        refusal = self.session.refusal(PersonAction.ASSIST)
        if refusal is not None:
            self.refuse(refusal)
            return
        self.open_panel("assistant")
        if self.assistant.is_answering:
            self.refuse(RefusedAction(RefusalReason.ANSWERING))
            return
        try:
            choices = [(each, NAME_OF_HELP[each]) for each in self.assistant.kinds_of_help()]
        except OversightError as error:
            self.say(str(error))
            return
        turn = self.current_turn()
        chosen = await self.app.push_screen_wait(ChoiceScreen("Ask the assistant", choices))
        words: str | None = ""
        if chosen in NEEDS_WORDS:
            title = "Which claim?" if chosen is Help.CHECK else "Ask the assistant"
            words = await self.app.push_screen_wait(LineScreen(title))
        if chosen is None or (not words and chosen in NEEDS_WORDS):
            return
        request = self.assistant.request(chosen, words or "", turn)
        refused = request if isinstance(request, RefusedAction) else self.assistant.begin(request)
        if refused is not None:
            self.refuse(refused)

    # --- the verdict -------------------------------------------------------------------

    def action_do_verdict(self) -> None:
        """Look at the judgment, say why, send it."""
        self.query_one(BeliefBar).apply_typed()
        refusal = self.session.refusal(PersonAction.SEND)
        if refusal is not None:
            self.refuse(refusal)
        else:
            self._when_read(self._give_verdict, again=True)

    @work
    async def _give_verdict(self) -> None:
        self.rationale.begin()
        screen = VerdictScreen(self.session, options_of(self.item), self.rationale.keep)
        send = await self.app.push_screen_wait(screen)
        self.rationale.write()
        if send:
            await self._send()
        self.show_all()

    async def _send(self) -> None:
        self._note_attention()
        try:
            sent = await self.session.send()
        except OversightError as error:
            self._trouble = f"Not sent: {error} — your work is kept; send it again."
            return
        self._trouble = ""
        if isinstance(sent, RefusedAction):
            self.refuse(sent)
            return
        strip = () if sent.score is None else await asyncio.to_thread(self.desk.calibration)
        question = self.item.transcript.question
        then = await self.app.push_screen_wait(
            SentScreen(sent.judgment, question, sent.score, strip, self._models())
        )
        if then == "revise":
            self.action_do_revise()
        else:
            await self._leave(then)

    def _models(self) -> list[str]:
        if not self.desk.settings.reveal_models:
            return []
        specs = self.item.transcript.debate.agents.values()
        return [
            str(s.engine.settings.get("model", s.engine.engine)) if s.engine else s.agent
            for s in specs
            if s.agent != "human"
        ]

    async def close(self) -> None:
        """Leave the item: stop all work in the background, write down all that was done."""
        self.query_one(BeliefBar).apply_typed()
        self._note_attention(stop=True)
        self.rationale.write()
        await self.assistant.aclose()
        await self.live.aclose()
        await self.desk.close(self.item)
