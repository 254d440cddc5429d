"""A person's session at one item, without a screen: acts, refusals, and the act that comes next.

Full screens and plain lines drive the same session. It holds the rules; they show what it says and
pass on what the person does. A refusal is a value with its reason and its words; a screen may say
the same with the names of its keys, plain lines with those of their commands.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

from oversight.graphs.runtime import PersonsAct
from oversight.judging.desk import Desk, TaskDesk
from oversight.judging.items import (
    DebateItem,
    PersonAction,
    RefusalReason,
    RefusedAction,
    SourceExcerpt,
    TaskItem,
    excerpt,
)
from oversight.judging.live import LiveRunner
from oversight.judging.log import ActLog, JudgingLog, RatingLog
from oversight.judging.settings import SessionSettings
from oversight.judging.tasks import TaskQuestion
from oversight.judging.tasks.debate import (
    JudgmentScore,
    coupled,
    feedback,
    is_assisted,
    missing,
    stated,
)
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
    Quote,
    QuoteLeanedOn,
    RationaleGiven,
    Seat,
    Transcript,
    Turn,
    TurnsRevealed,
    Verdict,
    VerdictChosen,
    WordsDrafted,
)


class NextAction(StrEnum):
    """Act that leads on at a debate now."""

    LEAVE = auto()
    """It is sent: to another item."""
    READ_ON = auto()
    WAIT = auto()
    """Speakers are still writing."""
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

    @property
    @abstractmethod
    def transcript(self) -> Transcript:
        """The debate to be judged, or the one whose turns are rated."""

    def refusal(self, doing: PersonAction) -> RefusedAction | None:
        """The reason why something cannot be done now, or None."""
        work = self.acts.work
        if doing is PersonAction.CHANGE and not work.is_open:
            return RefusedAction(RefusalReason.SENT)
        if doing is PersonAction.UNDO and not work.can_undo:
            return RefusedAction(RefusalReason.NOTHING_TO_UNDO)
        if doing is PersonAction.REVISE and work.is_open:
            return RefusedAction(RefusalReason.NOT_SENT)
        if doing is PersonAction.SKIP and work.num_sent:
            return RefusedAction(RefusalReason.SENT_ALREADY)
        if doing is PersonAction.SEND and not work.is_open:
            return RefusedAction(RefusalReason.SENT)
        if doing is PersonAction.READ_SOURCE:
            return self._source_refusal()
        return None

    def can(self) -> dict[PersonAction, RefusedAction | None]:
        """All kinds of act, each with the reason why it cannot be done now."""
        return {doing: self.refusal(doing) for doing in PersonAction}

    def undo(self) -> RefusedAction | None:
        """Take the last change back."""
        return self._do(PersonAction.UNDO, ChangeUndone())

    def revise(self) -> RefusedAction | None:
        """Open the item again after it was sent."""
        return self._do(PersonAction.REVISE, ItemReopened())

    def skip(self) -> RefusedAction | None:
        """Put the item off."""
        return self._do(PersonAction.SKIP, ItemSkipped())

    def say_why(self, text: str, move: str = "") -> RefusedAction | None:
        """Keep a rationale; all of one `move` is taken back as one."""
        if text == self.acts.work.draft.rationale:
            return self.refusal(PersonAction.CHANGE)
        return self._do(PersonAction.CHANGE, RationaleGiven(text=text, move=move))

    def _do(self, doing: PersonAction, act: Any) -> RefusedAction | None:
        refusal = self.refusal(doing)
        if refusal is None:
            self.acts.add(act)
        return refusal

    # --- the source --------------------------------------------------------------------

    @property
    def speaks(self) -> bool:
        """True while this person is to speak in the debate, and not to judge."""
        return False

    def _source_refusal(self) -> RefusedAction | None:
        if self.transcript.question.source is None:
            return RefusedAction(RefusalReason.NO_SOURCE)
        protocol = self.transcript.debate.protocol
        may = protocol.speakers_see_source if self.speaks else protocol.judge_sees_source
        # The source of an open prompt is part of what was asked.
        may = may or (protocol.is_open and protocol.speakers_see_source)
        return None if may else RefusedAction(RefusalReason.HIDDEN_SOURCE)

    def source_around(self, quote: Quote) -> SourceExcerpt | RefusedAction:
        """The source around a quote: its paragraph where this person may read the source, else as
        many characters as the protocol shows."""
        may_read = self.refusal(PersonAction.READ_SOURCE) is None
        context = None if may_read else self.transcript.debate.protocol.quote_context
        if context == 0:
            return RefusedAction(RefusalReason.HIDDEN_SURROUNDINGS)
        found = excerpt(quote, self.transcript.question.source, context)
        return RefusedAction(RefusalReason.NOT_IN_SOURCE) if found is None else found

    # --- what was read -----------------------------------------------------------------

    @abstractmethod
    def unseen(self) -> dict[str, float]:
        """The shown turns, by id, that were not on the screen completely, with the share
        that was."""

    def unread(self, *, again: bool = False) -> RefusedAction | None:
        """A refusal where something would be answered that was never on the screen, but for turns
        of which that was waived; with `again` for these, too."""
        waived = frozenset() if again else self.waived
        left = {turn: share for turn, share in self.unseen().items() if turn not in waived}
        return RefusedAction(RefusalReason.UNSEEN, turns=left) if left else None

    def waive(self, turns: Collection[str]) -> None:
        """Let these turns be answered unread."""
        self.waived |= set(turns)

    def note(
        self, seen: Mapping[str, tuple[Span, ...]] | None = None, *, stop: bool = False
    ) -> None:
        """Write down the seconds of attention since the last time, and the parts of turns seen."""
        panels = self.attention.stop() if stop else self.attention.take()
        self.note_seen(seen or {}, panels)

    def leave(self, seen: Mapping[str, tuple[Span, ...]] | None = None) -> None:
        """Write down what there is, and nothing of the person's reading from now on."""
        self.note(seen, stop=True)
        self.is_left = True

    def note_seen(
        self, seen: Mapping[str, tuple[Span, ...]], panels: Mapping[str, float] | None = None
    ) -> None:
        """Write down the parts of turns that were seen."""
        if not self.is_left and (panels or seen):
            self.acts.add(AttentionPaid(panels=dict(panels or {}), seen=dict(seen)))


# --- judging ------------------------------------------------------------------------------


@dataclass(frozen=True)
class SentJudgment:
    """A judgment that was sent, with its score if its judge may know that."""

    judgment: Judgment
    score: JudgmentScore | None


class DebateSession(ItemSession):
    """A judge, or a person who speaks, at one debate."""

    acts: JudgingLog

    def __init__(self, desk: Desk, item: DebateItem, on_change: Callable[[], None]) -> None:
        """A session at `item`; `on_change` is called when a live debate has changed it."""
        super().__init__(item.acts, desk.settings)
        self.desk = desk
        self.item = item
        self.live = LiveRunner(desk, item, on_change)
        self._asked_at: int | None = None
        """The step at which it was last said that there is no belief yet."""

    # --- what there is to read ---------------------------------------------------------

    @property
    def transcript(self) -> Transcript:
        """The debate."""
        return self.item.transcript

    @property
    def shown(self) -> tuple[Turn, ...]:
        """The turns that have been revealed, in this judge's order."""
        return self.item.shown(stepped=self.stepped)

    @property
    def stepped(self) -> bool:
        """True if recorded turns are revealed step by step."""
        return self.desk.settings.stepped

    @property
    def has_more(self) -> bool:
        """True if there are turns that have not been shown yet."""
        return self.stepped and self.item.next_step() is not None

    @property
    def argues(self) -> bool:
        """True if this person speaks in the debate, and so does not judge it."""
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
        """Show the first turns, if none were; all of them where they are not shown by steps."""
        if self.acts.work.revealed < 0:
            self.reveal()
        while not self.stepped and self.item.next_step() is not None:
            self.reveal()

    def start(self) -> None:
        """Let a live debate go on once all that stands of it has been shown."""
        if not self.has_more:
            self.live.start()

    # --- what can be done ----------------------------------------------------------------

    def refusal(self, doing: PersonAction) -> RefusedAction | None:
        """The reason why something cannot be done now, or None."""
        if (general := super().refusal(doing)) is not None:
            return general
        wanted = None if self.live.is_others else self.live.wanted
        why: RefusalReason | None = None
        if doing is PersonAction.READ_ON and not self.has_more:
            why = RefusalReason.ALL_READ
        elif doing is PersonAction.ASK and (wanted is None or wanted.act is not Act.ASK):
            why = RefusalReason.NOT_YOUR_TURN_TO_ASK if self.item.live else RefusalReason.OVER
        elif doing is PersonAction.SAY and (wanted is None or wanted.seat is Seat.JUDGE):
            why = RefusalReason.NOT_YOUR_TURN
        elif doing is PersonAction.END and (wanted is None or not wanted.may_end):
            why = RefusalReason.CANNOT_END
        elif doing is PersonAction.SEND:
            why = self._too_early()
        elif doing is PersonAction.ASSIST and not is_assisted(self.acts.work.arm):
            drawn = self.acts.work.arm is not None
            why = RefusalReason.DRAWN_UNASSISTED if drawn else RefusalReason.NO_ASSISTANT
        return None if why is None else RefusedAction(why)

    def _too_early(self) -> RefusalReason | None:
        if self.has_more:
            return RefusalReason.HIDDEN_TURNS
        if self.acts.work.seat not in (None, Seat.JUDGE.value):
            return RefusalReason.ARGUED
        if self.item.live and (self.live.is_others or not self.live.waits_for(Act.DECIDE)):
            return RefusalReason.GOING_ON
        return None

    @property
    def speaks(self) -> bool:
        """True while this person is to speak in the debate, and not to judge."""
        wanted = self.live.wanted
        return wanted is not None and wanted.seat is not Seat.JUDGE and not self.live.is_others

    def next(self) -> NextAction:
        """The act that leads on now."""
        if not self.acts.work.is_open:
            return NextAction.LEAVE
        if self.has_more:
            return NextAction.READ_ON
        if self.live.is_going:
            return NextAction.WAIT
        if self.live.trouble:
            return NextAction.RETRY
        if self.live.is_others:
            return NextAction.OTHERS
        if self.live.wanted is not None and not self.live.waits_for(Act.DECIDE):
            return NextAction.ACT
        return NextAction.SEND if missing(self.acts.work) is None else NextAction.DECIDE

    # --- beliefs and the verdict -------------------------------------------------------

    @property
    def belief_step(self) -> int:
        """The step after which a belief is given now: the debate's own, if it waits for one."""
        wanted = self.live.wanted
        if wanted is not None and wanted.act is Act.BELIEVE:
            return wanted.step
        return self.item.current_step

    def believe(self, probs: Sequence[float], move: str = "") -> RefusedAction | None:
        """Note a belief; from now on the verdict follows it."""
        refusal = self.decide(Verdict.DECIDED)
        if refusal is None:
            self.item.believe(self.belief_step, probs, stepped=self.stepped, move=move)
        return refusal

    def believe_option(self, index: int, probability: float) -> RefusedAction | None:
        """Note a belief in one option; the others share what is left as before."""
        num_options = len(self.item.orders.options)
        before = self.acts.work.draft.probs
        return self.believe(coupled(before, num_options, index, probability))

    def keep_belief(self, step: int) -> None:
        """Note the belief as it stands for `step`, if none was given there."""
        draft = self.acts.work.draft
        if draft.probs is not None and step not in draft.beliefs:
            self.item.believe(step, draft.probs, stepped=self.stepped)

    def may_read_on(self) -> RefusedAction | None:
        """Keep the belief; a refusal the first time that there is none at this step."""
        step = self.item.current_step
        if self.acts.work.draft.probs is None and self._asked_at != step:
            self._asked_at = step
            return RefusedAction(RefusalReason.NO_BELIEF)
        self.keep_belief(step)
        return None

    def read_on(self) -> None:
        """Keep the belief as it stands, show the next turns, and let a live debate go on."""
        self.keep_belief(self.item.current_step)
        self.reveal()
        self.start()

    def decide(self, verdict: Verdict) -> RefusedAction | None:
        """Choose the verdict: as the belief says, a tie, or cannot tell."""
        if self.acts.work.draft.verdict is verdict:
            return self.refusal(PersonAction.CHANGE)
        return self._do(PersonAction.CHANGE, VerdictChosen(verdict=verdict))

    def lean(self, turn: Turn, quote: int) -> RefusedAction | bool:
        """Lean on a quote, or no longer; returns True if it is leant on now."""
        on = (turn.id, quote) not in self.acts.work.draft.leaned_on
        refusal = self._do(PersonAction.CHANGE, QuoteLeanedOn(turn=turn.id, quote=quote, on=on))
        return on if refusal is None else refusal

    def missing(self, *, need_rationale: bool = True) -> RefusedAction | None:
        """A refusal that names the first thing a judgment lacks, or None."""
        need = need_rationale and self.desk.settings.require_rationale
        words = missing(self.acts.work, need_rationale=need)
        return None if words is None else RefusedAction(RefusalReason.INCOMPLETE, words)

    async def send(self) -> SentJudgment | RefusedAction:
        """Record the judgment; return when it is durable.

        Raises:
            OversightError: It could not be written, or the debate not be ended.
        """
        refusal = self.refusal(PersonAction.SEND) or self.missing()
        if refusal is not None:
            return refusal
        judgment = await self.desk.send(self.item, self.live.judged)
        self.live.wanted = None
        question, rounds = self.item.transcript.question, self.item.rounds_read()
        return SentJudgment(
            judgment, feedback(self.desk.settings, question, judgment.final, rounds)
        )

    # --- a live debate -----------------------------------------------------------------

    def believe_live(self, *, ends: bool = False) -> RefusedAction | None:
        """Give the debate the belief that it waits for."""
        wanted, probs = self.live.wanted, self.acts.work.draft.probs
        if wanted is None or probs is None:
            return RefusedAction(RefusalReason.WAITS_FOR_BELIEF)
        self.keep_belief(wanted.step)
        self.live.answer(PersonsAct(belief=stated(probs), ends=ends))
        return None

    def speak(self, text: str, doing: PersonAction = PersonAction.SAY) -> RefusedAction | None:
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
    """A rater at one item of a task."""

    acts: RatingLog

    def __init__(self, desk: TaskDesk, item: TaskItem) -> None:
        """A session at `item`."""
        super().__init__(item.acts, desk.settings)
        self.desk = desk
        self.item = item

    @property
    def transcript(self) -> Transcript:
        """The debate that the item is of."""
        return self.item.transcript

    @property
    def asked(self) -> tuple[TaskQuestion, ...]:
        """The questions about the item, in the words for it."""
        return self.desk.task.questions_about(self.item.item, self.desk.asked)

    def refusal(self, doing: PersonAction) -> RefusedAction | None:
        """The reason why something cannot be done now, or None."""
        if doing in (PersonAction.READ_ON, PersonAction.ASK, PersonAction.SAY, PersonAction.END):
            return RefusedAction(RefusalReason.RECORDED)
        return (
            RefusedAction(RefusalReason.NO_ASSISTANT)
            if doing is PersonAction.ASSIST
            else super().refusal(doing)
        )

    def unseen(self) -> dict[str, float]:
        """Turns that are asked about and were not on the screen completely."""
        return self.item.unseen()

    def answer(self, name: str, value: str | None) -> RefusedAction | None:
        """Give an answer, by the question's name; None takes it back."""
        act = QuestionsAnswered(answers={name: value}, unseen=self.item.unseen())
        return self._do(PersonAction.CHANGE, act)

    def missing(self, *, need_rationale: bool = True) -> RefusedAction | None:
        """A refusal that names the first thing a rating lacks, or None."""
        need = need_rationale and self.desk.settings.require_rationale
        words = self.desk.task.missing(self.asked, self.acts.work, need_rationale=need)
        return None if words is None else RefusedAction(RefusalReason.INCOMPLETE, words)

    async def send(self) -> Feedback | RefusedAction:
        """Record the rating; return when it is durable.

        Raises:
            OversightError: It could not be written.
        """
        refusal = self.refusal(PersonAction.SEND) or self.missing()
        return refusal or await self.desk.send(self.item)
