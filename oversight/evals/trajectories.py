"""Movement of a judge's belief in the right answer from round to round.

Debates that end early leave two ways to go on, and they answer different questions:

carried
    The belief at the end stands for every later round. Every point is of the
    same debates, so the curve shows how belief moves.
present
    Only debates that still run count. These are the ones that the judge found
    hard, so late points are of fewer and harder debates. Published curves are
    often of this kind.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from oversight.evals.intervals import Estimate, mean_interval
from oversight.evals.observations import cluster_of
from oversight.preferences.rulings import Ruling, readable
from oversight.types import Belief, Transcript

Ended = Literal["carried", "present"]


@dataclass(frozen=True, slots=True)
class BeliefPath:
    """One judge's belief in the right answer through one debate."""

    cluster: Hashable
    by_round: tuple[tuple[int, float], ...]
    """(round, belief after it), rounds rising; those that could not be read are missing."""
    final: float | None = None
    """After the whole debate, where it could be read."""


@dataclass(frozen=True, slots=True)
class Point:
    """One round of the curve; `round` is None for the final judgment."""

    round: int | None
    belief: Estimate


def path(transcript: Transcript, ruling: Ruling) -> BeliefPath | None:
    """The path of one ruling, or None if the right answer is unknown.

    Of several beliefs in one round the last one counts.
    """
    question = transcript.question
    if question.correct is None:
        return None
    rounds = {step.index: step.round for step in transcript.debate.protocol.schedule()}
    by_round: dict[int, float] = {}
    for step, belief in ruling.trajectory:
        p = _belief_in(belief, question.correct)
        if p is not None and step in rounds:
            by_round[rounds[step]] = p
    return BeliefPath(
        cluster=cluster_of(question),
        by_round=tuple(sorted(by_round.items())),
        final=_belief_in(ruling.final, question.correct),
    )


def trajectory(paths: Iterable[BeliefPath], ended: Ended = "carried") -> tuple[Point, ...]:
    """Mean belief in the right answer after each round, and at the end, with intervals."""
    known = [each for each in paths if each.by_round]
    last = max((each.by_round[-1][0] for each in known), default=-1)
    points = []
    for number in range(last + 1):
        found = list(_at(known, number, ended))
        if found:
            points.append(Point(number, _mean(found)))
    final = [(each.cluster, each.final) for each in known if each.final is not None]
    if final:
        points.append(Point(None, _mean(final)))
    return tuple(points)


def _at(paths: Sequence[BeliefPath], number: int, ended: Ended) -> Iterator[tuple[Hashable, float]]:
    for each in paths:
        by_round = dict(each.by_round)
        if number in by_round:
            yield each.cluster, by_round[number]
        elif ended == "carried" and number > each.by_round[-1][0]:
            yield each.cluster, each.by_round[-1][1] if each.final is None else each.final


def _mean(found: Sequence[tuple[Hashable, float]]) -> Estimate:
    return mean_interval([p for _, p in found], [cluster for cluster, _ in found])


def _belief_in(belief: Belief, correct: int) -> float | None:
    return belief.probs[correct] if readable(belief) and belief.probs is not None else None
