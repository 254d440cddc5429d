"""The judging screen: a debate to be read, and everything a judge does with it."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from typing import ClassVar, Literal

from rich.text import Text
from textual import events, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.timer import Timer
from textual.widgets import Footer, Static

from oversight.agents.speaking import speaker_name
from oversight.errors import OversightError
from oversight.graphs.persons import PersonsAct
from oversight.graphs.stage import Event, SpeechBegins, TurnRecorded, Words
from oversight.judging.assisting import Assistants, assist
from oversight.judging.attention import Attention
from oversight.judging.desk import Desk, Item
from oversight.judging.draws import is_assisted
from oversight.judging.feedback import StripBin, calibration_strip, feedback
from oversight.judging.judgment import coupled, stated
from oversight.judging.live import LiveDebate, Wanted, cast_of, is_spoken_out
from oversight.text.terminal import rich_text, visible
from oversight.tui.keys import KEYS, bindings, key_of
from oversight.tui.marking import mark, mark_unfinished
from oversight.tui.rows import Writing, listed_quotes, options_of, rows_of
from oversight.tui.screens.dialogs import ChoiceScreen, KeysScreen, LineScreen, WordsScreen
from oversight.tui.screens.sent import SentScreen
from oversight.tui.screens.verdict import VerdictScreen
from oversight.tui.widgets.assistant import NAME_OF_HELP, AssistantPanel
from oversight.tui.widgets.belief import TYPE_S, BeliefBar
from oversight.tui.widgets.quotes import QuotePanel, surroundings
from oversight.tui.widgets.transcript import TranscriptView
from oversight.types import Act, EventKind, Help, HelpRequest, Seat, Turn

FRAME_S = 0.05
"""How often what is being written is drawn."""
ATTENTION_S = 15.0
"""How often seconds of attention are written down."""
MOVE_S = 1.5
"""Movements of a slider closer together than this are one, for undoing."""
TYPING_S = 0.3
"""How often a rationale that is being typed is written down."""

Left = Literal["queue", "next"]
"""Where to go from a screen that is left."""

NAMES = tuple(name for name in KEYS if name != "filter")


class DebateScreen(Screen[Left]):
    """One item."""

    BINDINGS: ClassVar[list[BindingType]] = list(bindings(NAMES))
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - Textual's own form

    def __init__(self, desk: Desk, item: Item, assistants: Assistants) -> None:
        super().__init__()
        self.desk = desk
        self.item = item
        self.acts = item.acts
        self.assistants = assistants
        self.attention = Attention(desk.settings.idle_s)
        self._live: LiveDebate | None = None
        self._wanted: Wanted | None = None
        self._going: asyncio.Task[None] | None = None
        self._is_going = False
        self._trouble = ""
        self._store_trouble = ""
        self._writing: dict[Seat, Writing] = {}
        self._is_dirty = False
        self._selected = 0
        self._typed = ""
        self._typing: Timer | None = None
        self._move, self._moved_at = "", 0.0
        self._asked: asyncio.Task[None] | None = None
        self._answer: list[str] | None = None
        self._rationale_at = 0.0
        self._rationale_timer: Timer | None = None
        self._rationale_move = ""
        self._around = False
        self._hinted_step: int | None = None
        self._note = ""

    # --- what is on it ---------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Question, transcript with panels beside it, belief, hint, keys."""
        yield Static(id="too-small")
        yield Static(id="question")
        with Container(id="middle"):
            yield TranscriptView(id="transcript")
            with Container(id="side"):
                yield QuotePanel(id="quotes")
                yield AssistantPanel(id="assistant")
        yield BeliefBar(id="belief")
        yield Static(id="hint")
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Open the item, and go on where it was left."""
        self.acts.on_trouble = self._on_store_trouble
        self.desk.open(self.item)
        self.query_one("#quotes").display = False
        self.query_one("#assistant").display = False
        self.query_one("#question", Static).update(self._question())
        if self.item.next_step() is not None and self.acts.work.revealed < 0:
            self._reveal()
        self._show_all()
        self.transcript.focus()
        self.set_interval(FRAME_S, self._draw_frame)
        self.set_interval(ATTENTION_S, self._note_attention)
        self._start_if_ready()

    @property
    def transcript(self) -> TranscriptView:
        """The transcript."""
        return self.query_one("#transcript", TranscriptView)

    @property
    def stepped(self) -> bool:
        """Whether recorded turns are revealed step by step."""
        return self.desk.settings.stepped

    def _question(self) -> Text:
        question, protocol = self.item.transcript.question, self.item.transcript.debate.protocol
        whole = Text().append_text(rich_text(question.text, "bold"))
        whole.append(f"   {protocol.name}", style="dim")
        for label, text, _ in options_of(self.item):
            whole.append(f"\n{label}  ", style="bold")
            whole.append_text(rich_text(" ".join(text.split())))
        return whole

    def _show_all(self) -> None:
        self._show_turns()
        self._show_panels()
        self._show_belief()
        self._show_hint()

    def _show_turns(self) -> None:
        rows = rows_of(self.item, stepped=self.stepped, writing=self._writing)
        self.transcript.set_rows(rows)

    def _shown_turns(self) -> tuple[Turn, ...]:
        return self.item.shown(stepped=self.stepped)

    def _current_turn(self) -> Turn | None:
        column = self.transcript.current_column()
        found = [t for t in self._shown_turns() if column is not None and t.id == column.key]
        return found[0] if found else None

    def _show_panels(self) -> None:
        quotes, assistant = self.query_one(QuotePanel), self.query_one(AssistantPanel)
        self.query_one("#side").set_class(quotes.display or assistant.display, "-open")
        if quotes.display:
            turn, number = self._current_turn(), self.transcript.current_quote
            current = None if turn is None or number is None else (turn.id, number)
            around, refusal = self._surroundings(turn, number)
            listed = listed_quotes(self.item, self._shown_turns())
            quotes.show(listed, current, around, refusal)
        if assistant.display:
            writing = None if self._answer is None else "".join(self._answer)
            assistant.show(self.acts.work.assistance, writing)

    def _surroundings(self, turn: Turn | None, number: int | None) -> tuple[Text | None, str]:
        if not self._around or turn is None or number is None:
            return None, ""
        protocol = self.item.transcript.debate.protocol
        context = None if protocol.judge_sees_source else protocol.quote_context
        if context == 0:
            return None, "    This protocol shows the judge no more of the source than the quotes."
        source = self.item.transcript.question.source
        around = surroundings(turn.quotes[number], source, context)
        return around, "" if around is not None else "    It was not found in the source."

    def _show_belief(self) -> None:
        probs = self.acts.work.draft.probs
        options = options_of(self.item)
        in_order = None if probs is None else [probs[index] for _, _, index in options]
        named = [(label, text) for label, text, _ in options]
        self.query_one(BeliefBar).show(named, in_order, self._selected, self._typed)

    def _show_hint(self) -> None:
        hint = self.query_one("#hint", Static)
        trouble = self._store_trouble or self._trouble
        hint.set_class(bool(trouble), "-trouble")
        note, self._note = self._note, ""
        hint.update(rich_text(trouble or note or self._hint()))

    def _hint(self) -> str:
        enter = key_of("next", self.desk.settings.keys)
        work = self.acts.work
        if not work.is_open:
            return f"Sent. {self._key('revise')} revises it, {enter} takes the next item."
        if self.item.next_step() is not None and self.stepped:
            if work.draft.probs is None:
                return f"How probable is each? Move with ← → or type a number; {enter} reads on."
            return f"{enter} reads on: the next turns."
        if self._is_going:
            names = " and ".join(speaker_name(w.seat, w.role) for w in self._writing.values())
            return f"{names or 'The debate'} {'write' if ' and ' in names else 'goes on'} …"
        if self._wanted is not None:
            return self._hint_wanted(self._wanted, enter)
        return f"{enter} to your verdict."

    def _hint_wanted(self, wanted: Wanted, enter: str) -> str:
        if wanted.seat is not Seat.JUDGE:
            return f"Your speech for seat {wanted.seat.value.upper()}: {enter} to write it."
        if wanted.act is Act.BELIEVE:
            ends = f", {self._key('end')} ends the debate here" if wanted.may_end else ""
            return f"Set your belief as it is now; {enter} goes on{ends}."
        if wanted.act is Act.ASK:
            return f"Ask the speakers: {enter} to write; nothing to ask is an answer, too."
        return f"The debate is over: {enter} to your verdict."

    def _key(self, name: str) -> str:
        return key_of(name, self.desk.settings.keys)

    def say(self, note: str) -> None:
        """Show a note in the hint's place until the next act."""
        self._note = note
        self._show_hint()

    # --- reading on ------------------------------------------------------------------

    def _reveal(self) -> None:
        step = self.item.next_step()
        if step is not None:
            self._note_attention()
            self.acts.add(EventKind.REVEALED, step=step)
            self._show_all()
            self.call_after_refresh(self.transcript.scroll_end, animate=False)

    def _confirm_belief(self) -> bool:
        """Whether the reader may go on: the first time without a belief there is a hint."""
        work, step = self.acts.work, self.item.current_step
        if work.draft.probs is None:
            if self._hinted_step == step:
                return True
            self._hinted_step = step
            self.say("No belief yet: ← → or a number sets it. Once more to read on without.")
            return False
        if step not in work.draft.beliefs:
            # Reading on with the bar where it stands is to keep the belief.
            self.acts.add(EventKind.BELIEF, step=step, probs=list(work.draft.probs))
        return True

    async def action_do_next(self) -> None:
        """The commonest act: read on, answer what the debate waits for, or come to the verdict."""
        self._apply_typed()
        if not self.acts.work.is_open:
            await self._leave("next")
        elif self.item.next_step() is not None and self.stepped:
            if self._confirm_belief():
                self._reveal()
                self._start_if_ready()
        elif self._is_going:
            self.say("The debaters are still writing; their words stand above.")
        elif self._trouble and self.item.live:
            self._start_if_ready()
        elif self._wanted is not None and self._wanted.act is not Act.DECIDE:
            self._act_live(self._wanted, ends=False)
        else:
            self.action_do_verdict()

    # --- live ------------------------------------------------------------------------

    def _start_if_ready(self) -> None:
        """Let a live debate go on once all that stands of it has been read."""
        ready = self.item.live and (self.item.next_step() is None or not self.stepped)
        if ready and self._wanted is None and not self._is_going:
            self._going = asyncio.create_task(self._go(None))

    async def _go(self, answer: PersonsAct | None) -> None:
        self._is_going, self._trouble = True, ""
        try:
            if self._live is None:
                transcript = self.item.transcript
                silent = is_spoken_out(transcript)
                cast = cast_of(transcript.debate, self.desk.settings, silent=silent)
                self._live = LiveDebate(self.desk.store, transcript.debate, cast, self._hear)
            if answer is None:
                self._wanted = await self._live.go()
            else:
                self._wanted = await self._live.answer(answer)
        except OversightError as error:
            self._fail(str(error))
        except Exception as error:  # an agent's fault must not take the judge's screen down
            self._fail(f"unexpected {type(error).__name__}: {error}")
        else:
            if self._wanted is None:
                self.item.live = False
        self._writing.clear()
        self._is_going = False
        if self.is_mounted:
            self._show_all()

    def _fail(self, reason: str) -> None:
        self._wanted = None
        self._trouble = f"{reason} — {self._key('stop')} tries again; nothing of yours is lost."

    def _hear(self, event: Event) -> None:
        """What happens in the debate, as it happens."""
        match event:
            case SpeechBegins() if event.seat is not Seat.JUDGE:
                self._writing[event.seat] = Writing(event.seat, event.role, event.act, event.round)
            case Words() if event.seat in self._writing:
                self._writing[event.seat].text += event.text
            case TurnRecorded():
                self._writing.pop(event.turn.seat, None)
                transcript = self.item.transcript
                kept = replace(transcript, turns=(*transcript.turns, event.turn))
                self.item.transcript = kept
                if event.turn.step > self.acts.work.revealed:
                    self.acts.add(EventKind.REVEALED, step=event.turn.step)
        self._is_dirty = True

    def _draw_frame(self) -> None:
        """Draw what has come in since the last frame."""
        if self._is_dirty:
            self._is_dirty = False
            view = self.transcript
            follows = view.scroll_offset.y >= view.max_scroll_y - 1
            open_columns = [view.column(f"writing-{seat}") for seat in self._writing]
            shown = {c.key for row in view.rows for c in row.columns if c.is_writing}
            if None in open_columns or len(shown) != len(self._writing):
                self._show_turns()
                self._show_hint()
            else:
                for seat, column in zip(self._writing, open_columns, strict=True):
                    assert column is not None
                    column.replace(mark_unfinished(self._writing[seat].text))
                view.relay()
            if follows:
                view.scroll_end(animate=False, force=True, immediate=True)
        if self._answer is not None:
            self._show_panels()

    @work
    async def _act_live(self, wanted: Wanted, *, ends: bool) -> None:
        """Give the debate what it waits for."""
        act = wanted.act
        if act is Act.BELIEVE:
            probs = self.acts.work.draft.probs
            if probs is None:
                self.say("It waits for your belief: ← → or a number sets it.")
                return
            if wanted.step not in self.acts.work.draft.beliefs:
                self.acts.add(EventKind.BELIEF, step=wanted.step, probs=list(probs))
            answer = PersonsAct(belief=stated(probs), ends=ends)
        else:
            speech = act is not Act.ASK
            title = "Your speech" if speech else "To the speakers: a question or a remark"
            hint = "" if speech else "To one side only: begin with its name, as “Debater A: …”."
            words = await self.app.push_screen_wait(
                WordsScreen(title, self.acts.work.words, hint=hint, on_change=self._keep_words)
            )
            if words is None:
                return
            answer = PersonsAct(text=words)
        self.acts.add(
            EventKind.ACTED,
            step=wanted.step,
            act=act.value,
            text=answer.text,
            probs=None if answer.belief is None else list(answer.belief.probs or ()),
            ends=ends,
        )
        self._wanted = None
        self._going = asyncio.create_task(self._go(answer))
        self._show_all()

    def _keep_words(self, text: str) -> None:
        if text != self.acts.work.words and self._wanted is not None:
            self.acts.add(EventKind.DRAFTED, step=self._wanted.step, text=text)

    def action_do_message(self) -> None:
        """Write to the speakers, when they wait for it."""
        if self._wanted is not None and self._wanted.act is Act.ASK:
            self._act_live(self._wanted, ends=False)
        elif not self.item.live:
            self.say("This debate is over: its speakers cannot be asked any more.")
        else:
            self.say("Not now: the debate says when it is your turn to ask.")

    def action_do_end(self) -> None:
        """End a live debate here."""
        if self._wanted is not None and self._wanted.may_end:
            self._act_live(self._wanted, ends=True)
        else:
            self.say("This debate cannot be ended here.")

    # --- belief ----------------------------------------------------------------------

    def _change(self, by: float) -> None:
        probs = self.acts.work.draft.probs
        index = options_of(self.item)[self._selected][2]
        before = probs[index] if probs is not None else 1 / len(self.item.orders.options)
        self._set(before + by)

    def _set(self, value: float) -> None:
        if not self._may_change():
            return
        now = time.monotonic()
        if now - self._moved_at > MOVE_S:
            self._move = uuid.uuid4().hex[:8]
        self._moved_at = now
        index = options_of(self.item)[self._selected][2]
        number = len(self.item.orders.options)
        probs = coupled(self.acts.work.draft.probs, number, index, value)
        self.acts.add(EventKind.BELIEF, step=self._belief_step(), probs=list(probs), move=self._move)
        self._show_belief()
        self._show_hint()

    def _belief_step(self) -> int:
        """The step after which a belief is given now: the debate's own, if it waits for one."""
        wanted = self._wanted
        if wanted is not None and wanted.act is Act.BELIEVE:
            return wanted.step
        return self.item.current_step

    def _may_change(self) -> bool:
        if self.acts.work.is_open:
            return True
        self.say(f"It is sent. {self._key('revise')} opens it again; every revision is kept.")
        return False

    def action_do_belief_down(self) -> None:
        """Believe the option less."""
        self._change(-0.05)

    def action_do_belief_up(self) -> None:
        """Believe the option more."""
        self._change(0.05)

    def action_do_belief_down_1(self) -> None:
        """Believe the option a little less."""
        self._change(-0.01)

    def action_do_belief_up_1(self) -> None:
        """Believe the option a little more."""
        self._change(0.01)

    def action_do_belief_option(self) -> None:
        """Change the belief in the next option."""
        self._apply_typed()
        self._selected = (self._selected + 1) % len(self.item.orders.options)
        self._show_belief()

    def on_key(self, event: events.Key) -> None:
        """Digits are a belief that is typed."""
        if event.character is not None and event.character in "0123456789":
            event.stop()
            self._typed += event.character
            if self._typing is not None:
                self._typing.stop()
            if len(self._typed) == 2:
                self._apply_typed()
            else:
                self._typing = self.set_timer(TYPE_S, self._apply_typed)
                self._show_belief()

    def _apply_typed(self) -> None:
        typed, self._typed = self._typed, ""
        if self._typing is not None:
            self._typing.stop()
            self._typing = None
        if typed:
            self._set(int(typed) / 100)
            self._show_belief()

    # --- moving about ------------------------------------------------------------------

    def action_do_turn_next(self) -> None:
        """Go to the next turn."""
        self.transcript.move_turn(1)

    def action_do_turn_previous(self) -> None:
        """Go to the turn before."""
        self.transcript.move_turn(-1)

    def action_do_quote_next(self) -> None:
        """Go to the next quote."""
        self.transcript.move_quote(1)

    def action_do_quote_previous(self) -> None:
        """Go to the quote before."""
        self.transcript.move_quote(-1)

    def action_do_fold(self) -> None:
        """Fold the current turn."""
        self.transcript.fold()

    def action_do_fold_all(self) -> None:
        """Fold all turns."""
        self.transcript.fold_all()

    def on_transcript_view_moved(self) -> None:
        """Another quote may be the current one."""
        self._show_panels()

    @work
    async def action_do_search(self) -> None:
        """Look for words."""
        needle = await self.app.push_screen_wait(LineScreen("Search", self.transcript.needle))
        if needle is not None:
            number = self.transcript.search(needle)
            keys = f"{self._key('match_next')} and {self._key('match_previous')} move"
            self.say(f"{number} matches; {keys}." if number else "Not found.")

    def action_do_match_next(self) -> None:
        """Go to the next match."""
        self.transcript.next_match(1)

    def action_do_match_previous(self) -> None:
        """Go to the match before."""
        self.transcript.next_match(-1)

    def action_do_copy(self) -> None:
        """Copy the current quote, or the current turn."""
        turn, number = self._current_turn(), self.transcript.current_quote
        if turn is None:
            self.say(f"Nothing is chosen: {self._key('turn_next')} goes to a turn.")
            return
        text = mark(turn).text if number is None else visible(turn.quotes[number].text)
        self.app.copy_to_clipboard(text)
        self.say("Copied.")

    def action_do_quotes(self) -> None:
        """Show all quotes, or hide them."""
        panel = self.query_one(QuotePanel)
        panel.display = not panel.display
        self.call_after_refresh(self._show_panels)
        self._show_panels()

    def action_do_around(self) -> None:
        """Show what stands around the current quote."""
        if self.transcript.current_quote is None:
            self.transcript.move_quote(1)
        self._around = not self._around
        if self._around:
            self.query_one(QuotePanel).display = True
        self._show_panels()

    def action_do_lean(self) -> None:
        """Lean on the current quote, or no longer."""
        turn, number = self._current_turn(), self.transcript.current_quote
        if turn is None or number is None:
            self.say(f"No quote is chosen: {self._key('quote_next')} goes to the next one.")
        elif self._may_change():
            on = (turn.id, number) not in self.acts.work.draft.leaned_on
            self.acts.add(EventKind.LEANED, turn=turn.id, quote=number, on=on)
            self._show_turns()
            self._show_panels()
            self.say("Picked: you lean on it." if on else "Put back.")

    def action_do_undo(self) -> None:
        """Take back the last change of the judgment."""
        if not self.acts.work.can_undo:
            self.say("Nothing to take back.")
            return
        self.acts.add(EventKind.UNDONE)
        self._moved_at = 0.0
        self._show_all()
        self.say("Taken back.")

    # --- the assistant -----------------------------------------------------------------

    def action_do_stop(self) -> None:
        """Stop the assistant, or try again what failed."""
        if self._asked is not None and not self._asked.done():
            self._asked.cancel()
        elif self._trouble:
            self._start_if_ready()
            self._show_hint()

    @work
    async def action_do_assistant(self) -> None:
        """Ask the assistant, or show what it said."""
        arm = self.acts.work.arm
        panel = self.query_one(AssistantPanel)
        if arm is None:
            self.say("No assistant: describe one under [assistance] in a study file.")
            return
        if not is_assisted(arm):
            self.say("This item comes without assistance, as it was drawn for the study.")
            return
        if not panel.display:
            panel.display = True
            self._show_panels()
        if self._asked is not None and not self._asked.done():
            self.say(f"It is still answering; {self._key('stop')} stops it.")
            return
        try:
            able = self.assistants.kinds_of_help(arm)
        except OversightError as error:
            self.say(str(error))
            return
        chosen = await self.app.push_screen_wait(
            ChoiceScreen("Ask the assistant", [(each, NAME_OF_HELP[each]) for each in able])
        )
        if chosen is None:
            return
        request = await self._request(chosen)
        if request is not None:
            self._answer = []
            self._asked = asyncio.create_task(self._ask(arm, request))

    async def _request(self, chosen: Help) -> HelpRequest | None:
        text, turn, belief = "", None, None
        if chosen in (Help.CHECK, Help.FREE):
            title = "Which claim?" if chosen is Help.CHECK else "Ask the assistant"
            said = await self.app.push_screen_wait(LineScreen(title))
            if not said:
                return None
            text = said
        elif chosen is Help.CRITIQUE:
            turn = self._current_turn()
            if turn is None:
                self.say(f"Which turn? {self._key('turn_next')} goes to one.")
                return None
        elif chosen is Help.AGAINST:
            probs = self.acts.work.draft.probs
            if probs is None:
                self.say("You have said no belief yet that it could argue against.")
                return None
            belief = stated(probs)
        return HelpRequest(chosen, text, turn, belief)

    async def _ask(self, arm: str, request: HelpRequest) -> None:
        heard: list[str] = []
        self._answer = heard
        try:
            await assist(
                self.assistants, self.item, arm, request, self._shown_turns(), heard.append
            )
        finally:
            self._answer = None
            if self.is_mounted:
                self._show_panels()

    # --- the verdict -------------------------------------------------------------------

    @work
    async def action_do_verdict(self) -> None:
        """Look at the judgment, say why, send it."""
        self._apply_typed()
        if not self._may_change():
            return
        if self.item.live and (self._wanted is None or self._wanted.act is not Act.DECIDE):
            self.say("The debate is still going on: the verdict comes at its end.")
            return
        if self.item.next_step() is not None and self.stepped:
            self.say("There are turns that you have not read yet; a verdict comes after them.")
            return
        self._rationale_move = uuid.uuid4().hex[:8]
        screen = VerdictScreen(
            self.item, self.desk.settings, options_of(self.item), self._keep_rationale
        )
        send = await self.app.push_screen_wait(screen)
        self._write_rationale()
        if send:
            await self._send()
        self._show_all()

    def _keep_rationale(self, text: str) -> None:
        self._rationale = text
        now = time.monotonic()
        if now - self._rationale_at >= TYPING_S:
            self._write_rationale()
        elif self._rationale_timer is None:
            self._rationale_timer = self.set_timer(TYPING_S, self._write_rationale)

    _rationale: str | None = None

    def _write_rationale(self) -> None:
        if self._rationale_timer is not None:
            self._rationale_timer.stop()
            self._rationale_timer = None
        text = self._rationale
        if text is not None and text != self.acts.work.draft.rationale:
            self._rationale_at = time.monotonic()
            self.acts.add(EventKind.RATIONALE, text=text, move=self._rationale_move)

    async def _send(self) -> None:
        self._note_attention()
        live = self._live if self.item.live else None
        try:
            judgment = await self.desk.send(self.item, live)
        except OversightError as error:
            self._trouble = f"Not sent: {error} — your work is kept; send it again."
            return
        self._trouble = ""
        self._wanted = None
        settings, question = self.desk.settings, self.item.transcript.question
        rounds = self.item.rounds_read()
        result = feedback(settings, question, judgment.final, rounds)
        strip = () if result is None else await asyncio.to_thread(self._strip)
        then = await self.app.push_screen_wait(
            SentScreen(judgment, question, result, strip, self._models())
        )
        if then == "revise":
            self.action_do_revise()
        else:
            await self._leave(then)

    def _strip(self) -> tuple[StripBin, ...]:
        sent = {
            e.debate_id for e in self.desk.store.events(self.desk.judge, None, [EventKind.SENT])
        }
        return calibration_strip(self.desk.store.transcripts(debate_ids=sent), self.desk.judge)

    def _models(self) -> list[str]:
        if not self.desk.settings.reveal_models:
            return []
        specs = self.item.transcript.debate.agents.values()
        return [
            str(s.engine.settings.get("model", s.engine.engine)) if s.engine else s.agent
            for s in specs
            if s.agent != "human"
        ]

    def action_do_revise(self) -> None:
        """Open a judgment that was sent again."""
        if self.acts.work.is_open:
            self.say("It is not sent yet.")
            return
        self.acts.add(EventKind.REOPENED)
        self._show_all()

    # --- leaving -----------------------------------------------------------------------

    async def action_do_skip(self) -> None:
        """Put the item off and take the next one."""
        if self.acts.work.num_sent:
            self.say("It is judged already.")
            return
        self.acts.add(EventKind.SKIPPED)
        await self._leave("next")

    async def action_do_back(self) -> None:
        """To the queue; everything is kept."""
        await self._leave("queue")

    async def _leave(self, where: Left) -> None:
        await self.close()
        self.dismiss(where)

    async def close(self) -> None:
        """Leave the item: stop what goes on, write down what there is."""
        self._apply_typed()
        self._note_attention(stop=True)
        for task in (self._asked, self._going):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._live is not None:
            await self._live.aclose()
        await self.desk.close(self.item)

    def action_do_help(self) -> None:
        """All keys."""
        self.app.push_screen(KeysScreen(NAMES, self.desk.settings.keys))

    def action_do_theme(self) -> None:
        """Light or dark."""
        self.app.theme = "textual-light" if self.app.current_theme.dark else "textual-dark"

    # --- attention and trouble ---------------------------------------------------------

    def alive(self, panel: str = "transcript") -> None:
        """A sign of life at a panel."""
        self.attention.touch(panel)

    def _note_attention(self, *, stop: bool = False) -> None:
        taken = self.attention.stop() if stop else self.attention.take()
        if taken:
            self.acts.add(EventKind.ATTENTION, panels=dict(taken))

    def _on_store_trouble(self, message: str | None) -> None:
        self._store_trouble = f"{message} — trying again" if message else ""
        if self.is_mounted:
            self._show_hint()
