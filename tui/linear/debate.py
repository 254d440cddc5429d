"""One debate line by line: turns as they are revealed or written, and a judge's commands.

Among these is asking the assistant.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import ClassVar

from oversight.errors import OversightError
from oversight.judging.assisting import NAME_OF_HELP, Assistants, AssistantSession
from oversight.judging.desk import Desk
from oversight.judging.items import DebateItem, PersonAction, RefusalReason, RefusedAction
from oversight.judging.live import AwaitedAct
from oversight.judging.queue_session import Where
from oversight.judging.session import DebateSession, NextAction
from oversight.judging.work import WHOLE, Span
from oversight.tui.linear.lines import (
    LineBuffer,
    Numbered,
    Read,
    Write,
    belief_text,
    excerpt_text,
    indented,
    judgment_lines,
    kept,
    next_line,
    numbered_quotes,
    one_line,
    own_words,
    question_lines,
    quote_lines,
    quote_text,
    sent_lines,
    turn_text,
)
from oversight.tui.marking import called, heading, named_by_seat
from oversight.tui.rows import options_of
from oversight.types import Act, AttentionPaid, Help, Seat, Turn, Verdict

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


SHORT = {
    "": "next", "n": "next", "b": "belief", "q": "quit", "?": "help", "v": "verdict",
    "s": "status", "l": "lean", "a": "assist",
}  # fmt: skip

HINTED = frozenset({"next", "ask", "say", "end", "send", "revise", "status"})
"""Commands after which it is said what comes next."""

VERDICTS = {
    "decided": Verdict.DECIDED, "1": Verdict.DECIDED,
    "tie": Verdict.TIE, "2": Verdict.TIE,
    "cannot tell": Verdict.ABSTAIN, "3": Verdict.ABSTAIN,
}  # fmt: skip


class LinearItem(LinearReading):
    """One item."""

    def __init__(
        self, desk: Desk, item: DebateItem, assistants: Assistants, read: Read, write: Write
    ) -> None:
        super().__init__(desk, item, write)
        self._read = read
        self._assistant = AssistantSession(assistants, self._session)
        self._commands: dict[str, Callable[[str], Awaitable[Where | None]]] = {
            "next": self._next, "belief": self._belief, "ask": self._ask, "say": self._say,
            "end": self._end, "verdict": self._verdict, "why": self._why, "lean": self._lean,
            "quotes": self._quotes, "around": self._around, "turns": self._turns,
            "source": self._source, "assist": self._assist, "undo": self._undo,
            "status": self._status, "send": self._send, "revise": self._revise,
            "skip": self._skip, "queue": self._queue, "quit": self._quit, "help": self._help,
        }  # fmt: skip

    async def run(self) -> Where:
        """Take commands until the item is left; returns the way on from there."""
        try:
            self._acts.on_trouble = self._on_trouble
            self._desk.open(self._item)
            self._write("\n".join(question_lines(self._item)))
            self._session.attention.touch("transcript")
            self.begin()
            await self._go_on()
            return await self._converse()
        finally:
            self._session.note(stop=True)
            await self._assistant.aclose()
            await self._live.aclose()
            await kept(self._desk.close(self._item), self._acts)

    async def _converse(self) -> Where:
        self._hint()
        while (line := await next_line(self._read, "> ")) is not None:
            self._session.attention.touch("transcript")
            self._session.note()
            word, _, rest = line.strip().partition(" ")
            name = SHORT.get(word.lower(), word.lower())
            if name not in self._commands:
                self._write(f"Not understood: {one_line(word)}. Type help.")
                continue
            try:
                where = await self._commands[name](rest.strip())
            except OversightError as error:
                self._write(f"{one_line(str(error))} Your work is kept: try again.")
                continue
            if where is not None:
                return where
            if name in HINTED:
                self._hint()
        return "quit"

    # --- the judgment ------------------------------------------------------------------

    async def _belief(self, rest: str) -> None:
        options = {label: index for label, _, index in options_of(self._item)}
        found = re.fullmatch(r"(?:([A-Za-z])\s+)?(\d{1,3})\s*%?", rest)
        label = (found[1] or next(iter(options))).upper() if found else ""
        if found is None or label not in options:
            self._write("Give percents, for an option if you like: belief 70, or belief B 30.")
        elif not self._refuse(self._session.believe_option(options[label], int(found[2]) / 100)):
            self._write(f"Belief: {belief_text(self._item)}.")

    async def _verdict(self, rest: str) -> None:
        verdict = VERDICTS.get(rest.lower())
        if verdict is None:
            self._write(
                "verdict and a number: 1. decided, as the belief says. 2. tie. 3. cannot tell."
            )
        elif not self._refuse(self._session.decide(verdict)):
            self._write(judgment_lines(self._item)[0])

    async def _why(self, rest: str) -> None:
        if not self._refuse(self._session.say_why(rest)):
            self._write("Kept.")

    async def _lean(self, rest: str) -> None:
        chosen = self._chosen_quote(rest)
        if chosen is not None:
            _, turn, place = chosen
            on = self._session.lean(turn, place)
            if isinstance(on, RefusedAction):
                self._refuse(on)
            else:
                told = "You lean on it" if on else "Put back"
                self._write(f"{told}: {quote_text(turn.quotes[place], one_line)}")

    async def _undo(self, _: str) -> None:
        if not self._refuse(self._session.undo()):
            self._write("\n".join(["Taken back.", *judgment_lines(self._item)]))

    async def _send(self, _: str) -> None:
        sent = await self._session.send()
        if isinstance(sent, RefusedAction):
            is_sent = sent.why is RefusalReason.SENT
            said = "It is sent already: revise opens it again." if is_sent else ""
            self._write(said or sent.said(self.OWN_WORDS))
            return
        strip = () if sent.score is None else self._desk.calibration()
        question = self._item.transcript.question
        self._write("\n".join(sent_lines(sent.judgment, question, sent.score, strip)))

    async def _revise(self, _: str) -> None:
        if not self._refuse(self._session.revise()):
            self._write("\n".join(["Open again.", *judgment_lines(self._item)]))

    async def _assist(self, rest: str) -> None:
        """Ask for help by its number, which further words may follow; without one, list it."""
        if self._refuse(self._assistant.refusal()):
            return
        able = self._assistant.kinds_of_help()
        number, _, text = rest.partition(" ")
        if not (number.isdecimal() and 1 <= int(number) <= len(able)):
            self._write("What for? assist and a number:")
            names = NAME_OF_HELP | {Help.CRITIQUE: "Criticise a turn: its number follows"}
            self._write("\n".join(f"{n}. {names[each]}" for n, each in enumerate(able, 1)))
            return
        words = text.strip()
        is_turn = words.isdecimal() and 1 <= int(words) <= len(self._shown)
        turn = self._shown[int(words) - 1] if is_turn else None
        request = self._assistant.request(able[int(number) - 1], words, turn)
        if isinstance(request, RefusedAction):
            self._refuse(request)
            return
        self._write("The assistant:")
        heard = LineBuffer(lambda line: self._write(indented(own_words(line))))
        self._assistant.begin(request, heard.take)
        reason = await self._assistant.answered()
        heard.end()
        said = self._acts.work.assistance[-1].text
        if note := named_by_seat(self._item.transcript.debate, [said]):
            self._write(note)
        self._write("The assistant has ended." if reason is None else one_line(reason))

    async def _status(self, _: str) -> None:
        self._write("\n".join([*question_lines(self._item), *judgment_lines(self._item)]))

    async def _help(self, _: str) -> None:
        self._write(ITEM_HELP)

    # --- leaving -----------------------------------------------------------------------

    async def _skip(self, _: str) -> Where | None:
        return None if self._refuse(self._session.skip()) else "next"

    async def _queue(self, _: str) -> Where:
        return "queue"

    async def _quit(self, _: str) -> Where:
        return "quit"

    def _on_trouble(self, message: str | None) -> None:
        self._write("Written." if message is None else f"{one_line(message)} Trying again.")


ITEM_HELP = """\
next, or an empty line: read on, or go on with a live debate.
belief 70, belief B 30: how probable an option is, in percent; without a letter the first.
verdict decided, verdict tie, verdict cannot tell.
why and words: your rationale. lean 2: lean on quote 2, or no longer.
quotes: list all quotes. around 2: the source around quote 2, where allowed. source: all of it.
turns: read all again. status: the question and your judgment.
ask and words: ask the speakers of a live debate. end: end it here. say and words: your speech.
assist: what the assistant can do. assist 1 and words: ask it.
undo: take the last change back. send: send the judgment. revise: open it again.
skip: put the item off. queue: back to the list. quit: leave. Everything is kept as it happens."""
