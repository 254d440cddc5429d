"""Reading a debate line by line: turns as they are revealed, and the course of a live one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import ClassVar

from oversight.judging.desk import Desk
from oversight.judging.items import DebateItem, PersonAction, RefusalReason, RefusedAction
from oversight.judging.live import AwaitedAct
from oversight.judging.queue_session import Where
from oversight.judging.session import DebateSession, NextAction
from oversight.judging.work import WHOLE, Span
from oversight.tui.linear.lines import (
    Numbered,
    Write,
    excerpt_text,
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
"""Time between two looks at the new words of a live debate."""


class LinearReading:
    """The debate of one item."""

    OWN_WORDS: ClassVar[Mapping[RefusalReason, str]] = {
        RefusalReason.SENT: "It is sent: revise opens it again; every revision is kept.",
        RefusalReason.SENT_ALREADY: "It is judged already.",
        RefusalReason.HIDDEN_TURNS: "There are turns that you have not read yet: next shows them.",
        RefusalReason.WAITS_FOR_BELIEF: "It waits for your belief: belief 70 gives one.",
        RefusalReason.NO_WORDS: "Say what: your words follow the number.",
        RefusalReason.NO_TURN: "Which turn? Its number follows.",
    }
    """Refusals that name commands."""

    def __init__(self, desk: Desk, item: DebateItem, write: Write) -> None:
        self._desk = desk
        self._item = item
        self._acts = item.acts
        self._write = write
        self._session = DebateSession(desk, item, lambda: None)
        self._live = self._session.live
        self._told: set[str] = set()
        """Turns that were written out."""

    def begin(self) -> None:
        """Show the turns revealed so far, and the first ones if none were."""
        self._session.begin()
        self._tell_turns()
        protocol = self._item.transcript.debate.protocol
        if not (protocol.speakers or protocol.critics):
            self._write("There are no speeches: you judge from what is asked.")

    def _refuse(self, refusal: RefusedAction | None) -> bool:
        """Say why something was not done; true if there is a reason."""
        if refusal is not None:
            self._write(refusal.said(self.OWN_WORDS))
        return refusal is not None

    @property
    def _shown(self) -> tuple[Turn, ...]:
        return self._session.shown

    def _tell_turns(self) -> None:
        quotes = 1
        new: dict[str, tuple[Span, ...]] = {}
        for number, turn in enumerate(self._shown, 1):
            if turn.id not in self._told:
                self._told.add(turn.id)
                self._write(turn_text(self._item, number, turn, quotes))
                new[turn.id] = WHOLE
            quotes += len(turn.quotes)
        # A turn that is written out is before the reader's eyes, or ears.
        if new.keys() - self._acts.work.seen.keys():
            self._acts.add(AttentionPaid(panels={}, seen=new))
        for lost in self._item.lost(self._shown):
            name = heading(self._item.transcript, lost.seat, lost.role, lost.act, lost.round)
            if name not in self._told:
                self._told.add(name)
                self._write(f"{one_line(name)}: no words, this turn is missing in the store.")

    async def _go_on(self) -> None:
        """Let a live debate go on, once its turns so far were read, until a person is needed."""
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
        match self._session.next():
            case NextAction.LEAVE:
                self._write("It is sent. revise opens it again, next takes the next item.")
            case NextAction.READ_ON:
                self._write("There is more to read: give a belief, such as belief 70, and next.")
            case NextAction.OTHERS:
                self._write("Now it waits for another person: queue leaves it.")
            case NextAction.ACT if (wanted := self._live.wanted) is not None:
                self._write(self._hint_wanted(wanted))
            case NextAction.DECIDE | NextAction.SEND:
                begin = "The debate is over" if self._live.waits_for(Act.DECIDE) else "All is read"
                self._write(f"{begin}: give a belief or verdict tie, then why, then send.")

    def _hint_wanted(self, wanted: AwaitedAct) -> str:
        if wanted.seat is not Seat.JUDGE:
            return f"You speak for seat {wanted.seat.value.upper()}: say and your words."
        if wanted.act is Act.BELIEVE:
            ends = "; end ends the debate here" if wanted.may_end else ""
            return f"Give your belief, such as belief 70, and next{ends}."
        return "Ask the speakers: ask and your words, or next to ask nothing."

    async def _next(self, _: str) -> Where | None:
        match self._session.next():
            case NextAction.LEAVE:
                return "next"
            case NextAction.READ_ON:
                self._session.read_on()
                self._tell_turns()
                await self._go_on()
            case NextAction.ACT if self._live.waits_for(Act.BELIEVE):
                await self._answered(self._session.believe_live())
            case NextAction.ACT if self._live.waits_for(Act.ASK):
                await self._answered(self._session.speak("", PersonAction.ASK))
            case NextAction.RETRY:
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
            found = self._session.source_around(turn.quotes[place])
            if isinstance(found, RefusedAction):
                self._refuse(found)
            else:
                self._write(excerpt_text(found))

    async def _source(self, _: str) -> None:
        source = self._item.transcript.question.source
        if not self._refuse(self._session.refusal(PersonAction.READ_SOURCE)) and source is not None:
            self._write("The source:\n" + indented(own_words(source.text)))

    def _chosen_quote(self, number: str) -> Numbered | None:
        for each in numbered_quotes(self._shown):
            if number == str(each[0]):
                return each
        self._write("Which quote? Give its number: quotes lists them.")
        return None

    # --- a live debate -----------------------------------------------------------------

    async def _answered(self, refusal: RefusedAction | None) -> None:
        if not self._refuse(refusal):
            await self._listen()

    async def _ask(self, rest: str) -> None:
        await self._answered(self._session.speak(rest, PersonAction.ASK))

    async def _say(self, rest: str) -> None:
        refusal = self._session.refusal(PersonAction.SAY)
        if refusal is None and not rest:
            self._write("Say what? Quote the source as <quote>its words</quote>.")
        else:
            await self._answered(refusal or self._session.speak(rest))

    async def _end(self, _: str) -> None:
        refusal = self._session.refusal(PersonAction.END)
        await self._answered(refusal or self._session.believe_live(ends=True))
