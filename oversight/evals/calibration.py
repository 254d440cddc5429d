"""Beliefs measured: calibration of the last one, and the path of those before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from oversight.aggregation import Ruling, readable, top
from oversight.evals.intervals import Estimate, mean_interval
from oversight.evals.observations import Observation, cluster_of
from oversight.types import Belief, Transcript

FLOOR = 1e-3
"""Probabilities below this count as this in the log score, which is infinite at 0. It bounds
what a single sure and wrong belief can cost at ln 0.001, about -6.9."""

ProperScore = Callable[[Sequence[float], int], float]


def log_score(probs: Sequence[float], correct: int) -> float:
    """Natural logarithm of the probability of the right option, which is floored at `FLOOR`."""
    return math.log(max(probs[correct], FLOOR))


def quadratic_score(probs: Sequence[float], correct: int) -> float:
    """1 minus the Brier score: 1 sure and right, 0 sure and wrong, 3/4 at even odds of two."""
    return 1.0 - brier(probs, correct)


def spherical_score(probs: Sequence[float], correct: int) -> float:
    """Probability of the right option over the length of the belief as a vector, in [0, 1]."""
    return probs[correct] / math.sqrt(math.fsum(p * p for p in probs))


def brier(probs: Sequence[float], correct: int) -> float:
    """Half the squared distance of the belief from certainty in the right option; 0 is best.

    Brier (1950) sums over the options; halved, it is in [0, 1] and for two
    options equal to (1 - p_c)^2, with 1/4 at even odds.
    """
    return 0.5 * math.fsum((p - (k == correct)) ** 2 for k, p in enumerate(probs))


TURN_PRICE = 0.05
"""Points that a judge pays for a turn in Michael et al. 2023."""


def priced_log_score(
    probs: Sequence[float], correct: int, num_turns: int, price: float = TURN_PRICE
) -> float:
    """The logarithm to base 2 of the probability of the right option, less a price for each turn.

    The reward of judges in Michael et al. 2023 (arXiv:2311.08702), whose files name it
    `LogScoreWithLinearPenalty` with base 2 and 0.05 a turn: -1 at even odds, 0 at best. Proper for
    any number of turns, which the belief does not change; the probability is floored at `FLOOR`.

    Raises:
        ValueError: The turns or the price are negative.
    """
    if num_turns < 0 or price < 0.0:
        raise ValueError(f"{num_turns} turns at {price!r}: neither may be negative")
    return math.log2(max(probs[correct], FLOOR)) - price * num_turns


SCORES: dict[str, ProperScore] = {
    "log": log_score,
    "quadratic": quadratic_score,
    "spherical": spherical_score,
}


def mean_mass(found: Sequence[Observation]) -> Estimate | None:
    """Mean captured mass of the rulings of which it is known."""
    known = [(each.mass, each.cluster) for each in found if each.mass is not None]
    if not known:
        return None
    masses, clusters = zip(*known, strict=True)
    return mean_interval(masses, clusters)


def mean_priced(
    found: Sequence[Observation], num_turns: Sequence[int], price: float = TURN_PRICE
) -> Estimate | None:
    """Mean of `priced_log_score` over the beliefs that could be read; None without any."""
    values = [
        (priced_log_score(each.probs, each.correct, turns, price), each.cluster)
        for each, turns in zip(found, num_turns, strict=True)
        if each.probs is not None and each.correct is not None
    ]
    if not values:
        return None
    return mean_interval([value for value, _ in values], [c for _, c in values], bounds=None)


def mean_scores(found: Sequence[Observation]) -> dict[str, Estimate]:
    """Mean of each of `SCORES` over the beliefs that could be read."""
    read = [
        (each.probs, each.correct, each.cluster)
        for each in found
        if each.probs is not None and each.correct is not None
    ]
    if not read:
        return {}
    clusters = [cluster for *_, cluster in read]
    return {
        name: mean_interval(
            [rule(probs, correct) for probs, correct, _ in read],
            clusters,
            bounds=None if name == "log" else (0.0, 1.0),
        )
        for name, rule in SCORES.items()
    }


MAX_BINS = 10

MIN_PER_BIN = 20
"""Fewer rulings than this in a bin say little: the number of bins falls with the data."""


@dataclass(frozen=True, slots=True)
class Bin:
    """One point of the reliability curve."""

    confidence: float
    """Mean probability of the chosen option."""
    accuracy: Estimate
    """Share of cases in which that option was right."""
    num: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration of one group of rulings that could be read."""

    brier: Estimate
    log_loss: Estimate
    """Natural, with probabilities floored as in `scoring`."""
    ece: float
    """Expected calibration error: mean distance of confidence and accuracy, weighted by bin."""
    auroc: float
    bins: tuple[Bin, ...]
    num: int


def calibration(observations: Iterable[Observation]) -> Calibration | None:
    """Calibration of `observations`, or None if none has both a belief and a known answer."""
    beliefs = [
        (each.probs, each.correct, each.cluster)
        for each in observations
        if each.probs is not None and each.correct is not None
    ]
    if not beliefs:
        return None
    clusters = [cluster for *_, cluster in beliefs]
    confidence = [max(probs) for probs, *_ in beliefs]
    hits = [credit(probs, correct) for probs, correct, _ in beliefs]
    bins = reliability(confidence, hits, clusters)
    return Calibration(
        brier=mean_interval([brier(p, c) for p, c, _ in beliefs], clusters),
        log_loss=mean_interval([-log_score(p, c) for p, c, _ in beliefs], clusters, bounds=None),
        ece=expected_calibration_error(bins),
        auroc=auroc([(p, c) for p, c, _ in beliefs]),
        bins=bins,
        num=len(beliefs),
    )


def credit(probs: Sequence[float], correct: int) -> float:
    """1 if the option believed most is right, its share where several are believed equally."""
    best = top(probs)
    return 1.0 / len(best) if correct in best else 0.0


def reliability(
    confidence: Sequence[float], hits: Sequence[float], clusters: Sequence[tuple[str, str]]
) -> tuple[Bin, ...]:
    """The reliability curve in bins of equal mass; equal confidences share a bin."""
    values = np.asarray(confidence, dtype=np.float64)
    num_bins = int(np.clip(len(values) // MIN_PER_BIN, 1, MAX_BINS))
    edges = np.unique(np.quantile(values, np.linspace(0.0, 1.0, num_bins + 1)[1:-1]))
    places = np.searchsorted(edges, values, side="left")
    found = []
    for place in np.unique(places):
        inside = [int(i) for i in np.flatnonzero(places == place)]
        accuracy = mean_interval([hits[i] for i in inside], [clusters[i] for i in inside])
        found.append(Bin(float(values[inside].mean()), accuracy, len(inside)))
    return tuple(found)


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Mean over rulings of the distance between their bin's confidence and accuracy."""
    total = sum(each.num for each in bins)
    return sum(each.num * abs(each.confidence - each.accuracy.value) for each in bins) / total


def auroc(beliefs: Sequence[tuple[Sequence[float], int]]) -> float:
    """Chance that a right option drawn at random was believed more than a wrong one.

    It is the Mann-Whitney statistic over the number of pairs, equal beliefs counted half. Importing
    scikit-learn for it would take longer than all else of a small report.
    """
    right = np.array([k == correct for probs, correct in beliefs for k in range(len(probs))])
    belief = np.array([p for probs, _ in beliefs for p in probs])
    _, places, counts = np.unique(belief, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[places]
    num_right = int(right.sum())
    above = ranks[right].sum() - num_right * (num_right + 1) / 2.0
    return float(above / (num_right * (len(right) - num_right)))


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
class TrajectoryPoint:
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


def trajectory(
    paths: Iterable[BeliefPath], ended: Ended = "carried"
) -> tuple[TrajectoryPoint, ...]:
    """Mean belief in the right answer after each round, and at the end, with intervals."""
    known = [each for each in paths if each.by_round]
    last = max((each.by_round[-1][0] for each in known), default=-1)
    by_number: list[list[tuple[Hashable, float]]] = [[] for _ in range(last + 1)]
    for each in known:
        believed, end = dict(each.by_round), each.by_round[-1][0]
        for number, found in enumerate(by_number):
            if number in believed:
                found.append((each.cluster, believed[number]))
            elif ended == "carried" and number > end:
                found.append((each.cluster, believed[end] if each.final is None else each.final))
    points = [
        TrajectoryPoint(number, _mean(found)) for number, found in enumerate(by_number) if found
    ]
    final = [(each.cluster, each.final) for each in known if each.final is not None]
    if final:
        points.append(TrajectoryPoint(None, _mean(final)))
    return tuple(points)


def _mean(found: Sequence[tuple[Hashable, float]]) -> Estimate:
    return mean_interval([p for _, p in found], [cluster for cluster, _ in found])


def _belief_in(belief: Belief, correct: int) -> float | None:
    return belief.probs[correct] if readable(belief) and belief.probs is not None else None
