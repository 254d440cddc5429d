"""What a circle came to: judge accuracy by policy, what training cost, ratings, and what to mind.

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
from oversight.evals.findings import count
from oversight.evals.intervals import Estimate, mean_interval, paired_difference
from oversight.experiments.selfplay.settings import Arena, CircleSettings
from oversight.experiments.selfplay.stages import START, CircleJob, plan_stages
from oversight.text.shares import per_cent

Result = Mapping[str, Any]
Rulings = list[dict[str, Any]]

TIE = 1e-9
"""Beliefs nearer than this are equal."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What speeches are like, and how they are judged, over all seeds."""

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
        """Whether any ruling is a decision: without one there is no accuracy to speak of."""
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
        """How much more often the right side wins."""
        return self.honest.value - self.honest_before

    @property
    def dishonest_rise(self) -> float:
        """How much more often the wrong side wins."""
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


def gather(circle: CircleSettings, done: Mapping[str, Result]) -> CircleResults:
    """The results of a circle whose pieces are all done."""
    stages = plan_stages(circle)
    grouped: dict[tuple[str, Arena | None], list[tuple[CircleJob, Result]]] = {}
    for stage in stages:
        if stage.kind == "arm":
            name = _arm_name(stage)
            grouped.setdefault((name, stage.arena), []).append((stage, done[stage.name]))
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
    for stage in stages:
        if stage.kind == "crossplay" and stage.arena is not None:
            policies = {each.name: each for each in stages}
            found = _points(circle, stage, done, policies)
            points += found
            warnings += _unconnected(stage.arena, found)
            if stage.arena == "debate":
                matches += _matches(done[stage.name], policies)
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
        warnings=(*_collapses(arms), *_learnt_from_few(stages, done), *warnings),
    )


def _arm_name(stage: CircleJob) -> str:
    parts = stage.name.split(".")
    return str(stage.facts.get("method", parts[1]))


# --- accuracy ---


def _arm(
    name: str, arena: Arena | None, group: list[tuple[CircleJob, Result]], start: Result | None
) -> ArmResult:
    rulings = [ruling for _, result in group for ruling in result["rulings"]]
    change = paired_difference(_pairs(rulings), _pairs(start["rulings"])) if start else None
    return ArmResult(
        name=name,
        arena=arena,
        accuracy=_mean(rulings, "score"),
        majority=_mean(rulings, "majority"),
        honest=_mean_of([r for r in rulings if r["honest"] is True]),
        dishonest=_mean_of([r for r in rulings if r["honest"] is False]),
        change=change,
        cost=_cost([result for _, result in group], rulings),
        seeds=tuple(stage.seed for stage, _ in group),
        by_seed=tuple(_mean(result["rulings"], "score").value for _, result in group),
    )


def _mean(rulings: Rulings, field: str) -> Estimate:
    values = [float(ruling[field]) for ruling in rulings]
    return mean_interval(values, [ruling["question"] for ruling in rulings])


def _mean_of(rulings: Rulings) -> Estimate | None:
    return _mean(rulings, "score") if rulings else None


def _pairs(rulings: Rulings) -> list[tuple[str, float]]:
    return [(ruling["question"], float(ruling["score"])) for ruling in rulings]


def _gap(
    debate: list[tuple[CircleJob, Result]] | None,
    consultancy: list[tuple[CircleJob, Result]] | None,
) -> Estimate | None:
    if not debate or not consultancy:
        return None
    first, second = (
        [pair for _, result in group for pair in _pairs(result["rulings"])]
        for group in (debate, consultancy)
    )
    return paired_difference(first, second)


def _cost(results: Sequence[Result], rulings: Rulings) -> Cost:
    quotes = [result["quotes"] for result in results if result["quotes"]]
    checked = [use for use in quotes if use["verified"] and use.get("share_too_short", 0.0) < 1.0]
    return Cost(
        kl=_average(result["kl"]["value"] for result in results if "kl" in result),
        length=_average(result["length"]["value"] for result in results if "length" in result),
        verified=_average(use["verified"]["value"] for use in checked),
        quotes_per_turn=_average(use["per_turn"] for use in quotes) or 0.0,
        invalid=sum(not ruling["valid"] for ruling in rulings) / len(rulings),
        undecided=sum(0.0 < ruling["score"] < 1.0 for ruling in rulings) / len(rulings),
        empty=_average(result["empty"] for result in results) or 0.0,
        first_chosen=_average(_values(results, "first_chosen")) if _many(results) else None,
        gain=_average(_values(results, "gain")),
    )


def _values(results: Sequence[Result], name: str) -> list[float]:
    found = [result["position"][name] for result in results]
    return [each["value"] for each in found if each is not None]


def _many(results: Sequence[Result]) -> bool:
    """Whether there are decisions enough to say which place in the listing they are for."""
    found = [result["position"]["first_chosen"] for result in results]
    number: int = sum(each.get("num", MIN_DECISIONS) for each in found if each)
    return number >= MIN_DECISIONS


def _average(values: Iterable[float]) -> float | None:
    kept = list(values)
    return float(np.mean(kept)) if kept else None


# --- cross-play ---


def _wins(result: Result, arena: Arena) -> tuple[list[str], NDArray[np.float64]]:
    """Questions, and for each how often policy i beat policy j [Q, K, K]."""
    beliefs = np.array(result["beliefs"], dtype=np.float64)
    questions = list(dict.fromkeys(result["questions"]))
    place = {question: number for number, question in enumerate(questions)}
    players = len(result["players"])
    wins_QKK = np.zeros((len(questions), players, players))
    games = [place[question] for question in result["questions"]]
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
    stage: CircleJob,
    done: Mapping[str, Result],
    policies: Mapping[str, CircleJob],
) -> list[CurvePoint]:
    arena = stage.arena
    assert arena is not None
    result = done[stage.name]
    _, wins_QKK = _wins(result, arena)
    found = []
    for rating in ratings(result["players"], wins_QKK, anchor=START):
        trained = policies.get(rating.player)
        arm = done[f"arm.{START}.{arena}" if trained is None else f"arm.{trained.name}"]
        method = START if trained is None else str(trained.facts["method"])
        seed = circle.seeds[0] if trained is None else trained.seed
        accuracy = _mean(arm["rulings"], "score")
        found.append(CurvePoint(rating.player, method, seed, arena, rating, accuracy))
    return found


def _matches(result: Result, policies: Mapping[str, CircleJob]) -> list[Match]:
    """Each method's debates against the start, all its seeds together."""
    players: list[str] = result["players"]
    beliefs_KKG = np.array(result["beliefs"], dtype=np.float64)
    questions: list[str] = result["questions"]
    honest_G = np.array(result["first_is_honest"])
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
        wins, right, wrong = map(_mean_pairs, (every, won[True], won[False]))
        found.append(Match(method, wins, right, wrong, before))
    return found


def _mean_pairs(pairs: Sequence[tuple[str, float]]) -> Estimate:
    played = [(question, value) for question, value in pairs if not np.isnan(value)]
    return mean_interval([value for _, value in played], [question for question, _ in played])


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


def _learnt_from_few(stages: Sequence[CircleJob], done: Mapping[str, Result]) -> list[str]:
    """Policies whose candidates the judge hardly told apart."""
    return [
        f"{stage.name} learnt from {count(rows, 'preference')} only: the judge hardly tells one "
        "candidate from another"
        for stage in stages
        if (rows := done[stage.name].get("rows", FEW_ROWS)) < FEW_ROWS
    ]


def _unconnected(arena: Arena, points: Sequence[CurvePoint]) -> list[str]:
    apart = [point.policy for point in points if point.rating.part != 0]
    if not apart:
        return []
    return [
        f"the ratings of {arena} are not connected: {', '.join(apart)} met no opponent of the "
        "start's part, so their ratings cannot be compared with the others"
    ]
