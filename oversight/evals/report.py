"""A report on judged debates: every measure of this package by arm, as plain frozen data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from oversight.config import PriceTable
from oversight.evals.accuracy import (
    Accuracy,
    Assistance,
    PositionBias,
    Treated,
    Unseen,
    accuracy,
    assistance,
    honest_win_rate,
    position_bias,
    scores,
    seat_win_rate,
    treated,
    unseen,
)
from oversight.evals.agreement import (
    Agreement,
    RaterAgreement,
    RaterSummary,
    judge_agreements,
)
from oversight.evals.answers import (
    AnswerEnds,
    FailureCount,
    QuoteUse,
    ResponseCount,
    Unread,
    count_failures,
    quote_use,
    unread_kinds,
)
from oversight.evals.beside import beside, can_fork
from oversight.evals.breakdown import (
    ModelUsage,
    OwnPrompt,
    ReportOrigin,
    RunDifference,
    RunMembership,
    Slice,
    run_differences,
    slices_of,
)
from oversight.evals.calibration import (
    TURN_PRICE,
    Calibration,
    TrajectoryPoint,
    calibration,
    mean_mass,
    mean_priced,
    mean_scores,
    trajectory,
)
from oversight.evals.comparisons import (
    ArmDifference,
    ComparisonFamily,
    GapRecovered,
    arm_differences,
    family_of,
    gaps_recovered,
)
from oversight.evals.course import (
    DebateCourse,
    TurnBelief,
)
from oversight.evals.gathering import GatheredDebates, MeasuredRuling
from oversight.evals.groups import (
    DebaterInGroup,
    GroupedVotes,
    GroupUnderRule,
    JudgeGroup,
    grouped_votes,
)
from oversight.evals.harm import AnswerDrift, AnswerPair, AnswerStage
from oversight.evals.intervals import Estimate
from oversight.evals.mixed_model import MixedFit, mixed_model
from oversight.evals.observations import (
    Arm,
    Kind,
    Observation,
    labels,
)
from oversight.evals.people import PeopleRating
from oversight.evals.principles import PrincipleEffect
from oversight.evals.properties import Breakdown, Property
from oversight.evals.reliability import (
    JudgeStanding,
    PanelWord,
    judge_standings,
    panel_words,
    panels_of,
)
from oversight.evals.stances import CriticWorth
from oversight.evals.winning import (
    AgentScoreDifference,
    FeatureEffect,
    WinRate,
    feature_effects,
    score_difference,
    win_rates,
)
from oversight.types import Transcript


@dataclass(frozen=True, slots=True)
class ArmReport:
    """Everything measured of one arm: a protocol with its speakers and its judge."""

    label: str
    arm: Arm
    kind: Kind
    accuracy: Accuracy
    honest_consultant: Accuracy | None
    """Of a consultancy: where the consultant defended the right answer."""
    dishonest_consultant: Accuracy | None
    honest_win_rate: Estimate | None
    seat_a_win_rate: Estimate | None
    scores: dict[str, Estimate]
    """Mean of each proper score of `calibration.SCORES`, over beliefs that could be read."""
    priced: Estimate | None
    """Mean log score to base 2, less the price of the judge's turns; None without beliefs."""
    mass: Estimate | None
    """Mean captured mass: probability of any option before normalising. None where unknown."""
    calibration: Calibration | None
    trajectory: tuple[TrajectoryPoint, ...]
    """Belief in the right answer by round; debates that ended early keep their final belief."""
    trajectory_present: tuple[TrajectoryPoint, ...]
    """The same of those debates alone that still ran."""
    position: PositionBias
    quotes: QuoteUse | None
    quotes_honest: QuoteUse | None
    quotes_dishonest: QuoteUse | None
    num_setups: int
    """Different contents of protocol or agents' settings that this arm pools."""


@dataclass(frozen=True, slots=True)
class Report:
    """Figures on judged debates, ready to be shown as text, as a page or as a picture."""

    num_debates: int
    num_questions: int
    """Underlying questions, which the intervals are clustered by."""
    num_rulings: int
    num_unjudged: int
    """Debates without any judgment, but for answers to open prompts, which need none."""
    num_unknown: int
    """Rulings on questions whose right answer is not known: not in any figure."""
    datasets: tuple[str, ...]
    arms: tuple[ArmReport, ...]
    """The most accurate first."""
    slices: tuple[Slice, ...] = ()
    """By data set and family, where there is more than one."""
    comparisons: tuple[ArmDifference, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    responses: tuple[ResponseCount, ...] = ()
    """Of answers to open prompts, in which nothing is decided."""
    panels: tuple[PanelWord, ...] = ()
    """Labels of all judges of the same debates together."""
    standings: tuple[JudgeStanding, ...] = ()
    """Judges of the same debates, each by itself."""
    judge_groups: tuple[JudgeGroup, ...] = ()
    """Judges in groups, where groups were named."""
    group_rules: tuple[GroupUnderRule, ...] = ()
    """Regret of each group under each rule."""
    group_debaters: tuple[DebaterInGroup, ...] = ()
    """Bradley–Terry ratings of debaters in each group."""
    num_prompts: int = 0
    """Open prompts among the questions."""
    answer_ends: tuple[AnswerEnds, ...] = ()
    """Counts of how the calls of each model ended."""
    failures: tuple[FailureCount, ...] = ()
    """Debates that failed, which are in no figure."""
    assistance: tuple[Assistance, ...] = ()
    """By the kind of assistance that was drawn, where a study drew any."""
    unread: tuple[Unread, ...] = ()
    """The most frequent kinds of answers that are INVALID."""
    unseen: tuple[Unseen, ...] = ()
    """Of arms that people judged."""
    raters: tuple[RaterSummary, ...] = ()
    """Raters of responses, by task."""
    rater_agreements: tuple[RaterAgreement, ...] = ()
    stages: tuple[AnswerStage, ...] = ()
    """First and last answers to open prompts."""
    drifts: tuple[AnswerDrift, ...] = ()
    principles: tuple[PrincipleEffect, ...] = ()
    """Those that answers were criticised by."""
    pairs: tuple[AnswerPair, ...] = ()
    breakdowns: tuple[Breakdown, ...] = ()
    """By the properties that were asked for."""
    run_differences: tuple[RunDifference, ...] = ()
    """Between every two runs or stores that were named."""
    treatments: tuple[Treated, ...] = ()
    """Accuracy by the treatment of rulings that decide nothing, of every arm."""
    courses: tuple[DebateCourse, ...] = ()
    """Rounds, judge turns, characters and quotes per debate, by protocol."""
    turn_beliefs: tuple[TurnBelief, ...] = ()
    """Mean belief in the right answer by judge turn, by protocol."""
    critics: tuple[CriticWorth, ...] = ()
    """Critics who chose their stance, by arm."""
    win_rates: tuple[WinRate, ...] = ()
    score_differences: tuple[AgentScoreDifference, ...] = ()
    feature_effects: tuple[FeatureEffect, ...] = ()
    """Correlations of length and quotes with winning."""
    gaps_recovered: tuple[GapRecovered, ...] = ()
    people: tuple[PeopleRating, ...] = ()
    """People's ratings."""
    families: tuple[ComparisonFamily, ...] = ()
    """Tests that were corrected together."""
    mixed: MixedFit | None = None
    """A mixed model of all arms, where there are several."""
    turn_price: float = TURN_PRICE
    usage: tuple[ModelUsage, ...] = ()
    prompts: tuple[OwnPrompt, ...] = ()
    num_judges: int = 0
    models: tuple[str, ...] = ()
    """Models, or agents without one, by name."""
    seeds: tuple[int, ...] = ()
    origin: ReportOrigin | None = None


def build_report(
    transcripts: Iterable[Transcript],
    seed: int = 0,
    *,
    failed: Iterable[Transcript] = (),
    arms: Mapping[str, Iterable[Transcript]] | None = None,
    by: Sequence[Property] = (),
    runs: Mapping[str, RunMembership] | None = None,
    prices: PriceTable | None = None,
    turn_price: float = TURN_PRICE,
    each_person: bool = False,
    others: Iterable[tuple[GatheredDebates, Iterable[tuple[str, Transcript]]]] = (),
    groups: Mapping[str, str] | None = None,
) -> Report:
    """The report on `transcripts`, which are read once and not held.

    Args:
        transcripts: Judged debates of any protocols, as `Store.transcripts()` gives them.
        seed: Of the bootstrap.
        failed: Debates that are not complete; those that failed are counted by cause.
        arms: More of them by the name of a run, a store or an arm, each measured by itself.
        by: Properties that figures are also shown by.
        runs: By the same names, which debates belong to which runs.
        prices: Of the models' tokens.
        turn_price: Of a judge's turn, in points of the log score to base 2.
        each_person: Measure persons one by one however many judged; else those who judged the
            same protocol are one arm if there are more than `MAX_PEOPLE_APART`.
        others: What other processes gathered by the same properties, each with the transcripts
            that it left, by name; asked for when the rest has been read.
        groups: Group of a judge by name, or of all other `persons` or `models`.

    Raises:
        ConfigError: There are fewer than two groups, or a name among them is nobody's.
    """
    gathered = GatheredDebates(by, runs or {})
    named_arms = [("", transcripts), *(arms or {}).items()]
    for name, some in named_arms:
        for transcript in some:
            gathered.add(transcript, name)
    for other, left in others:
        gathered.update(other)
        for name, transcript in left:
            gathered.add(transcript, name)
    ruled = [one for some in gathered.rulings().values() for one in some]
    num_judges = len({arm.judge for arm in gathered.by_arm})
    if not each_person:
        gathered.pool_people()
    rulings_of = gathered.rulings()
    observed = {arm: [one.observation for one in group] for arm, group in rulings_of.items()}
    named = labels(observed)
    ranked = _ranked(observed, named)
    across = partial(
        _across, gathered, ruled, rulings_of, observed, named, ranked, list(arms or ()), groups
    )
    # The arms take as long as all that compares them, in a large report some seconds each.
    with ExitStack() as stack:
        shared = len(ruled) >= MIN_SHARED and can_fork()
        beside_it = stack.enter_context(beside(across, is_fork=True)) if shared else across
        reports = [
            _arm(named[arm], arm, rulings_of[arm], observed[arm], seed, turn_price)
            for arm in ranked
        ]
        found = beside_it() or across()
    return replace(
        _counted(gathered, prices),
        num_judges=num_judges,
        num_rulings=len(ruled),
        num_unknown=sum(one.observation.correct is None for one in ruled),
        arms=_known(reports),
        failures=count_failures(failed),
        turn_price=turn_price,
        **found,
    )


MIN_SHARED = 5000
"""Rulings from which on a second process computes a half of a report."""


def _ranked(
    observed: Mapping[Arm, Sequence[Observation]], named: Mapping[Arm, str]
) -> tuple[Arm, ...]:
    """Arms in which an answer is known: the most accurate first, those without decisions last."""

    def rank(arm: Arm) -> tuple[float, str]:
        hits = [each.right for each in observed[arm] if each.right is not None]
        return (-sum(hits) / len(hits) if hits else 1.0, named[arm])

    known = [arm for arm, group in observed.items() if any(o.correct is not None for o in group)]
    return tuple(sorted(known, key=rank))


def _across(
    gathered: GatheredDebates,
    ruled: Sequence[MeasuredRuling],
    rulings_of: Mapping[Arm, Sequence[MeasuredRuling]],
    observed: Mapping[Arm, Sequence[Observation]],
    named: Mapping[Arm, str],
    ranked: Sequence[Arm],
    runs: Sequence[str],
    groups: Mapping[str, str] | None,
) -> dict[str, Any]:
    """Fields of the report that compare arms or judges, or are not about arms."""
    every = [each for group in observed.values() for each in group]
    by_label = {named[arm]: observed[arm] for arm in ranked}
    contests = {named[arm]: [one.contest for one in rulings_of[arm]] for arm in ranked}
    comparisons = arm_differences(observed, named)
    between_runs = run_differences(observed, runs)
    effects = feature_effects(contests)
    return {
        **_of_judges(gathered, ruled, groups),
        "slices": slices_of(observed, named),
        "comparisons": comparisons,
        "assistance": assistance(every),
        "unread": tuple(
            each
            for arm, group in rulings_of.items()
            for each in unread_kinds(named[arm], (text for one in group for text in one.unread))
        ),
        "unseen": tuple(each for arm in observed for each in unseen(named[arm], observed[arm])),
        "breakdowns": gathered.taken_apart.counted(named),
        "run_differences": between_runs,
        "treatments": _known(treated(label, group) for label, group in by_label.items()),
        "win_rates": tuple(each for label, of in contests.items() for each in win_rates(label, of)),
        "score_differences": _known(score_difference(label, of) for label, of in contests.items()),
        "feature_effects": effects,
        "gaps_recovered": gaps_recovered(observed, named),
        "families": _known(
            (
                family_of(ARMS_FAMILY, [each.test for each in comparisons]),
                family_of(RUNS_FAMILY, [each.test for each in between_runs]),
                family_of(FEATURES_FAMILY, [each.test for each in effects]),
            )
        ),
        "mixed": _mixed(by_label),
    }


def _of_judges(
    gathered: GatheredDebates, ruled: Sequence[MeasuredRuling], groups: Mapping[str, str] | None
) -> dict[str, Any]:
    """Fields of the report on judges one by one, and in groups."""
    grouped = (
        GroupedVotes() if groups is None else grouped_votes(ruled, gathered.rated_pairs, groups)
    )
    panels = panels_of(ruled)
    return {
        "agreements": judge_agreements(one.observation for one in ruled),
        "panels": panel_words(panels),
        "standings": judge_standings(panels),
        "judge_groups": grouped.groups,
        "group_rules": grouped.rules,
        "group_debaters": grouped.debaters,
    }


T = TypeVar("T")


def _known(found: Iterable[T | None]) -> tuple[T, ...]:
    return tuple(each for each in found if each is not None)


def _counted(gathered: GatheredDebates, prices: PriceTable | None) -> Report:
    """A report of the counts alone."""
    return Report(
        num_debates=gathered.num_debates,
        num_questions=len(gathered.questions),
        num_rulings=0,
        num_unjudged=gathered.num_unjudged,
        num_unknown=0,
        datasets=tuple(sorted({dataset for dataset, _ in gathered.questions})),
        arms=(),
        responses=gathered.responses.counted(),
        num_prompts=len(gathered.prompts),
        answer_ends=gathered.ends.counted(),
        raters=gathered.raters.summaries(),
        rater_agreements=gathered.raters.agreements(),
        stages=gathered.answers.stages(),
        drifts=gathered.answers.drifts(),
        principles=gathered.principles.counted().effects,
        pairs=gathered.answers.pairs(),
        courses=gathered.course.courses(),
        turn_beliefs=gathered.course.turn_beliefs(),
        critics=gathered.stances.worths(),
        people=gathered.people.ratings(),
        usage=gathered.usage.counted(prices),
        prompts=gathered.own.counted(),
        models=tuple(sorted(gathered.models)),
        seeds=tuple(sorted(gathered.seeds)),
    )


ARMS_FAMILY, RUNS_FAMILY = "differences between arms", "differences between runs"
FEATURES_FAMILY = "what goes with winning"
"""Names of the families of tests."""


def _mixed(by_arm: Mapping[str, Sequence[Observation]]) -> MixedFit | None:
    """The mixed model of all arms in which something is known; None of a single one."""
    rows = [
        (label, question, value)
        for label, group in by_arm.items()
        for question, value in scores(group)
    ]
    if len(by_arm) < 2:
        return None
    return mixed_model([arm for arm, _, _ in rows], [q for _, q, _ in rows], [v for *_, v in rows])


def _arm(
    label: str,
    arm: Arm,
    group: Sequence[MeasuredRuling],
    observed: Sequence[Observation],
    seed: int,
    turn_price: float,
) -> ArmReport | None:
    """Everything of one arm, or None if the right answer is known of none of its questions."""
    found = accuracy(observed, seed)
    if found is None:
        return None
    quotes = [count for one in group for count in one.quotes]
    paths = [one.path for one in group if one.path is not None]
    return ArmReport(
        label=label,
        arm=arm,
        kind=observed[0].kind,
        accuracy=found,
        honest_consultant=accuracy(o for o in observed if o.honest is True),
        dishonest_consultant=accuracy(o for o in observed if o.honest is False),
        honest_win_rate=honest_win_rate(observed),
        seat_a_win_rate=seat_win_rate(observed),
        scores=mean_scores(observed),
        priced=mean_priced(observed, [one.course.num_turns for one in group], turn_price),
        mass=mean_mass(observed),
        calibration=calibration(observed),
        trajectory=trajectory(paths),
        trajectory_present=trajectory(paths, "present"),
        position=position_bias([one.reading for one in group]),
        quotes=quote_use(quotes),
        quotes_honest=quote_use(count for count in quotes if count.side == "honest"),
        quotes_dishonest=quote_use(count for count in quotes if count.side == "dishonest"),
        num_setups=len({o.setup_id for o in observed}),
    )
