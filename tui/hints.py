"""The line that tells a judge, or whoever argues, what is to be done next.

The first key that it names is the one that leads on now.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from oversight.judging.desk import Item
from oversight.judging.live import LiveSide, Wanted
from oversight.judging.tasks.debate import missing
from oversight.tui.keys import key_of
from oversight.tui.marking import called, heading
from oversight.types import Act, Role, Seat

PAGE_DOWN, PAGE_UP = "PgDn", "PgUp"


def read_on(unread: tuple[int, int]) -> str | None:
    """Which key shows lines that were never on the screen: those below first; None if all were."""
    above, below = unread
    if not above and not below:
        return None
    lines, key = (below, PAGE_DOWN) if below else (above, PAGE_UP)
    where = "below" if below else "above"
    num = f"1 line {where} was" if lines == 1 else f"{lines} lines {where} were"
    return f"{key} reads on: {num} not on your screen yet."


def withheld(num: int) -> str:
    """What is said of debates that are left out of the queue once an answer was told."""
    if not num:
        return ""
    debates = "1 other debate" if num == 1 else f"{num} other debates"
    return f"{debates} on this question left the queue: you have been told its answer."


@dataclass(frozen=True)
class Hints:
    """Hints for one item."""

    item: Item
    live: LiveSide
    keys: Mapping[str, str]
    """The judge's own keys."""
    key: Callable[[str], str]
    """How a key is named to them."""

    def now(self, *, stepped: bool, unread: tuple[int, int] = (0, 0)) -> str:
        """What is to be done next, by someone who has not seen so many lines above and below."""
        enter = key_of("next", self.keys)
        work = self.item.acts.work
        if not work.is_open:
            return f"Sent. {enter} takes the next item, {self.key('revise')} revises this one."
        reading = read_on(unread)
        if reading is not None:
            return reading
        if self.item.next_step() is not None and stepped:
            if work.draft.probs is None:
                return f"How probable is each? {self._belief_keys}; {enter} reads on."
            return f"{enter} reads on: the next turns."
        if self.live.is_going:
            return self._going()
        if self.live.wanted is not None:
            return self._wanted(self.live.wanted, enter)
        return self._to_verdict(enter)

    @property
    def _belief_keys(self) -> str:
        return f"{self.key('belief_down')} {self.key('belief_up')} or a number says it"

    def _going(self) -> str:
        debate, writing = self.item.transcript.debate, self.live.writing.values()
        names = " and ".join(called(debate, each.seat, each.role) for each in writing)
        return f"{names or 'The debate'} {'write' if ' and ' in names else 'goes on'} …"

    def _to_verdict(self, enter: str, begin: str = "") -> str:
        """The way to the verdict: what is missing comes first."""
        draft, verdict = self.item.acts.work.draft, self.key("verdict")
        if missing(self.item.acts.work) is None:
            return f"{begin}{enter} to your verdict."
        if draft.probs is None:
            return (
                f"{begin}How probable is each? {self._belief_keys}; {verdict} if it is a tie or "
                "cannot be told."
            )
        keys = f"{self.key('belief_down')} {self.key('belief_up')}"
        return f"{begin}Equally probable so far: {keys} or a number moves it; {verdict} for a tie."

    def _wanted(self, wanted: Wanted, enter: str) -> str:
        if self.live.is_others:
            return f"Now it waits for another person; {self.key('back')} goes to your queue."
        if wanted.seat is not Seat.JUDGE:
            role = self._role_of(wanted)
            you = heading(self.item.transcript, wanted.seat, role, wanted.act, wanted.round)
            protocol, question = self.item.transcript.debate.protocol, self.item.transcript.question
            reads = protocol.speakers_see_source and question.source is not None
            source = f" {self.key('source')} shows the source." if reads else ""
            return f"{enter} to write. You are {you}.{source}"
        if wanted.act is Act.BELIEVE:
            ends = f", {self.key('end')} ends the debate here" if wanted.may_end else ""
            if self.item.acts.work.draft.probs is None:
                return f"Set your belief as it is now: {self._belief_keys}; {enter} goes on{ends}."
            return f"Set your belief as it is now; {enter} goes on{ends}."
        if wanted.act is Act.ASK:
            return f"Ask the speakers: {enter} to write; nothing to ask is an answer, too."
        return self._to_verdict(enter, "The debate is over: ")

    def _role_of(self, wanted: Wanted) -> Role:
        protocol = self.item.transcript.debate.protocol
        [slot] = [s for s in protocol.schedule()[wanted.step].slots if s.seat is wanted.seat]
        return protocol.role_of(slot)


def settle() -> None:
    """Collect once, and leave out from now on all that is in memory."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
