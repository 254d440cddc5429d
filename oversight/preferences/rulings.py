"""A judge's ruling on a debate: its judgments in both orders, averaged into one belief.

A judge that saw the sides in both orders has given two readings of one debate.
They are averaged before anything is decided, so that a liking for what stands
first cancels out; how large that liking is, is measured apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from oversight.types import Belief, BeliefMethod, JudgeKind, Judgment, Transcript, Verdict

TIE_TOLERANCE = 1e-9
"""Probabilities closer than this are equal: averaging leaves rounding errors of that size."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """One judge's final word on one debate, over every order it was shown."""

    judge: str
    kind: JudgeKind
    final: Belief
    judgments: tuple[Judgment, ...]
    """The last revision in each order that was made without knowing the answer, the drawn order
    before the swapped one."""

    @property
    def trajectory(self) -> tuple[tuple[int, Belief], ...]:
        """The averaged belief after each step at which every order gave one: (step, belief)."""
        by_step: dict[int, list[Belief]] = defaultdict(list)
        for judgment in self.judgments:
            for step, belief in dict(judgment.trajectory).items():
                by_step[step].append(belief)
        whole = {step: got for step, got in by_step.items() if len(got) == len(self.judgments)}
        return tuple((step, average(whole[step])) for step in sorted(whole))


def rulings(transcript: Transcript) -> tuple[Ruling, ...]:
    """One ruling for every judge of the debate, in order of the judges' names."""
    last: dict[tuple[str, bool], Judgment] = {}
    for judgment in transcript.judgments:
        if judgment.informed:
            continue
        key = (judgment.judge, judgment.swapped)
        if key not in last or judgment.revision >= last[key].revision:
            last[key] = judgment
    by_judge: dict[str, list[Judgment]] = defaultdict(list)
    for (judge, _), judgment in sorted(last.items(), key=lambda item: item[0]):
        by_judge[judge].append(judgment)
    return tuple(
        Ruling(judge, given[0].kind, average([j.final for j in given]), tuple(given))
        for judge, given in by_judge.items()
    )


def average(beliefs: Sequence[Belief]) -> Belief:
    """One belief from several readings of the same debate; a single one is given back as it is.

    If any of them is INVALID, so is the average, and if any abstains it
    abstains: half a measurement would bring the order effect back in. Readings
    that are all ties stay a tie; else equal top probabilities make one.
    """
    if len(beliefs) == 1:
        return beliefs[0]
    verdicts = {belief.verdict for belief in beliefs}
    for missing in (Verdict.INVALID, Verdict.ABSTAIN):
        if missing in verdicts:
            return Belief(verdict=missing, method=BeliefMethod.AVERAGED)
    probs = _mean_probs(beliefs)
    tied = verdicts == {Verdict.TIE} or len(top(probs)) > 1
    masses = [belief.mass for belief in beliefs if belief.mass is not None]
    return Belief(
        verdict=Verdict.TIE if tied else Verdict.DECIDED,
        method=BeliefMethod.AVERAGED,
        probs=probs,
        mass=sum(masses) / len(masses) if len(masses) == len(beliefs) else None,
    )


def top(probs: Sequence[float]) -> tuple[int, ...]:
    """Indices of the options believed most; more than one where they are equal."""
    best = max(probs)
    return tuple(index for index, p in enumerate(probs) if best - p <= TIE_TOLERANCE)


def readable(belief: Belief) -> bool:
    """Whether the belief says something about the options: decided, or a tie."""
    return belief.verdict in (Verdict.DECIDED, Verdict.TIE)


def consensus(given: Iterable[Ruling]) -> Belief | None:
    """The mean belief of those judges whose rulings can be read, or None if there is none.

    Unlike the two orders of one judge, different judges are readings that
    stand on their own: one who abstains does not silence the others.
    """
    beliefs = [ruling.final for ruling in given if readable(ruling.final)]
    return average(beliefs) if beliefs else None


def _mean_probs(beliefs: Sequence[Belief]) -> tuple[float, ...]:
    rows = [belief.probs for belief in beliefs if belief.probs is not None]
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    total = sum(means)
    return tuple(mean / total for mean in means)
