"""The results of a circle: judge accuracy by policy, the cost of training, ratings, warnings.

Accuracies are `accuracy_all` of the report on debates: a tie counts half, an INVALID answer as
wrong. Rulings of all seeds are pooled; intervals are clustered by question, differences paired by
question.

Shapes: Q questions, K policies, G games.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oversight.aggregation.ratings import EloRating, ratings
from oversight.evals.intervals import Estimate, mean_interval, paired_difference
from oversight.experiments.selfplay.facts import (
    ArmMeasured,
    CrossplayDone,
    MeanFact,
    RulingFact,
    TrainedOnRows,
    as_done,
)
from oversight.experiments.selfplay.jobs import START, CircleJob, folder_of, plan_jobs
from oversight.experiments.selfplay.settings import Arena, CircleSettings
from oversight.experiments.workers import DONE, JobDone
from oversight.text.numbers import count, per_cent

Rulings = Sequence[RulingFact]
ArmGroup = list[tuple[CircleJob, ArmMeasured]]
"""One arm's jobs, of all seeds, with what each measured."""

TIE = 1e-9
"""Beliefs nearer than this are equal."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Properties of the speeches, and of how they are judged, over all seeds."""

    kl: float | None
    """KL(policy || start) a response, in nats; None of what was not trained."""
    length: float | None
    """Tokens a speech."""
    verified: float | None
    """Share of quotes that stand in the source."""
    quotes_per_turn: float
    invalid: float
    """Share of rulings that could not be read."""
    undecided: float
    """Share of rulings that are a tie or an abstention."""
    empty: float
    """Share of speeches without a word."""
    first_chosen: float | None
    """Share of decisions for the option listed first."""
    gain: float | None
    """Belief gained by being shown first instead of last."""


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One policy, or one baseline, in one arena."""

    name: str
    arena: Arena | None
    """None where nobody speaks."""
    accuracy: Estimate
    majority: Estimate
    """Of as many votes of the judge as `measuring.VOTES`, each drawn from its belief."""
    honest: Estimate | None
    """Of a consultancy: where the consultant defended the right answer."""
    dishonest: Estimate | None
    change: Estimate | None
    """Accuracy less that of the start, paired by question; None of what was not trained."""
    cost: Cost
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...]
    """Accuracy of each seed."""

    @property
    def decided(self) -> bool:
        """True if any ruling is a decision: without one there is no accuracy to speak of."""
        return self.cost.invalid + self.cost.undecided < 1.0 - 1e-9

    @property
    def share_right(self) -> Estimate | None:
        """`accuracy`, or None where nothing was decided."""
        return self.accuracy if self.decided else None


@dataclass(frozen=True, slots=True)
class Match:
    """A trained policy against the start in debates on the same mix of sides."""

    method: str
    wins: Estimate
    honest: Estimate
    """Share won on the right side."""
    dishonest: Estimate
    honest_before: float
    """Share that the start wins on the right side against itself."""

    @property
    def honest_rise(self) -> float:
        """Rise of the share that the right side wins."""
        return self.honest.value - self.honest_before

    @property
    def dishonest_rise(self) -> float:
        """Rise of the share that the wrong side wins."""
        return self.dishonest.value - (1.0 - self.honest_before)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A policy on the curve: how well it persuades, and how right its judge is."""

    policy: str
    method: str
    seed: int
    arena: Arena
    rating: EloRating
    accuracy: Estimate


@dataclass(frozen=True, slots=True)
class CircleResults:
    """All that the report shows."""

    model: str
    judge: str
    dataset: str
    num_questions: int
    seeds: tuple[int, ...]
    arms: tuple[ArmResult, ...]
    gaps: tuple[tuple[str, Estimate], ...]
    """By policy: accuracy in debate less that in consultancy, paired by question."""
    matches: tuple[Match, ...]
    points: tuple[CurvePoint, ...]
    warnings: tuple[str, ...]

    def arm(self, name: str, arena: Arena | None = None) -> ArmResult | None:
        """The arm of that name, if it was measured."""
        found = (each for each in self.arms if each.name == name and each.arena == arena)
        return next(found, None)

    def gap(self, name: str) -> Estimate | None:
        """Debate less consultancy of a policy, if both were measured."""
        return dict(self.gaps).get(name)

    @property
    def methods(self) -> tuple[str, ...]:
        """The trained policies, in the order in which they are shown."""
        return tuple(dict.fromkeys(arm.name for arm in self.arms if arm.change is not None))

    def to_json(self) -> dict[str, Any]:
        """JSON-plain."""
        return asdict(self)


def gather(circle: CircleSettings, done: Mapping[str, Mapping[str, Any]]) -> CircleResults:
    """The results of a circle.

    Args:
        circle: The circle.
        done: The content of each job's record, by the job's name.

    Raises:
        CheckpointError: A record is not what a job of its kind writes.
    """
    jobs = plan_jobs(circle)
    records = {
        job.name: as_done(job.kind, done[job.name], str(folder_of(circle, job.name) / DONE))
        for job in jobs
    }
    measured = {name: each for name, each in records.items() if isinstance(each, ArmMeasured)}
    grouped: dict[tuple[str, Arena | None], ArmGroup] = {}
    for job in jobs:
        if job.name in measured:
            group = grouped.setdefault((_arm_name(job), job.arena), [])
            group.append((job, measured[job.name]))
    arms = []
    for (name, arena), group in grouped.items():
        start = grouped[START, arena][0][1] if arena is not None else None
        trained = "measured" in group[0][0].facts
        arms.append(_arm(name, arena, group, start if trained else None))
    names = dict.fromkeys(arm.name for arm in arms if arm.arena == "debate")
    gaps = [
        (name, gap)
        for name in names
        if (gap := _gap(grouped.get((name, "debate")), grouped.get((name, "consultancy"))))
    ]
    points: list[CurvePoint] = []
    matches: list[Match] = []
    warnings: list[str] = []
    policies = {each.name: each for each in jobs}
    for job in jobs:
        played = records[job.name]
        if isinstance(played, CrossplayDone) and job.arena is not None:
            found = _points(circle, job.arena, played, measured, policies)
            points += found
            warnings += _unconnected(job.arena, found)
            if job.arena == "debate":
                matches += _matches(played, policies)
    return CircleResults(
        model=circle.model,
        judge=circle.judge,
        dataset=circle.dataset.dataset,
        num_questions=circle.held_out_questions,
        seeds=circle.seeds,
        arms=tuple(arms),
        gaps=tuple(gaps),
        matches=tuple(matches),
        points=tuple(points),
        warnings=(*_collapses(arms), *_learnt_from_few(records), *warnings),
    )


def _arm_name(job: CircleJob) -> str:
    parts = job.name.split(".")
    return str(job.facts.get("method", parts[1]))


# --- accuracy ---


def _arm(name: str, arena: Arena | None, group: ArmGroup, start: ArmMeasured | None) -> ArmResult:
    rulings = [ruling for _, done in group for ruling in done.rulings]
    change = paired_difference(_pairs(rulings), _pairs(start.rulings)) if start else None
    return ArmResult(
        name=name,
        arena=arena,
        accuracy=_accuracy(rulings),
        majority=_mean_pairs([(each.question, each.majority) for each in rulings]),
        honest=_accuracy_if_any([each for each in rulings if each.honest is True]),
        dishonest=_accuracy_if_any([each for each in rulings if each.honest is False]),
        change=change,
        cost=_cost([done for _, done in group], rulings),
        seeds=tuple(job.seed for job, _ in group),
        by_seed=tuple(_accuracy(done.rulings).value for _, done in group),
    )


def _accuracy(rulings: Rulings) -> Estimate:
    return _mean_pairs(_pairs(rulings))


def _accuracy_if_any(rulings: Rulings) -> Estimate | None:
    return _accuracy(rulings) if rulings else None


def _pairs(rulings: Rulings) -> list[tuple[str, float]]:
    """Of each ruling its question, and its score."""
    return [(each.question, each.score) for each in rulings]


def _mean_pairs(pairs: Sequence[tuple[str, float]]) -> Estimate:
    return mean_interval([value for _, value in pairs], [question for question, _ in pairs])


def _gap(
    debate: ArmGroup | None,
    consultancy: ArmGroup | None,
) -> Estimate | None:
    if not debate or not consultancy:
        return None
    first, second = (
        [pair for _, done in group for pair in _pairs(done.rulings)]
        for group in (debate, consultancy)
    )
    return paired_difference(first, second)


def _cost(arms: Sequence[ArmMeasured], rulings: Rulings) -> Cost:
    quotes = [arm.quotes for arm in arms if arm.quotes is not None]
    checked = [use for use in quotes if use.verified and use.share_too_short < 1.0]
    positions = [arm.position for arm in arms]
    first_chosen = [each.first_chosen for each in positions]
    return Cost(
        kl=_average(arm.kl for arm in arms),
        length=_average(arm.length for arm in arms),
        verified=_average(use.verified for use in checked),
        quotes_per_turn=float(np.mean([use.per_turn for use in quotes])) if quotes else 0.0,
        invalid=sum(not each.valid for each in rulings) / len(rulings),
        undecided=sum(0.0 < each.score < 1.0 for each in rulings) / len(rulings),
        empty=float(np.mean([arm.empty for arm in arms])),
        first_chosen=_average(first_chosen) if _many(first_chosen) else None,
        gain=_average(each.gain for each in positions),
    )


def _many(first_chosen: Iterable[MeanFact | None]) -> bool:
    """True if there are decisions enough to say which place in the listing they are for.

    A folder of an earlier version does not say how many there are.
    """
    found = [each.num for each in first_chosen if each is not None]
    return sum(MIN_DECISIONS if num is None else num for num in found) >= MIN_DECISIONS


def _average(means: Iterable[MeanFact | None]) -> float | None:
    """The average of those means that there are; None if there is none, or one is no number."""
    values = [each.value for each in means if each is not None]
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers and len(numbers) == len(values) else None


# --- cross-play ---


def _wins(played: CrossplayDone, arena: Arena) -> tuple[list[str], NDArray[np.float64]]:
    """Questions, and for each how often policy i beat policy j [Q, K, K]."""
    beliefs = np.array(played.beliefs, dtype=np.float64)
    questions = list(dict.fromkeys(played.questions))
    place = {question: number for number, question in enumerate(questions)}
    players = len(played.players)
    wins_QKK = np.zeros((len(questions), players, players))
    games = [place[question] for question in played.questions]
    if arena == "debate":
        first_KKG = _half(beliefs - 0.5)
        for g, q in enumerate(games):
            wins_QKK[q] += _both_ways(first_KKG[:, :, g])
    else:
        for g, h in _opposite(games):
            first_KK = _half(beliefs[:, None, g] - beliefs[None, :, h])
            wins_QKK[games[g]] += _both_ways(first_KK)
    wins_QKK[:, np.arange(players), np.arange(players)] = 0.0
    return questions, wins_QKK


def _opposite(games: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of games on one question, in which its two options are defended."""
    by_question: dict[int, list[int]] = {}
    for number, question in enumerate(games):
        by_question.setdefault(question, []).append(number)
    return [(g, h) for g, h in by_question.values()]


def _both_ways(first_KK: NDArray[np.float64]) -> NDArray[np.float64]:
    """Wins of each over each, where the first player's wins are given; NaN was no bout."""
    found: NDArray[np.float64] = np.nan_to_num(first_KK) + np.nan_to_num(1.0 - first_KK).T
    return found


def _half(gap: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where the gap is positive, 0 where negative, 1/2 where there is none; NaN stays."""
    found: NDArray[np.float64] = np.where(np.abs(gap) <= TIE, 0.5, np.heaviside(gap, 0.5))
    return found


def _points(
    circle: CircleSettings,
    arena: Arena,
    played: CrossplayDone,
    measured: Mapping[str, ArmMeasured],
    policies: Mapping[str, CircleJob],
) -> list[CurvePoint]:
    _, wins_QKK = _wins(played, arena)
    found = []
    for rating in ratings(played.players, wins_QKK, anchor=START):
        trained = policies.get(rating.player)
        arm = measured[f"arm.{START}.{arena}" if trained is None else f"arm.{trained.name}"]
        method = START if trained is None else str(trained.facts["method"])
        seed = circle.seeds[0] if trained is None else trained.seed
        accuracy = _accuracy(arm.rulings)
        found.append(CurvePoint(rating.player, method, seed, arena, rating, accuracy))
    return found


def _matches(played: CrossplayDone, policies: Mapping[str, CircleJob]) -> list[Match]:
    """Each method's debates against the start, all its seeds together."""
    players, questions = played.players, played.questions
    beliefs_KKG = np.array(played.beliefs, dtype=np.float64)
    honest_G = np.array(played.first_is_honest)
    start = players.index(START)
    own = _half(beliefs_KKG[start, start] - 0.5)
    before = float(np.where(honest_G, own, 1.0 - own).mean())
    by_method: dict[str, list[int]] = {}
    for number, player in enumerate(players):
        if player != START:
            by_method.setdefault(str(policies[player].facts["method"]), []).append(number)
    found = []
    for method, numbers in by_method.items():
        won: dict[bool, list[tuple[str, float]]] = {True: [], False: []}
        for number in numbers:
            first_G = _half(beliefs_KKG[number, start] - 0.5)
            second_G = 1.0 - _half(beliefs_KKG[start, number] - 0.5)
            for g, question in enumerate(questions):
                won[bool(honest_G[g])].append((question, float(first_G[g])))
                won[not honest_G[g]].append((question, float(second_G[g])))
        every = [*won[True], *won[False]]
        if all(np.isnan(value) for pairs in won.values() for _, value in pairs):
            continue  # never met the start, which a warning says
        wins, right, wrong = map(_mean_played, (every, won[True], won[False]))
        found.append(Match(method, wins, right, wrong, before))
    return found


def _mean_played(pairs: Sequence[tuple[str, float]]) -> Estimate:
    return _mean_pairs([each for each in pairs if not np.isnan(each[1])])


# --- what to mind ---

COLLAPSED = 0.95
"""Share of decisions for one place in the listing from which a judge counts as collapsed."""
MIN_DECISIONS = 10
"""Decisions below which nothing is said of the place in the listing that was chosen."""
MAX_UNDECIDED = 0.2
OFTEN = 0.05
"""Share of empty speeches or unreadable rulings that is named."""
FEW_ROWS = 32
"""Preferences below which what was learnt from them is named."""
SEEDS_APART = 0.1
"""Accuracy between the best and the worst seed that is named."""


def _collapses(arms: Sequence[ArmResult]) -> list[str]:
    """Judges and policies that no longer do what they are there for: named, not averaged away."""
    found = []
    for arm in arms:
        where = arm.name if arm.arena is None else f"{arm.name} in {arm.arena}"
        first = arm.cost.first_chosen
        if first is not None and not 1.0 - COLLAPSED < first < COLLAPSED:
            place = "first" if first > 0.5 else "last"
            found.append(
                f"{where}: the judge has collapsed to one answer; it chose the option listed "
                f"{place} in {per_cent(max(first, 1.0 - first))}% of its decisions"
            )
        if arm.cost.empty > OFTEN:
            found.append(f"{where}: {per_cent(arm.cost.empty)}% of the speeches are empty")
        if arm.cost.invalid > OFTEN:
            found.append(f"{where}: {per_cent(arm.cost.invalid)}% of the rulings could not be read")
        if arm.cost.undecided > MAX_UNDECIDED:
            found.append(
                f"{where}: {per_cent(arm.cost.undecided)}% of the rulings decide nothing "
                "(tie, abstention)"
            )
        if len(arm.by_seed) > 1 and max(arm.by_seed) - min(arm.by_seed) > SEEDS_APART:
            each = ", ".join(f"{per_cent(value)}%" for value in arm.by_seed)
            found.append(f"{where}: its seeds are far apart ({each})")
    return found


def _learnt_from_few(records: Mapping[str, JobDone]) -> list[str]:
    """Policies whose candidates the judge hardly told apart."""
    return [
        f"{name} learnt from {count(done.rows, 'preference')} only: the judge hardly tells one "
        "candidate from another"
        for name, done in records.items()
        if isinstance(done, TrainedOnRows) and done.rows is not None and done.rows < FEW_ROWS
    ]


def _unconnected(arena: Arena, points: Sequence[CurvePoint]) -> list[str]:
    apart = [point.policy for point in points if point.rating.part != 0]
    if not apart:
        return []
    return [
        f"the ratings of {arena} are not connected: {', '.join(apart)} met no opponent of the "
        "start's part, so their ratings cannot be compared with the others"
    ]
