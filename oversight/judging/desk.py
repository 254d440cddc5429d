"""The judge's desk: the queue, an item that is taken up, and sending it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from oversight.aggregation.rulings import rulings, top
from oversight.errors import StoreError
from oversight.evals.calibration import SCORES
from oversight.judging.folding import unseen
from oversight.judging.judgment import draw_arm, draw_swapped, judgment_of, orders_for
from oversight.judging.live import LiveDebate
from oversight.judging.log import JudgingLog
from oversight.judging.settings import JudgingSettings
from oversight.store import Store
from oversight.store.queue import ItemState, QueueFilter, QueueItem, Taken
from oversight.types import (
    Act,
    Belief,
    BeliefGiven,
    DebateOpened,
    EventKind,
    ItemClosed,
    ItemSkipped,
    ItemUnskipped,
    JudgeInformed,
    JudgeKind,
    Judgment,
    JudgmentSent,
    Orders,
    OutcomeStatus,
    Question,
    Transcript,
    Turn,
    Verdict,
)

EDGES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the strip: confidences from one edge to the next are counted together."""


@dataclass(frozen=True)
class JudgmentScore:
    """Score of this judgment."""

    correct: int
    right: bool | None
    """None: nothing was decided."""
    score: float
    rule: str
    price: float


def feedback(settings: JudgingSettings, question: Question, final: Belief, rounds: int) -> (
    JudgmentScore | None
):  # fmt: skip
    """The score of a judgment; None where the study keeps it hidden or nobody knows the answer.

    Who cannot tell is scored as if all options were equally probable.
    """
    if not settings.feedback or question.correct is None:
        return None
    even = (1.0 / len(question.options),) * len(question.options)
    probs = final.probs or even
    price = settings.price_per_round * rounds
    return JudgmentScore(
        correct=question.correct,
        right=None if final.choice is None else final.choice == question.correct,
        score=SCORES[settings.score](probs, question.correct) - price,
        rule=settings.score,
        price=price,
    )


@dataclass(frozen=True)
class StripBin:
    """One stretch of confidence."""

    low: float
    high: float
    num: int
    num_right: int


def calibration_strip(transcripts: Iterable[Transcript], judge: str) -> tuple[StripBin, ...]:
    """How often this judge was right, by how sure they were; undecided judgments are left out."""
    counts = [[0, 0] for _ in EDGES[1:]]
    for transcript in transcripts:
        correct = transcript.question.correct
        for ruling in rulings(transcript):
            if ruling.judge != judge or ruling.kind is not JudgeKind.HUMAN or correct is None:
                continue
            if ruling.final.verdict is not Verdict.DECIDED or ruling.final.probs is None:
                continue
            confidence = max(ruling.final.probs)
            place = min(max(int((confidence - EDGES[0]) * 10 + 1e-9), 0), len(counts) - 1)
            counts[place][0] += 1
            counts[place][1] += correct in top(ruling.final.probs)
    pairs = zip(EDGES, EDGES[1:], counts, strict=False)
    return tuple(StripBin(low, high, num, right) for low, high, (num, right) in pairs)


ORDER = (ItemState.BEGUN, ItemState.WAITING, ItemState.SKIPPED, ItemState.DONE)
"""States in the order in which their items are listed."""
STATES_IN_TURN = ORDER[:2]
"""What is offered as the next item, in this order; skipped ones are not."""
UNTOUCHED = (ItemState.WAITING, ItemState.SKIPPED)


@dataclass
class Item:
    """A debate on the desk: what there is to read, and the judge's work on it."""

    transcript: Transcript
    acts: JudgingLog
    live: bool

    @property
    def orders(self) -> Orders:
        """As this judge meets the debate."""
        return orders_for(self.transcript.debate, swapped=bool(self.acts.work.swapped))

    def turns(self) -> tuple[Turn, ...]:
        """The turns that a judge may read, in this judge's order; beliefs of theirs left out."""
        place = {seat: index for index, seat in enumerate(self.orders.shown)}
        spoken = [t for t in self.transcript.spoken() if t.act is not Act.BELIEVE]
        return tuple(sorted(spoken, key=lambda t: (t.step, place.get(t.seat, len(place)))))

    def shown(self, *, stepped: bool) -> tuple[Turn, ...]:
        """Those of `turns` that have been revealed so far."""
        if self.live or not stepped or self.acts.work.num_sent:
            return self.turns()
        return tuple(t for t in self.turns() if t.step <= self.acts.work.revealed)

    def unseen(self, *, stepped: bool) -> dict[str, float]:
        """By id those of `shown` that have not been on this judge's screen completely, each with
        the share that has; what they said themselves is left out."""
        work = self.acts.work
        others = [t.id for t in self.shown(stepped=stepped) if not work.has_said(t)]
        return unseen(work.seen, others)

    def believe(self, step: int, probs: Sequence[float], *, stepped: bool, move: str = "") -> None:
        """Note a belief after `step`, and what had not been read when it was given."""
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
        """How many rounds of speech have been shown."""
        revealed = self.acts.work.revealed
        return len({t.round for t in self.turns() if t.act.is_spoken and t.step <= revealed})

    @property
    def current_step(self) -> int:
        """The step after which a belief is given now."""
        return max(self.acts.work.revealed, 0)


def _sent(judgment: Judgment, *, informs: bool) -> JudgmentSent:
    return JudgmentSent(revision=judgment.revision, informs=informs, unseen=judgment.unseen)


def is_live(transcript: Transcript) -> bool:
    """Whether the debate is still going on."""
    outcome = transcript.outcome
    return outcome is None or outcome.status is not OutcomeStatus.COMPLETE


class Desk:
    """A judge at a store."""

    def __init__(self, store: Store, settings: JudgingSettings) -> None:
        self.store = store
        self.settings = settings
        self.judge = settings.judge
        self._told: dict[str, str] = {}
        """Debates after which the judge was told the answer, and their questions."""

    def queue(self) -> list[QueueItem]:
        """All items for this judge: waiting, begun, skipped and done.

        Left out are those on a question whose answer this judge has been shown after judging
        another debate on it: they could not be judged any more.
        """
        wanted = QueueFilter(dataset=self.settings.dataset, protocol=self.settings.protocol)
        told = self._questions_told()
        return [
            each
            for each in self.store.queue(self.judge, wanted, overlap=self.settings.overlap)
            if each.question_id not in told or each.state not in UNTOUCHED
        ]

    def num_withheld(self, debate_id: str) -> int:
        """How many debates this judge is not offered any more since they have been told the answer
        to the question of this one."""
        wanted = QueueFilter(dataset=self.settings.dataset, protocol=self.settings.protocol)
        told = self._questions_told()
        question = self._told.get(debate_id)
        return sum(
            each.question_id == question and each.state in UNTOUCHED
            for each in self.store.queue(self.judge, wanted, overlap=self.settings.overlap)
            if question in told
        )

    def _questions_told(self) -> set[str]:
        for event in self.store.events(self.judge, kinds=[EventKind.SENT]):
            informs = isinstance(event.act, JudgmentSent) and event.act.informs
            if informs and event.debate_id not in self._told:
                debate = self.store.debate(event.debate_id)
                self._told[event.debate_id] = "" if debate is None else debate.question_id
        return set(self._told.values())

    def take_next(self, after: str | None = None) -> Item | None:
        """Take up the next item that is free: begun ones first, then those that wait.

        Args:
            after: An item that is not to come again at once.
        """
        listed = [each for each in self.queue() if each.debate_id != after]
        for state in STATES_IN_TURN:
            for each in listed:
                if each.state is state:
                    item, _ = self.take(each.debate_id)
                    if item is not None:
                        return item
        return None

    def take(self, debate_id: str) -> tuple[Item | None, Taken]:
        """Take up an item, or say why not."""
        taken = self.store.take_item(debate_id, self.judge, overlap=self.settings.overlap)
        if taken is not Taken.OURS:
            return None, taken
        transcript = self.store.transcript(debate_id)
        live = is_live(transcript)
        if live and not self.store.claim([debate_id]):
            self.store.leave_item(debate_id, self.judge)
            return None, Taken.ELSEWHERE
        return Item(transcript, JudgingLog(self.store, debate_id, self.judge), live), taken

    def open(self, item: Item) -> None:
        """Note that the item is on the screen, and what was drawn for it."""
        debate_id = item.transcript.debate.id
        item.acts.add(
            DebateOpened(
                swapped=draw_swapped(self.settings, debate_id),
                arm=draw_arm(self.settings, debate_id),
                study=self.settings.name,
            )
        )
        if item.acts.work.skipped:
            item.acts.add(ItemUnskipped())
        told = self._questions_told()
        if item.transcript.question.id in told and not item.acts.work.informed:
            item.acts.add(JudgeInformed())
        # A kill may have come between a judgment and the note that it was sent.
        self._note_recorded(item, item.transcript)

    def _note_recorded(self, item: Item, transcript: Transcript) -> bool:
        """Note that a judgment was sent which is recorded without that; whether there was one."""
        sent = [j.revision for j in transcript.judgments if self._is_own(j)]
        if not sent or max(sent) < item.acts.work.num_sent:
            return False
        item.acts.add(JudgmentSent(revision=max(sent)))
        return True

    def _is_own(self, judgment: Judgment) -> bool:
        return judgment.kind is JudgeKind.HUMAN and judgment.judge == self.judge

    async def send(self, item: Item, live: LiveDebate | None = None) -> Judgment:
        """Record the judgment that the work comes to; return when it is durable.

        Another window may have sent this revision: then it is sent as the next one.

        Args:
            item: What was judged.
            live: The debate that waits for this judgment, and ends with it.

        Raises:
            OversightError: It could not be written, or the debate not be ended.
        """
        await item.acts.flush()
        try:
            return await self._send(item, live)
        except StoreError:
            stored = self.store.transcript(item.transcript.debate.id)
            if not item.acts.refresh() and not self._note_recorded(item, stored):
                raise
            return await self._send(item, live)

    async def _send(self, item: Item, live: LiveDebate | None) -> Judgment:
        informs = self.settings.feedback and item.transcript.question.correct is not None
        judgment = self._judgment(item)
        if live is not None and item.live:
            await live.answer(judgment)
            item.live = False
            # An earlier attempt may have failed only after the judgment was recorded.
            recorded = self._recorded(item, judgment.revision)
            when = {"sent_at": recorded.sent_at, "active_s": recorded.active_s}
            is_same = judgment.model_copy(update=when) == recorded
            await item.acts.write(_sent(recorded, informs=informs and is_same))
            if is_same:
                return recorded
            judgment = self._judgment(item)
        await item.acts.write(_sent(judgment, informs=informs), judgment)
        return judgment

    def _judgment(self, item: Item) -> Judgment:
        unread = item.unseen(stepped=self.settings.stepped)
        return judgment_of(item.acts.work, item.transcript.debate, self.judge, unread)

    def _recorded(self, item: Item, revision: int) -> Judgment:
        """This judge's judgment as the store has it."""
        found = self.store.transcript(item.transcript.debate.id).judgments
        return next(j for j in found if self._is_own(j) and j.revision == revision)

    async def close(self, item: Item) -> None:
        """Leave the item; what was done stays."""
        item.acts.add(ItemClosed())
        await item.acts.flush()
        self.leave(item)

    def calibration(self) -> tuple[StripBin, ...]:
        """How often this judge was right, by how sure they were, over all that they sent."""
        sent = {event.debate_id for event in self.store.events(self.judge, None, [EventKind.SENT])}
        return calibration_strip(self.store.transcripts(debate_ids=sent), self.judge)

    def leave(self, item: Item) -> None:
        """Give up the claims on the item."""
        debate_id = item.transcript.debate.id
        self.store.leave_item(debate_id, self.judge)
        self.store.release([debate_id])

    async def skip(self, debate_id: str, *, on: bool = True) -> None:
        """Put an item off, or take that back."""
        acts = JudgingLog(self.store, debate_id, self.judge)
        await acts.write(ItemSkipped() if on else ItemUnskipped())
