"""The line that tells a judge, or whoever argues, what is to be done next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from oversight.agents.speaking import speaker_name
from oversight.judging.desk import Item
from oversight.judging.live import Wanted
from oversight.tui.keys import key_of
from oversight.tui.live_side import LiveSide
from oversight.tui.rows import heading
from oversight.types import Act, Role, Seat


@dataclass(frozen=True)
class Hints:
    """Hints for one item."""

    item: Item
    live: LiveSide
    keys: Mapping[str, str]
    """The judge's own keys."""
    key: Callable[[str], str]
    """How a key is named to them."""

    def now(self, *, stepped: bool) -> str:
        """What is to be done next."""
        enter = key_of("next", self.keys)
        work = self.item.acts.work
        if not work.is_open:
            return f"Sent. {self.key('revise')} revises it, {enter} takes the next item."
        if self.item.next_step() is not None and stepped:
            if work.draft.probs is None:
                return f"How probable is each? Move with ← → or type a number; {enter} reads on."
            return f"{enter} reads on: the next turns."
        if self.live.is_going:
            writing = self.live.writing.values()
            names = " and ".join(speaker_name(each.seat, each.role) for each in writing)
            return f"{names or 'The debate'} {'write' if ' and ' in names else 'goes on'} …"
        if self.live.wanted is not None:
            return self._wanted(self.live.wanted, enter)
        return f"{enter} to your verdict."

    def _wanted(self, wanted: Wanted, enter: str) -> str:
        if self.live.is_others:
            return f"Now it waits for another person; {self.key('back')} goes to your queue."
        if wanted.seat is not Seat.JUDGE:
            role = self._role_of(wanted)
            you = heading(self.item, wanted.seat, role, wanted.act, wanted.round)
            return f"You are {you}. {enter} to write, {self.key('source')} shows the source."
        if wanted.act is Act.BELIEVE:
            ends = f", {self.key('end')} ends the debate here" if wanted.may_end else ""
            return f"Set your belief as it is now; {enter} goes on{ends}."
        if wanted.act is Act.ASK:
            return f"Ask the speakers: {enter} to write; nothing to ask is an answer, too."
        return f"The debate is over: {enter} to your verdict."

    def _role_of(self, wanted: Wanted) -> Role:
        protocol = self.item.transcript.debate.protocol
        [slot] = [s for s in protocol.schedule()[wanted.step].slots if s.seat is wanted.seat]
        return protocol.role_of(slot)
