"""Items before a person: the turns there are to read, the source around a quote, and refusals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto

from oversight.judging.log import JudgingLog, RatingLog
from oversight.judging.tasks.debate import orders_for
from oversight.judging.work import unseen
from oversight.store.claims import ClaimResult
from oversight.store.rating_queue import RatingItem
from oversight.types import (
    Act,
    BeliefGiven,
    Orders,
    OutcomeStatus,
    Quote,
    Role,
    Seat,
    Source,
    Transcript,
    Turn,
)


class PersonAction(StrEnum):
    """Kinds of act that a person can do at an item."""

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
    ASSIST = auto()
    """Ask the assistant."""


class RefusalReason(StrEnum):
    """Reasons why something cannot be done now, each as the sentence that a person is told."""

    SENT = "It is sent: open it again first; every revision is kept."
    SENT_ALREADY = "It is sent already."
    NOT_SENT = "It is not sent yet."
    NONE_SENT = "Nothing was sent in this session."
    ENOUGH_JUDGES = "Others have judged it, or are at it."
    OPEN_ELSEWHERE = "It is open in another window, or being run by another program."
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
    RECORDED = "It is recorded as a whole: there is nothing to read on, to ask or to say."
    NO_SOURCE = "This question has no source."
    HIDDEN_SOURCE = "This protocol does not show you the source."
    HIDDEN_SURROUNDINGS = "This protocol shows you no more of the source than the quotes."
    NOT_IN_SOURCE = "It was not found in the source."
    NO_ASSISTANT = (
        "No assistant: an item comes without an assistant unless [assistance] in a study file "
        "describes one."
    )
    DRAWN_UNASSISTED = "This item comes without an assistant, as it was drawn for the study."
    ANSWERING = "The assistant is still answering."
    NO_WORDS = "Say what in words."
    NO_TURN = "Choose a turn first."
    NO_BELIEF_TO_OPPOSE = "You have said no belief yet that it could argue against."


WHY_NOT_TAKEN = {
    ClaimResult.ENOUGH: RefusalReason.ENOUGH_JUDGES,
    ClaimResult.ELSEWHERE: RefusalReason.OPEN_ELSEWHERE,
}
"""By the outcome of an attempt to take up an item: the reason that a person is told."""


@dataclass(frozen=True)
class RefusedAction:
    """Something that was not done, and the reason."""

    why: RefusalReason
    words: str = ""
    """Sentence to be shown in place of that of `why`."""
    turns: Mapping[str, float] = field(default_factory=dict)
    """Turns, by id, that were not on the screen completely, each with the share that was."""

    def said(self, own: Mapping[RefusalReason, str]) -> str:
        """The refusal as a sentence; `own` are words with the names of keys or commands."""
        return self.words or own.get(self.why) or self.why.value


@dataclass(frozen=True)
class SourceExcerpt:
    """A quote in the source's own words, with the text on both sides of it."""

    before: str
    quoted: str
    after: str


def excerpt(quote: Quote, source: Source | None, context: int | None) -> SourceExcerpt | None:
    """The source around a quote, cut ends marked by "…"; None if the quote was not found in it.

    Args:
        quote: The quote.
        source: The text in which it was looked for.
        context: Characters to either side; None for the whole paragraph.
    """
    if source is None or quote.source_start is None or quote.source_end is None:
        return None
    start, end = quote.source_start, quote.source_end
    if context is None:
        low = source.text.rfind("\n\n", 0, start) + 1
        stop = source.text.find("\n\n", end)
        high = len(source.text) if stop < 0 else stop
    else:
        low, high = max(start - context, 0), min(end + context, len(source.text))
    before = ("… " if low else "") + source.text[low:start].lstrip("\n")
    after = source.text[end:high] + (" …" if high < len(source.text) else "")
    return SourceExcerpt(before, source.text[start:end], after)


@dataclass(frozen=True)
class MissingTurn:
    """A turn of a finished debate of which the store has no words."""

    step: int
    round: int
    seat: Seat
    role: Role
    act: Act


@dataclass
class DebateItem:
    """A debate that a judge has taken up, and the judge's work on it."""

    transcript: Transcript
    acts: JudgingLog
    live: bool

    @property
    def key(self) -> str:
        """Identifier by which the queue lists it."""
        return self.transcript.debate.id

    @property
    def orders(self) -> Orders:
        """The debate's orders as this judge is shown them."""
        return orders_for(self.transcript.debate, swapped=bool(self.acts.work.swapped))

    def turns(self) -> tuple[Turn, ...]:
        """The turns that a judge may read, in this judge's order; beliefs are left out."""
        place = {seat: index for index, seat in enumerate(self.orders.shown)}
        spoken = [t for t in self.transcript.spoken() if t.act is not Act.BELIEVE]
        return tuple(sorted(spoken, key=lambda t: (t.step, place.get(t.seat, len(place)))))

    def shown(self, *, stepped: bool) -> tuple[Turn, ...]:
        """The turns that have been revealed so far."""
        if not stepped or self.acts.work.num_sent:
            return self.turns()
        return tuple(t for t in self.turns() if t.step <= self.acts.work.revealed)

    def unseen(self, *, stepped: bool) -> dict[str, float]:
        """Turns of `shown`, by id, that have not been on this judge's screen completely, each with
        the share that has; the judge's own words are left out."""
        work = self.acts.work
        others = [t.id for t in self.shown(stepped=stepped) if not work.has_said(t)]
        return unseen(work.seen, others)

    def lost(self, turns: Sequence[Turn]) -> list[MissingTurn]:
        """The turns that should stand beside `turns` in their steps and are not in the store."""
        if self.live:
            return []
        protocol = self.transcript.debate.protocol
        spoken = {(turn.step, turn.seat) for turn in turns}
        steps = {turn.step for turn in turns}
        return [
            MissingTurn(step.index, step.round, slot.seat, protocol.role_of(slot), slot.act)
            for step in protocol.schedule()
            for slot in step.slots
            if step.index in steps and slot.act.is_spoken and (step.index, slot.seat) not in spoken
        ]

    def believe(self, step: int, probs: Sequence[float], *, stepped: bool, move: str = "") -> None:
        """Note a belief after `step`, and the turns that had not been read when it was given."""
        unseen = self.unseen(stepped=stepped)
        self.acts.add(BeliefGiven(step=step, probs=tuple(probs), move=move, unseen=unseen))

    def steps(self) -> tuple[int, ...]:
        """Steps at which something was said, in order."""
        return tuple(sorted({turn.step for turn in self.turns()}))

    def next_step(self) -> int | None:
        """The step that is revealed next, or None when all is shown."""
        hidden = [step for step in self.steps() if step > self.acts.work.revealed]
        return hidden[0] if hidden else None

    def rounds_read(self) -> int:
        """The number of rounds of speech that have been shown."""
        revealed = self.acts.work.revealed
        return len({t.round for t in self.turns() if t.act.is_spoken and t.step <= revealed})

    @property
    def current_step(self) -> int:
        """The step after which a belief is given now."""
        return max(self.acts.work.revealed, 0)


def is_live(transcript: Transcript) -> bool:
    """True if the debate is still going on."""
    outcome = transcript.outcome
    return outcome is None or outcome.status is not OutcomeStatus.COMPLETE


@dataclass
class TaskItem:
    """An item of a rating task that a person has taken up, and their work on it."""

    item: RatingItem
    transcript: Transcript
    acts: RatingLog

    @property
    def key(self) -> str:
        """Identifier by which the queue lists it."""
        return self.item.key

    def turns(self) -> tuple[Turn, ...]:
        """The turns that are asked about, in this person's order."""
        by_id = {turn.id: turn for turn in self.transcript.turns}
        return tuple(by_id[id_] for id_ in self.acts.work.shown or self.item.turn_ids)

    def unseen(self) -> dict[str, float]:
        """Turns of `turns`, by id, that have not been on this person's screen completely, with
        the share that has."""
        return unseen(self.acts.work.seen, (turn.id for turn in self.turns()))

    def before(self) -> tuple[Turn, ...]:
        """The turns that were spoken in the debate before the first of those asked about."""
        first = min(turn.step for turn in self.turns())
        spoken = [t for t in self.transcript.spoken() if t.act.is_spoken and t.step < first]
        place = {seat: at for at, seat in enumerate(self.transcript.debate.orders.shown)}
        return tuple(sorted(spoken, key=lambda t: (t.step, place.get(t.seat, len(place)))))
