"""What a judge learns after sending: the score of this judgment, and how calibrated they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from oversight.evals.calibration import SCORES
from oversight.judging.settings import JudgingSettings
from oversight.preferences.rulings import rulings, top
from oversight.types import Belief, JudgeKind, Question, Transcript, Verdict

EDGES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Of the strip: confidences from one edge to the next are counted together."""


@dataclass(frozen=True)
class JudgmentScore:
    """What this judgment was worth."""

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
