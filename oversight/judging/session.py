"""A person's session at one item, without a screen: what can be done now, doing it, and refusals.

Full screens and plain lines drive the same session. It holds the rules; they show what it says and
pass on what the person does. A refusal is a value with its reason and its words; who shows it may
say the same with the names of their own keys or commands.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

from oversight.graphs.persons import PersonsAct
from oversight.judging.desk import Desk, Item, TaskDesk, TaskItem
from oversight.judging.live import LiveSide
from oversight.judging.log import ActLog, JudgingLog, RatingLog
from oversight.judging.settings import SessionSettings
from oversight.judging.tasks.debate import JudgmentScore, feedback, missing, stated
from oversight.judging.work import Attention, Span
from oversight.types import (
    Act,
    AttentionPaid,
    ChangeUndone,
    Feedback,
    ItemReopened,
    ItemSkipped,
    Judgment,
    QuestionsAnswered,
    QuoteLeanedOn,
    RationaleGiven,
    Seat,
    Turn,
    TurnsRevealed,
    Verdict,
    VerdictChosen,
    WordsDrafted,
)


class Doing(StrEnum):
    """What a person can do at an item."""

    CHANGE = auto()
    """Give or change beliefs, answers, a verdict, a rationale, quotes that are leant on."""
    UNDO = auto()
    READ_ON = auto()
    ASK = auto()
    SAY = auto()
    END = auto()
    SEND = auto()
    REVISE = auto()
    SKIP = auto()
    READ_SOURCE = auto()


class Why(StrEnum):
    """Why something cannot be done now."""

    SENT = "It is sent: open it again first; every revision is kept."
    SENT_ALREADY = "It is sent already."
    NOT_SENT = "It is not sent yet."
    NOTHING_TO_UNDO = "Nothing to take back."
    ALL_READ = "All that there is has been shown."
    NO_BELIEF = "No belief yet."
    WAITS_FOR_BELIEF = "It waits for your belief."
    UNSEEN = "Some of it was never on your screen."
    HIDDEN_TURNS = "There are turns that you have not read yet; a verdict comes after them."
    ARGUED = "You argued in this debate: others judge it."
    GOING_ON = "The debate is still going on: the verdict comes at its end."
    INCOMPLETE = "Something is missing."
    NOT_YOUR_TURN_TO_ASK = "Not now: the debate says when it is your turn to ask."
    OVER = "This debate is over: its speakers cannot be asked any more."
    NOT_YOUR_TURN = "It is not your turn to speak."
    CANNOT_END = "This debate cannot be ended here."
    NO_SOURCE = "This question has no source."
    HIDDEN_SOURCE = "This protocol does not show you the source."


@dataclass(frozen=True)
class Refusal:
    """Why something was not done."""

    why: Why
    words: str = ""
    """Where they are not those of `why`."""
    turns: Mapping[str, float] = field(default_factory=dict)
    """By id, turns that were not on the screen completely, each with the share that was."""

    def said(self, own: Mapping[Why, str]) -> str:
        """The refusal as a sentence; `own` are words with the names of keys or commands."""
        return self.words or own.get(self.why) or self.why.value


class Next(StrEnum):
    """What leads on at a debate now."""

    LEAVE = auto()
    """It is sent: to another item."""
    READ_ON = auto()
    WAIT = auto()
    """For speakers who are writing."""
    RETRY = auto()
    """The live debate, which failed."""
    OTHERS = auto()
    """It waits for another person."""
    ACT = auto()
    """The live debate waits for this person."""
    DECIDE = auto()
    """Something is missing before there can be a verdict."""
    SEND = auto()


class ItemSession(ABC):
    """Work on one item that can be taken back, sent, and opened again."""

    acts: ActLog[Any, Any, Any]

    def __init__(self, acts: ActLog[Any, Any, Any], settings: SessionSettings) -> None:
        self.acts = acts
        self.attention = Attention(settings.idle_s)
        self.waived: set[str] = set()
        """Turns that were answered unread, as the person wished."""
        self.is_left = False

    def refusal(self, doing: Doing) -> Refusal | None:
        """Why that cannot be done now, or None."""
        work = self.acts.work
        if doing is Doing.CHANGE and not work.is_open:
            return Refusal(Why.SENT)
        if doing is Doing.UNDO and not work.can_undo:
            return Refusal(Why.NOTHING_TO_UNDO)
        if doing is Doing.REVISE and work.is_open:
            return Refusal(Why.NOT_SENT)
        if doing is Doing.SKIP and work.num_sent:
            return Refusal(Why.SENT_ALREADY)
        if doing is Doing.SEND and not work.is_open:
            return Refusal(Why.SENT)
        return None

    def can(self) -> dict[Doing, Refusal | None]:
        """All that there is to do, each with why it cannot be done now."""
        return {doing: self.refusal(doing) for doing in Doing}

    def undo(self) -> Refusal | None:
        """Take the last change back."""
        return self._do(Doing.UNDO, ChangeUndone())

    def revise(self) -> Refusal | None:
        """Open again what was sent."""
        return self._do(Doing.REVISE, ItemReopened())

    def skip(self) -> Refusal | None:
        """Put the item off."""
        return self._do(Doing.SKIP, ItemSkipped())

    def say_why(self, text: str, move: str = "") -> Refusal | None:
        """Keep a rationale; all of one `move` is taken back as one."""
        if text == self.acts.work.draft.rationale:
            return None
        return self._do(Doing.CHANGE, RationaleGiven(text=text, move=move))

    def _do(self, doing: Doing, act: Any) -> Refusal | None:
        refusal = self.refusal(doing)
        if refusal is None:
            self.acts.add(act)
        return refusal

    # --- what was read -----------------------------------------------------------------

    @abstractmethod
    def unseen(self) -> dict[str, float]:
        """By id the turns that are shown and were not on the screen completely, with the share
        that was."""

    def unread(self, *, again: bool = False) -> Refusal | None:
        """A refusal where something would be answered that was never on the screen, but for turns
        of which that was waived; with `again` for these, too."""
        waived = frozenset() if again else self.waived
        left = {turn: share for turn, share in self.unseen().items() if turn not in waived}
        return Refusal(Why.UNSEEN, turns=left) if left else None

    def waive(self, turns: Collection[str]) -> None:
        """Let these turns be answered unread."""
        self.waived |= set(turns)

    def note(
        self, seen: Mapping[str, tuple[Span, ...]] | None = None, *, stop: bool = False
    ) -> None:
        """Write down the seconds of attention since the last time, and what was seen."""
        panels = self.attention.stop() if stop else self.attention.take()
        self.note_seen(seen or {}, panels)

    def leave(self, seen: Mapping[str, tuple[Span, ...]] | None = None) -> None:
        """Write down what there is, and nothing of the person's reading from now on."""
        self.note(seen, stop=True)
        self.is_left = True

    def note_seen(
        self, seen: Mapping[str, tuple[Span, ...]], panels: Mapping[str, float] | None = None
    ) -> None:
        """Write down what was seen."""
        if not self.is_left and (panels or seen):
            self.acts.add(AttentionPaid(panels=dict(panels or {}), seen=dict(seen)))


# --- judging ------------------------------------------------------------------------------


@dataclass(frozen=True)
class SentJudgment:
    """A judgment that was sent, and what its judge may be told of it."""

    judgment: Judgment
    score: JudgmentScore | None


class DebateSession(ItemSession):
    """A judge, or someone who argues, at one debate."""

    acts: JudgingLog

    def __init__(self, desk: Desk, item: Item, on_change: Callable[[], None]) -> None:
        """At `item`; `on_change` is told when a live debate has changed it."""
        super().__init__(item.acts, desk.settings)
        self.desk = desk
        self.item = item
        self.live = LiveSide(desk, item, on_change)
        self._asked_at: int | None = None
        """At which step it was said that there is no belief yet."""

    # --- what there is to read ---------------------------------------------------------

    @property
    def stepped(self) -> bool:
        """Recorded turns are revealed step by step."""
        return self.desk.settings.stepped

    @property
    def has_more(self) -> bool:
        """There are turns that have not been shown yet."""
        return self.stepped and self.item.next_step() is not None

    @property
    def argues(self) -> bool:
        """This person speaks in the debate, and so does not judge it."""
        wanted = self.live.wanted
        seat = self.acts.work.seat or (None if wanted is None else wanted.seat.value)
        return seat is not None and seat != Seat.JUDGE.value

    def unseen(self) -> dict[str, float]:
        """Turns that are shown and were not on the screen completely."""
        return self.item.unseen(stepped=self.stepped)

    def reveal(self) -> None:
        """Show the next turns."""
        step = self.item.next_step()
        if step is not None:
            self.acts.add(TurnsRevealed(step=step))

    def begin(self) -> None:
        """Show the first turns, if none were."""
        if self.acts.work.revealed < 0:
            self.reveal()

    def start(self) -> None:
        """Let a live debate go on once all that stands of it has been shown."""
        if not self.has_more:
            self.live.start()

    # --- what can be done ----------------------------------------------------------------

    def refusal(self, doing: Doing) -> Refusal | None:
        """Why that cannot be done now, or None."""
        if (general := super().refusal(doing)) is not None:
            return general
        wanted = None if self.live.is_others else self.live.wanted
        why: Why | None = None
        if doing is Doing.READ_ON and not self.has_more:
            why = Why.ALL_READ
        elif doing is Doing.ASK and (wanted is None or wanted.act is not Act.ASK):
            why = Why.NOT_YOUR_TURN_TO_ASK if self.item.live else Why.OVER
        elif doing is Doing.SAY and (wanted is None or wanted.seat is Seat.JUDGE):
            why = Why.NOT_YOUR_TURN
        elif doing is Doing.END and (wanted is None or not wanted.may_end):
            why = Why.CANNOT_END
        elif doing is Doing.SEND:
            why = self._too_early()
        elif doing is Doing.READ_SOURCE:
            why = self._hidden_source()
        return None if why is None else Refusal(why)

    def _too_early(self) -> Why | None:
        if self.has_more:
            return Why.HIDDEN_TURNS
        if self.acts.work.seat not in (None, Seat.JUDGE.value):
            return Why.ARGUED
        if self.item.live and (self.live.is_others or not self.live.waits_for(Act.DECIDE)):
            return Why.GOING_ON
        return None

    def _hidden_source(self) -> Why | None:
        debate, wanted = self.item.transcript.debate, self.live.wanted
        if self.item.transcript.question.source is None:
            return Why.NO_SOURCE
        speaks = wanted is not None and wanted.seat is not Seat.JUDGE and not self.live.is_others
        protocol = debate.protocol
        may = protocol.speakers_see_source if speaks else protocol.judge_sees_source
        # The source of an open prompt is part of what was asked.
        may = may or (protocol.is_open and protocol.speakers_see_source)
        return None if may else Why.HIDDEN_SOURCE

    def next(self) -> Next:
        """What leads on now."""
        if not self.acts.work.is_open:
            return Next.LEAVE
        if self.has_more:
            return Next.READ_ON
        if self.live.is_going:
            return Next.WAIT
        if self.live.trouble:
            return Next.RETRY
        if self.live.is_others:
            return Next.OTHERS
        if self.live.wanted is not None and not self.live.waits_for(Act.DECIDE):
            return Next.ACT
        return Next.SEND if missing(self.acts.work) is None else Next.DECIDE

    # --- beliefs and the verdict -------------------------------------------------------

    @property
    def belief_step(self) -> int:
        """The step after which a belief is given now: the debate's own, if it waits for one."""
        wanted = self.live.wanted
        if wanted is not None and wanted.act is Act.BELIEVE:
            return wanted.step
        return self.item.current_step

    def believe(self, probs: Sequence[float], move: str = "") -> Refusal | None:
        """Note a belief."""
        refusal = self.refusal(Doing.CHANGE)
        if refusal is None:
            self.item.believe(self.belief_step, probs, stepped=self.stepped, move=move)
        return refusal

    def keep_belief(self, step: int) -> None:
        """To read on with the belief as it stands is to keep it."""
        draft = self.acts.work.draft
        if draft.probs is not None and step not in draft.beliefs:
            self.item.believe(step, draft.probs, stepped=self.stepped)

    def may_read_on(self) -> Refusal | None:
        """Keep the belief; a refusal the first time that there is none at this step."""
        step = self.item.current_step
        if self.acts.work.draft.probs is None and self._asked_at != step:
            self._asked_at = step
            return Refusal(Why.NO_BELIEF)
        self.keep_belief(step)
        return None

    def decide(self, verdict: Verdict) -> Refusal | None:
        """Choose what the judgment is to be."""
        if self.acts.work.draft.verdict is verdict:
            return self.refusal(Doing.CHANGE)
        return self._do(Doing.CHANGE, VerdictChosen(verdict=verdict))

    def lean(self, turn: Turn, quote: int) -> Refusal | bool:
        """Lean on a quote, or no longer; which of the two it is now."""
        on = (turn.id, quote) not in self.acts.work.draft.leaned_on
        refusal = self._do(Doing.CHANGE, QuoteLeanedOn(turn=turn.id, quote=quote, on=on))
        return on if refusal is None else refusal

    def missing(self, *, need_rationale: bool = True) -> Refusal | None:
        """What a judgment still lacks."""
        need = need_rationale and self.desk.settings.require_rationale
        words = missing(self.acts.work, need_rationale=need)
        return None if words is None else Refusal(Why.INCOMPLETE, words)

    async def send(self) -> SentJudgment | Refusal:
        """Record the judgment; return when it is durable.

        Raises:
            OversightError: It could not be written, or the debate not be ended.
        """
        refusal = self.refusal(Doing.SEND) or self.missing()
        if refusal is not None:
            return refusal
        judgment = await self.desk.send(self.item, self.live.judged)
        self.live.wanted = None
        question, rounds = self.item.transcript.question, self.item.rounds_read()
        return SentJudgment(
            judgment, feedback(self.desk.settings, question, judgment.final, rounds)
        )

    # --- a live debate -----------------------------------------------------------------

    def believe_live(self, *, ends: bool = False) -> Refusal | None:
        """Give the debate the belief that it waits for."""
        wanted, probs = self.live.wanted, self.acts.work.draft.probs
        if wanted is None or probs is None:
            return Refusal(Why.WAITS_FOR_BELIEF)
        self.keep_belief(wanted.step)
        self.live.answer(PersonsAct(belief=stated(probs), ends=ends))
        return None

    def speak(self, text: str, doing: Doing = Doing.SAY) -> Refusal | None:
        """Give the debate the words that it waits for: a speech, or with `ASK` a question."""
        refusal = self.refusal(doing)
        if refusal is None:
            self.live.answer(PersonsAct(text=text))
        return refusal

    def draft_words(self, text: str) -> None:
        """Keep words to the speakers that are not sent yet."""
        if text != self.acts.work.words and self.live.wanted is not None:
            self.acts.add(WordsDrafted(step=self.live.wanted.step, text=text))


# --- rating -------------------------------------------------------------------------------


class RatingSession(ItemSession):
    """Someone who rates, at one item of a task."""

    acts: RatingLog

    def __init__(self, desk: TaskDesk, item: TaskItem) -> None:
        super().__init__(item.acts, desk.settings)
        self.desk = desk
        self.item = item

    def unseen(self) -> dict[str, float]:
        """Turns that are asked about and were not on the screen completely."""
        return self.item.unseen()

    def answer(self, name: str, value: str | None) -> Refusal | None:
        """Give an answer, by the question's name; None takes it back."""
        act = QuestionsAnswered(answers={name: value}, unseen=self.item.unseen())
        return self._do(Doing.CHANGE, act)

    def missing(self, *, need_rationale: bool = True) -> Refusal | None:
        """What a rating still lacks."""
        need = need_rationale and self.desk.settings.require_rationale
        words = self.desk.task.missing(self.desk.asked, self.acts.work, need_rationale=need)
        return None if words is None else Refusal(Why.INCOMPLETE, words)

    async def send(self) -> Feedback | Refusal:
        """Record the rating; return when it is durable.

        Raises:
            OversightError: It could not be written.
        """
        return self.missing() or await self.desk.send(self.item)
