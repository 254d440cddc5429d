"""Base of the screens of judging and rating: a person's work on an item, its next act, its end.

The line that tells the next thing to do names first the key that leads on now. An item is left
without loss.
"""

from __future__ import annotations

import gc
import time
import uuid
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, TypeVar

from textual.message_pump import MessagePump
from textual.timer import Timer
from textual.widgets import Static

from oversight.judging.items import PersonAction, RefusalReason, RefusedAction
from oversight.judging.live import AwaitedAct
from oversight.judging.log import ActLog
from oversight.judging.session import DebateSession, ItemSession, NextAction
from oversight.judging.settings import SessionSettings
from oversight.judging.work import Span
from oversight.text.terminal import rich_text
from oversight.tui.keys import key_of
from oversight.tui.marking import called, heading
from oversight.tui.screens.dialogs import UnreadScreen
from oversight.tui.screens.reading import ReadingScreen
from oversight.tui.widgets.seen import SeenTranscript
from oversight.types import Act, Role, Seat

PAGE_DOWN, PAGE_UP = "PgDn", "PgUp"


def read_on(unread: tuple[int, int]) -> str | None:
    """A hint to the key that shows unseen lines, those below first; None if all were seen."""
    above, below = unread
    if not above and not below:
        return None
    lines, key = (below, PAGE_DOWN) if below else (above, PAGE_UP)
    where = "below" if below else "above"
    num = f"1 line {where} was" if lines == 1 else f"{lines} lines {where} were"
    return f"{key} reads on: {num} not on your screen yet."


@dataclass(frozen=True)
class Hints:
    """Hints for one item."""

    session: DebateSession
    keys: Mapping[str, str]
    """The judge's own keys."""
    key: Callable[[str], str]
    """Gives the name by which a key is known to them."""

    def now(self, *, unread: tuple[int, int] = (0, 0)) -> str:
        """The next thing to do, where so many lines above and below were not seen yet."""
        enter, then = key_of("next", self.keys), self.session.next()
        if then is NextAction.LEAVE:
            return f"Sent. {enter} takes the next item, {self.key('revise')} revises this one."
        reading = read_on(unread)
        if reading is not None:
            return reading
        if then is NextAction.READ_ON:
            if self.session.acts.work.draft.probs is None:
                return f"How probable is each? {self._belief_keys}; {enter} reads on."
            return f"{enter} reads on: the next turns."
        if then is NextAction.WAIT:
            return self._going()
        if then is NextAction.OTHERS:
            return f"Now it waits for another person; {self.key('back')} goes to your queue."
        if then is NextAction.ACT and self.session.live.wanted is not None:
            return self._wanted(self.session.live.wanted, enter)
        is_over = self.session.live.wanted is not None
        return self._to_verdict(enter, "The debate is over: " if is_over else "")

    @property
    def _belief_keys(self) -> str:
        return f"{self.key('belief_down')} {self.key('belief_up')} or a number says it"

    def _going(self) -> str:
        debate, writing = self.session.transcript.debate, self.session.live.writing.values()
        names = " and ".join(called(debate, each.seat, each.role) for each in writing)
        return f"{names or 'The debate'} {'write' if ' and ' in names else 'goes on'} …"

    def _to_verdict(self, enter: str, begin: str = "") -> str:
        """The way to the verdict, with anything that is missing first."""
        draft, verdict = self.session.acts.work.draft, self.key("verdict")
        if self.session.missing(need_rationale=False) is None:
            return f"{begin}{enter} to your verdict."
        if draft.probs is None:
            return (
                f"{begin}How probable is each? {self._belief_keys}; {verdict} if it is a tie or "
                "cannot be told."
            )
        keys = f"{self.key('belief_down')} {self.key('belief_up')}"
        return f"{begin}Equally probable so far: {keys} or a number moves it; {verdict} for a tie."

    def _wanted(self, wanted: AwaitedAct, enter: str) -> str:
        transcript = self.session.transcript
        if wanted.seat is not Seat.JUDGE:
            role = self._role_of(wanted)
            you = heading(transcript, wanted.seat, role, wanted.act, wanted.round)
            reads = self.session.refusal(PersonAction.READ_SOURCE) is None
            source = f" {self.key('source')} shows the source." if reads else ""
            return f"{enter} to write. You are {you}.{source}"
        if wanted.act is Act.BELIEVE:
            ends = f", {self.key('end')} ends the debate here" if wanted.may_end else ""
            if self.session.acts.work.draft.probs is None:
                return f"Set your belief as it is now: {self._belief_keys}; {enter} goes on{ends}."
            return f"Set your belief as it is now; {enter} goes on{ends}."
        return f"Ask the speakers: {enter} to write; nothing to ask is an answer, too."

    def _role_of(self, wanted: AwaitedAct) -> Role:
        protocol = self.session.transcript.debate.protocol
        [slot] = [s for s in protocol.schedule()[wanted.step].slots if s.seat is wanted.seat]
        return protocol.role_of(slot)


@cache
def leave_out_program() -> None:
    """Leave out of all collections, from the first call on, what is in memory then.

    Libraries are nine tenths of all objects and never become garbage; a collection that goes
    through them stops every key for a tenth of a second.
    """
    gc.freeze()


def settle() -> None:
    """Collect what the last item left behind, before a person reads the next one."""
    gc.collect()


ATTENTION_S = 15.0
"""Time between two notes of the seconds of attention."""

LeftT = TypeVar("LeftT", bound=str)
"""The way on from a screen that is left."""


class WorkScreen(ReadingScreen[LeftT]):
    """An item to be read, and an answer that can be taken back, sent, and opened again."""

    OWN_WORDS: ClassVar[Mapping[RefusalReason, str]] = {
        RefusalReason.SENT: "It is sent. {revise} opens it again; every revision is kept.",
        RefusalReason.NO_BELIEF: "No belief yet: {belief_down} {belief_up} or a number sets it. "
        "Once more to read on without.",
        RefusalReason.WAITS_FOR_BELIEF: "It waits for your belief: {belief_down} {belief_up} or a "
        "number sets it.",
        RefusalReason.ANSWERING: "It is still answering; {stop} stops it.",
        RefusalReason.NO_TURN: "Choose a turn first: {turn_next} and {turn_previous} go from one "
        "to another.",
    }
    """Refusals that name keys."""

    session: ItemSession

    def __init__(self, session: ItemSession, settings: SessionSettings) -> None:
        """A screen over a session at an item."""
        super().__init__(session, settings.keys)
        self.acts: ActLog[Any, Any, Any] = session.acts
        self.rationale = Rationale(self.session.say_why, self)
        self.takes_keys = False
        """True from when the item is on the screen until it is left."""
        self._trouble = ""
        self._note = ""
        self._begin = ""
        """Words shown before the hint until the first act."""
        self._said = "", False
        """The words in the hint's place, and true if they tell of a trouble."""
        self._num_acts = 0
        self._told_at = -1
        """Number of the act at which the note on the screen was shown; -1 for none."""

    @abstractmethod
    def show_all(self) -> None:
        """Draw all that may have changed."""

    @abstractmethod
    def _hint(self) -> str:
        """The hint: the next thing to do."""

    @abstractmethod
    async def close(self) -> None:
        """Leave the item: stop all work in the background, write down all that was done."""

    @property
    def num_waiting(self) -> int:
        """Acts that are not durable yet."""
        return self.acts.num_waiting

    def on_mount(self) -> None:
        """Watch over the writing of acts, and count attention."""
        self.takes_keys = True
        self.acts.on_trouble = self._on_store_trouble
        self.transcript.on_looked = self._on_looked
        self.set_interval(ATTENTION_S, self._note_attention)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Refuse keys that come while the item is not on the screen yet, or no longer."""
        if action.startswith("do_") and not self.takes_keys:
            return False
        return super().check_action(action, parameters)

    # --- what is said ------------------------------------------------------------------

    def say(self, note: str) -> None:
        """Show a note in the hint's place until the next act."""
        self._note = note
        self._show_hint()

    def _trouble_now(self) -> str:
        """The trouble to be shown, or nothing."""
        return self._trouble

    def _show_hint(self) -> None:
        trouble = self._trouble_now()
        note, self._note = self._note, ""
        self._told_at = self._num_acts if note else -1
        begin = f"{self._begin} " if self._begin and not self._num_acts else ""
        self._draw_hint(trouble or note or begin + self._hint(), is_trouble=bool(trouble))
        self.show_foot()

    def _draw_hint(self, said: str, *, is_trouble: bool) -> None:
        if (said, is_trouble) == self._said:
            return
        self._said = said, is_trouble
        hint = self.query_one("#hint", Static)
        hint.set_class(is_trouble, "-trouble")
        hint.update(rich_text(said), layout=False)
        # It is said anew with many a line that is read: to lay out the screen takes longer.
        width, height = hint.content_size
        if hint.get_content_height(self.size, self.size, width) != height:
            hint.refresh(layout=True)

    def _on_store_trouble(self, message: str | None) -> None:
        self._trouble = f"{message} — trying again" if message else ""
        if self.is_mounted:
            self._show_hint()

    def refuse(self, refusal: RefusedAction) -> None:
        """Say why something was not done."""
        said = refusal.said(self.OWN_WORDS)
        keys = {name: self.key(name) for name in self.KEYS}
        self.say(said.format_map(keys) if said in self.OWN_WORDS.values() else said)

    # --- what was on the screen --------------------------------------------------------

    def _when_read(self, act: Callable[[], object], *, again: bool = False) -> None:
        """Answer by `act`; ask first if some of the turns were never on the screen, with
        `again` also for turns of which that was waived."""
        self._note_attention()
        refusal = self.session.unread(again=again)
        if refusal is None:
            act()
            return
        left = refusal.turns

        def go_on(said: str | None) -> None:
            if said == "read":
                self.transcript.show_unread()
            elif said == "anyway":
                self.session.waive(left)
                self.transcript.waived = self.session.waived
                self.transcript.look_soon()
                act()

        names = {c.key: c.heading for row in self.transcript.rows for c in row.columns}
        listed = [(names[turn], share) for turn, share in left.items() if turn in names]
        self.app.push_screen(UnreadScreen(listed), go_on)

    def _on_looked(self) -> None:
        """Write down the lines that have been read, and hint at those that are left."""
        self._note_seen(completely=True)
        if self._told_at != self._num_acts:  # what was told at the last act stands until the next
            self._show_hint()

    def on_screen_resume(self) -> None:
        """Count as read again the turns that were behind a dialog."""
        for transcript in self.query("#transcript").results(SeenTranscript):
            transcript.look_soon()

    # --- the draft ---------------------------------------------------------------------

    def _may_change(self) -> bool:
        refusal = self.session.refusal(PersonAction.CHANGE)
        if refusal is not None:
            self.refuse(refusal)
        return refusal is None

    def action_do_revise(self) -> None:
        """Open the item again after it was sent."""
        refusal = self.session.revise()
        if refusal is not None:
            self.refuse(refusal)
        else:
            self.show_all()

    # --- attention ---------------------------------------------------------------------

    def alive(self, panel: str) -> None:
        """A sign of life at a panel."""
        self.session.attention.touch(panel)
        self._num_acts += 1

    def _note_attention(self, *, stop: bool = False) -> None:
        note = self.session.leave if stop else self.session.note
        note(self._take_seen())

    def _note_seen(self, *, completely: bool = False) -> None:
        self.session.note_seen(self._take_seen(completely=completely))

    def _take_seen(self, *, completely: bool = False) -> dict[str, tuple[Span, ...]]:
        is_left = self.session.is_left
        return {} if is_left else self.transcript.take_seen(completely=completely)

    # --- leaving -----------------------------------------------------------------------

    async def action_do_skip(self) -> None:
        """Put the item off and take the next one."""
        refusal = self.session.skip()
        if refusal is not None:
            self.refuse(refusal)
        else:
            await self._leave("next")

    async def action_do_back(self) -> None:
        """Close a panel beside the turns, or go to the queue; everything is kept."""
        if not self.close_panel():
            await self._leave("queue")

    async def _leave(self, where: Any) -> None:
        self.takes_keys = False
        await self.close()
        self.dismiss(where)


TYPING_S = 0.3
"""Time between two notes of words that are being typed."""


class Rationale:
    """Keeps the draft of a rationale."""

    def __init__(self, note: Callable[[str, str], object], clock: MessagePump) -> None:
        """A draft that `note` writes down, given its text and the name of the movement that all of
        its typing is; `clock` has the timer that does so."""
        self._note = note
        self._clock = clock
        self._text: str | None = None
        self._move = ""
        self._noted_at = 0.0
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Begin to type: all of it is taken back as one."""
        self._text = None
        self._move = uuid.uuid4().hex[:8]

    def keep(self, text: str) -> None:
        """Keep `text`, soon."""
        self._text = text
        if time.monotonic() - self._noted_at >= TYPING_S:
            self.write()
        elif self._timer is None:
            self._timer = self._clock.set_timer(TYPING_S, self.write)

    def write(self) -> None:
        """Keep it now."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self._text is not None:
            self._noted_at = time.monotonic()
            self._note(self._text, self._move)
            self._text = None
