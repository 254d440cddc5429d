"""The line that tells a judge or a speaker the next thing to do.

The first key that it names is the one that leads on now.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from oversight.judging.items import PersonAction
from oversight.judging.live import AwaitedAct
from oversight.judging.session import DebateSession, NextAction
from oversight.tui.keys import key_of
from oversight.tui.marking import called, heading
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


def settle() -> None:
    """Collect once, and leave out from now on all that is in memory."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
