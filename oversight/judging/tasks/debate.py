"""A debate to be judged: the draws for a judge, checks of a judgment, its record and its score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from oversight.aggregation import rulings, top
from oversight.errors import ProtocolError
from oversight.evals.calibration import SCORES
from oversight.ids import seed_from
from oversight.judging.log import now
from oversight.judging.settings import NO_ASSISTANCE, JudgingSettings
from oversight.judging.tasks import NEEDS_RATIONALE
from oversight.judging.work import JudgingWork, JudgmentDraft
from oversight.types import (
    Belief,
    BeliefMethod,
    Debate,
    JudgeKind,
    Judgment,
    Orders,
    Question,
    Transcript,
    Verdict,
)


def draw_swapped(settings: JudgingSettings, debate_id: str) -> bool:
    """True if this judge is shown the sides the other way round than the debate's own draw."""
    if not settings.shuffle_sides:
        return False
    return bool(seed_from("shown", settings.seed, settings.judge, debate_id) % 2)


def orders_for(debate: Debate, *, swapped: bool) -> Orders:
    """The orders as the judge meets them.

    The listing of the options stays: speakers name options by its letters.
    """
    if not swapped:
        return debate.orders
    shown = tuple(reversed(debate.orders.shown))
    return debate.orders.model_copy(update={"shown": shown})


def draw_arm(settings: JudgingSettings, debate_id: str) -> str | None:
    """The kind of assistance that an item comes with; None where there is none to draw from."""
    if settings.assist.draw:
        kinds = settings.assist.draw
        return kinds[seed_from("arm", settings.seed, settings.name, debate_id) % len(kinds)]
    return next(iter(settings.assistance), None)


def is_assisted(arm: str | None) -> bool:
    """True if an item of this arm has an assistant."""
    return arm is not None and arm != NO_ASSISTANCE


LEAST, MOST = 0.01, 0.99
"""The surest that a person can say to be: nobody is right in all of a thousand such cases."""


def missing(work: JudgingWork, *, need_rationale: bool = False) -> str | None:
    """The first thing that a judgment lacks, as a sentence for the judge, or None."""
    draft = work.draft
    if draft.verdict is Verdict.DECIDED:
        if draft.probs is None:
            return "Say first how probable each option is, or that it is a tie or cannot be told."
        if list(draft.probs).count(max(draft.probs)) > 1:
            which = "Both" if len(draft.probs) == 2 else "The likeliest options"
            return (
                f"{which} are equally probable so far: move the belief, or choose tie or cannot "
                "tell."
            )
    if need_rationale and not draft.rationale.strip():
        return NEEDS_RATIONALE
    return None


def belief_of(draft: JudgmentDraft, num_options: int) -> Belief:
    """The final belief.

    Raises:
        ProtocolError: Nothing was decided, see `missing`.
    """
    if draft.verdict is Verdict.ABSTAIN:
        return Belief(verdict=Verdict.ABSTAIN, method=BeliefMethod.HUMAN)
    if draft.verdict is Verdict.TIE:
        return stated((1.0 / num_options,) * num_options, Verdict.TIE)
    if draft.probs is None:
        raise ProtocolError("a judgment without a belief: give one first")
    return stated(draft.probs)


def stated(probs: tuple[float, ...], verdict: Verdict = Verdict.DECIDED) -> Belief:
    """A belief that a person stated; one that is equal at the top decides nothing."""
    if verdict is Verdict.DECIDED and list(probs).count(max(probs)) > 1:
        verdict = Verdict.TIE
    return Belief(verdict=verdict, method=BeliefMethod.HUMAN, probs=probs)


def judgment_of(
    work: JudgingWork, debate: Debate, judge: str, unseen: Mapping[str, float] | None = None
) -> Judgment:
    """The judgment made of the work so far, as its next revision; `unseen` are turns that the
    judge has not had on the screen completely, each with the share that was."""
    swapped = bool(work.swapped)
    shown = [each for each in work.assistance if each.shown_at]
    return Judgment(
        debate_id=debate.id,
        judge=judge,
        kind=JudgeKind.HUMAN,
        orders=orders_for(debate, swapped=swapped),
        swapped=swapped,
        revision=work.num_sent,
        trajectory=tuple(
            (step, stated(probs)) for step, probs in sorted(work.draft.beliefs.items())
        ),
        final=belief_of(work.draft, len(debate.orders.options)),
        rationale=work.draft.rationale,
        leaned_on=work.draft.leaned_on,
        assistance=tuple(dict.fromkeys(f"{each.kind}: {each.request}" for each in shown)),
        arm=work.arm,
        study=work.study,
        sent_at=now(),
        informed=work.informed,
        active_s=round(sum(work.active_s.values()), 3),
        unseen=None if unseen is None else dict(unseen),
    )


def coupled(
    probs: tuple[float, ...] | None, num_options: int, index: int, value: float
) -> tuple[float, ...]:
    """Beliefs after option `index` is set to `value`: between 1 and 99 %, the others keep their
    proportions among themselves, and all sum to 1 in whole percents."""
    if probs is None:
        probs = (1.0 / num_options,) * num_options
    most = 100 - (num_options - 1)
    percent = max(1, min(most, round(value * 100)))
    rest = 100 - percent
    others = [i for i in range(num_options) if i != index]
    total = sum(probs[i] for i in others) or 1.0
    shares = {i: rest * probs[i] / total for i in others}
    whole = {i: max(1, int(shares[i])) for i in others}
    # The percents left over by rounding go to the options that lost most by it.
    left = rest - sum(whole.values())
    for i in sorted(others, key=lambda i: whole[i] - shares[i])[: max(left, 0)]:
        whole[i] += 1
    while sum(whole.values()) > rest:
        whole[max(whole, key=whole.__getitem__)] -= 1
    return tuple((percent if i == index else whole[i]) / 100 for i in range(num_options))


EDGES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the strip: confidences from one edge to the next are counted together."""


NAME_OF_VERDICT = {
    Verdict.DECIDED: "as the belief says",
    Verdict.TIE: "tie",
    Verdict.ABSTAIN: "cannot tell",
}


@dataclass(frozen=True)
class JudgmentScore:
    """Score of one judgment."""

    correct: int
    right: bool | None
    """None: nothing was decided."""
    score: float
    rule: str
    price: float

    @property
    def outcome_words(self) -> str:
        """Sentence that says if the judgment is right."""
        told = {None: "You did not decide.", True: "You are right.", False: "You are wrong."}
        return told[self.right]

    @property
    def score_words(self) -> str:
        """The score and the price of the rounds in it, as the beginning of a sentence."""
        price = f", {self.price:.2f} of it paid for the rounds you read" if self.price else ""
        return f"{self.rule.capitalize()} score {self.score:+.2f}{price}"


def feedback(settings: JudgingSettings, question: Question, final: Belief, rounds: int) -> (
    JudgmentScore | None
):  # fmt: skip
    """The score of a judgment; None where the study keeps it hidden or nobody knows the answer.

    A judge who cannot tell is scored as if all options were equally probable.
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
class CalibrationBin:
    """One stretch of confidence."""

    low: float
    high: float
    num: int
    num_right: int


def calibration_strip(transcripts: Iterable[Transcript], judge: str) -> tuple[CalibrationBin, ...]:
    """The share of a judge's decided judgments that were right, by how sure they were."""
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
    return tuple(CalibrationBin(low, high, num, right) for low, high, (num, right) in pairs)
