"""Reading a debate line by line: what is revealed, and how a live one goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import ClassVar

from oversight.judging.desk import Desk, Item
from oversight.judging.live import Wanted
from oversight.judging.session import DebateSession, Doing, Next, Refusal, Why
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
from oversight.tui.marking import called, heading
from oversight.types import Act, AttentionPaid, Seat, Turn

POLL_S = 0.05
"""How often a live debate is asked for what was said."""


class LinearReading:
    """The debate of one item."""

    OWN_WORDS: ClassVar[Mapping[Why, str]] = {
        Why.SENT: "It is sent: revise opens it again; every revision is kept.",
        Why.SENT_ALREADY: "It is judged already.",
        Why.HIDDEN_TURNS: "There are turns that you have not read yet: next shows them.",
        Why.WAITS_FOR_BELIEF: "It waits for your belief: belief 70 gives one.",
    }
    """Refusals that name commands."""

    def __init__(self, desk: Desk, item: Item, write: Write) -> None:
        self._desk = desk
        self._item = item
        self._acts = item.acts
        self._write = write
        self._session = DebateSession(desk, item, lambda: None)
        self._live = self._session.live
        self._told: set[str] = set()
        """Turns that were written out."""

    def begin(self) -> None:
        """Show what was revealed, and the first turns if nothing was."""
        self._session.begin()
        while not self._stepped and self._item.next_step() is not None:
            self._session.reveal()
        self._tell_turns()
        protocol = self._item.transcript.debate.protocol
        if not (protocol.speakers or protocol.critics):
            self._write("There are no speeches: you judge from what is asked.")

    @property
    def _stepped(self) -> bool:
        return self._session.stepped

    def _refuse(self, refusal: Refusal | None) -> bool:
        """Say why something was not done; true if there is a reason."""
        if refusal is not None:
            self._write(refusal.said(self.OWN_WORDS))
        return refusal is not None

    @property
    def _shown(self) -> tuple[Turn, ...]:
        if self._item.live and self._stepped:
            revealed = self._acts.work.revealed
            return tuple(turn for turn in self._item.turns() if turn.step <= revealed)
        return self._item.shown(stepped=self._stepped)

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
        if self._item.live and not self._session.has_more:
            self._session.start()
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
        elif self._session.has_more:
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
        match self._session.next():
            case Next.LEAVE:
                return "next"
            case Next.READ_ON:
                self._session.keep_belief(self._item.current_step)
                self._session.reveal()
                self._tell_turns()
                await self._go_on()
            case Next.ACT if self._live.waits_for(Act.BELIEVE):
                await self._answered(self._session.believe_live())
            case Next.ACT if self._live.waits_for(Act.ASK):
                await self._answered(self._session.speak("", Doing.ASK))
            case Next.RETRY:
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
        source = self._item.transcript.question.source
        if not self._refuse(self._session.refusal(Doing.READ_SOURCE)) and source is not None:
            self._write("The source:\n" + indented(own_words(source.text)))

    def _chosen_quote(self, number: str) -> Numbered | None:
        for each in numbered_quotes(self._shown):
            if number == str(each[0]):
                return each
        self._write("Which quote? Give its number: quotes lists them.")
        return None

    # --- a live debate -----------------------------------------------------------------

    async def _answered(self, refusal: Refusal | None) -> None:
        if not self._refuse(refusal):
            await self._listen()

    async def _ask(self, rest: str) -> None:
        await self._answered(self._session.speak(rest, Doing.ASK))

    async def _say(self, rest: str) -> None:
        refusal = self._session.refusal(Doing.SAY)
        if refusal is None and not rest:
            self._write("Say what? Quote the source as <quote>its words</quote>.")
        else:
            await self._answered(refusal or self._session.speak(rest))

    async def _end(self, _: str) -> None:
        refusal = self._session.refusal(Doing.END)
        await self._answered(refusal or self._session.believe_live(ends=True))
