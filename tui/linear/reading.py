"""Reading a debate line by line: what is revealed, and how a live one goes on."""

from __future__ import annotations

import asyncio

from oversight.graphs.persons import PersonsAct
from oversight.judging.desk import Desk, Item
from oversight.judging.live import Wanted
from oversight.judging.tasks.debate import stated
from oversight.judging.work import WHOLE, Span
from oversight.tui.linear.lines import (
    Numbered,
    Write,
    around,
    indented,
    numbered_quotes,
    one_line,
    own_words,
    quote_lines,
    turn_text,
)
from oversight.tui.live_side import LiveSide
from oversight.tui.marking import called, heading
from oversight.types import Act, AttentionPaid, Seat, Turn, TurnsRevealed

POLL_S = 0.05
"""How often a live debate is asked for what was said."""


class LinearReading:
    """The debate of one item."""

    def __init__(self, desk: Desk, item: Item, write: Write) -> None:
        self._desk = desk
        self._item = item
        self._acts = item.acts
        self._write = write
        self._live = LiveSide(desk, item, lambda: None)
        self._told: set[str] = set()
        """Turns that were written out."""

    def begin(self) -> None:
        """Show what was revealed, and the first turns if nothing was."""
        if not self._stepped:
            while self._item.next_step() is not None:
                self._reveal()
        elif self._item.next_step() is not None and self._acts.work.revealed < 0:
            self._reveal()
        self._tell_turns()
        protocol = self._item.transcript.debate.protocol
        if not (protocol.speakers or protocol.critics):
            self._write("There are no speeches: you judge from what is asked.")

    @property
    def _stepped(self) -> bool:
        return self._desk.settings.stepped

    @property
    def _shown(self) -> tuple[Turn, ...]:
        if self._item.live and self._stepped:
            revealed = self._acts.work.revealed
            return tuple(turn for turn in self._item.turns() if turn.step <= revealed)
        return self._item.shown(stepped=self._stepped)

    def _has_more(self) -> bool:
        return self._stepped and self._acts.work.is_open and self._item.next_step() is not None

    def _reveal(self) -> None:
        step = self._item.next_step()
        if step is not None:
            self._acts.add(TurnsRevealed(step=step))

    def _tell_turns(self) -> None:
        quotes = 1
        new: dict[str, tuple[Span, ...]] = {}
        for number, turn in enumerate(self._shown, 1):
            if turn.id not in self._told:
                self._told.add(turn.id)
                self._write(turn_text(self._item, number, turn, quotes))
                new[turn.id] = WHOLE
            quotes += len(turn.quotes)
        # What is written out is before the reader's eyes, or ears.
        if new.keys() - self._acts.work.seen.keys():
            self._acts.add(AttentionPaid(panels={}, seen=new))
        for name in self._absent():
            if name not in self._told:
                self._told.add(name)
                self._write(f"{one_line(name)}: no words, this turn is missing in the store.")

    def _absent(self) -> list[str]:
        """Speakers who had a part in what is shown, and of whom nothing is stored."""
        if self._item.live:
            return []
        spoken = {(turn.step, turn.seat) for turn in self._shown}
        schedule = self._item.transcript.debate.protocol.schedule()
        role_of = self._item.transcript.debate.protocol.role_of
        return [
            heading(self._item.transcript, slot.seat, role_of(slot), slot.act, step.round)
            for step in schedule
            for slot in step.slots
            if slot.act.is_spoken
            and (step.index, slot.seat) not in spoken
            and any(turn.step == step.index for turn in self._shown)
        ]

    async def _go_on(self) -> None:
        """Let a live debate go on, once what stands of it was read, until a person is needed."""
        if self._has_more() or not self._item.live:
            return
        self._live.start()
        await self._listen()

    async def _listen(self) -> None:
        writing: set[Seat] = set()
        while self._live.is_going:
            await asyncio.sleep(POLL_S)
            for seat in set(self._live.writing) - writing:
                debate, role = self._item.transcript.debate, self._live.writing[seat].role
                self._write(f"{one_line(called(debate, seat, role))} is writing.")
            writing = set(self._live.writing)
            if not writing:
                self._tell_turns()
        self._tell_turns()
        if self._live.trouble:
            self._write(
                f"{one_line(self._live.trouble)} Nothing of yours is lost: next tries again."
            )

    def _hint(self) -> None:
        wanted = self._live.wanted
        if not self._acts.work.is_open:
            self._write("It is sent. revise opens it again, next takes the next item.")
        elif self._has_more():
            self._write("There is more to read: give a belief, such as belief 70, and next.")
        elif wanted is not None:
            self._write(self._hint_wanted(wanted))
        elif not self._live.trouble:
            self._write("All is read: give a belief or verdict tie, then why, then send.")

    def _hint_wanted(self, wanted: Wanted) -> str:
        if self._live.is_others:
            return "Now it waits for another person: queue leaves it."
        if wanted.seat is not Seat.JUDGE:
            return f"You speak for seat {wanted.seat.value.upper()}: say and your words."
        if wanted.act is Act.BELIEVE:
            ends = "; end ends the debate here" if wanted.may_end else ""
            return f"Give your belief, such as belief 70, and next{ends}."
        if wanted.act is Act.ASK:
            return "Ask the speakers: ask and your words, or next to ask nothing."
        return "The debate is over: give a belief or verdict tie, then why, then send."

    async def _next(self, _: str) -> str | None:
        wanted = self._live.wanted
        if not self._acts.work.is_open:
            return "next"
        if self._has_more():
            self._keep_belief(self._item.current_step)
            self._reveal()
            self._tell_turns()
            await self._go_on()
        elif wanted is not None and not self._live.is_others and wanted.seat is Seat.JUDGE:
            if wanted.act is Act.BELIEVE:
                await self._believe(wanted, ends=False)
            if wanted.act is Act.ASK:
                await self._answer(PersonsAct())
        elif self._live.trouble:
            await self._go_on()
        return None

    async def _turns(self, _: str) -> None:
        self._told.clear()
        self._tell_turns()

    async def _quotes(self, _: str) -> None:
        self._write("\n".join(quote_lines(self._shown, self._acts.work.draft.leaned_on)))

    async def _around(self, rest: str) -> None:
        chosen = self._chosen_quote(rest)
        if chosen is not None:
            _, turn, place = chosen
            self._write(around(turn.quotes[place], self._item))

    async def _source(self, _: str) -> None:
        protocol, wanted = self._item.transcript.debate.protocol, self._live.wanted
        source = self._item.transcript.question.source
        speaks = wanted is not None and wanted.seat is not Seat.JUDGE and not self._live.is_others
        may_read = protocol.speakers_see_source if speaks else protocol.judge_sees_source
        if source is None or not may_read:
            self._write("This protocol does not show you the source.")
        else:
            self._write("The source:\n" + indented(own_words(source.text)))

    def _chosen_quote(self, number: str) -> Numbered | None:
        for each in numbered_quotes(self._shown):
            if number == str(each[0]):
                return each
        self._write("Which quote? Give its number: quotes lists them.")
        return None

    # --- a live debate -----------------------------------------------------------------

    async def _answer(self, answer: PersonsAct) -> None:
        self._live.answer(answer)
        await self._listen()

    async def _believe(self, wanted: Wanted, *, ends: bool) -> None:
        self._keep_belief(wanted.step)
        probs = self._acts.work.draft.probs
        if probs is None:
            self._write("It waits for your belief: belief 70 gives one.")
            return
        await self._answer(PersonsAct(belief=stated(probs), ends=ends))

    async def _ask(self, rest: str) -> None:
        if self._live.is_others or not self._live.waits_for(Act.ASK):
            self._write("Not now: the debate says when it is your turn to ask.")
            return
        await self._answer(PersonsAct(text=rest))

    async def _say(self, rest: str) -> None:
        wanted = self._live.wanted
        if wanted is None or wanted.seat is Seat.JUDGE or self._live.is_others:
            self._write("It is not your turn to speak.")
        elif not rest:
            self._write("Say what? Quote the source as <quote>its words</quote>.")
        else:
            await self._answer(PersonsAct(text=rest))

    async def _end(self, _: str) -> None:
        wanted = self._live.wanted
        if wanted is None or not wanted.may_end or self._live.is_others:
            self._write("This debate cannot be ended here.")
        else:
            await self._believe(wanted, ends=True)

    def _keep_belief(self, step: int) -> None:
        """To read on with a belief is to keep it."""
        draft = self._acts.work.draft
        if draft.probs is not None and step not in draft.beliefs:
            self._item.believe(step, draft.probs, stepped=self._stepped)
