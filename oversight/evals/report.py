"""A report on judged debates: every measure of this package by arm, as plain frozen data."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from oversight.aggregation import (
    Ruling,
    cohen_kappa,
    krippendorff_alpha,
    pairwise_agreement,
    rulings,
)
from oversight.config import PriceTable
from oversight.evals.accuracy import (
    Accuracy,
    Assistance,
    OrderReading,
    PositionBias,
    accuracy,
    assistance,
    difference,
    honest_win_rate,
    position_bias,
    reading,
    seat_win_rate,
)
from oversight.evals.agreement import RaterAgreement, RaterCounter, RaterSummary
from oversight.evals.answers import (
    AnswerEnds,
    EndCounter,
    FailureCount,
    QuoteCount,
    QuoteUse,
    ResponseCount,
    ResponseCounter,
    Unread,
    count_failures,
    quote_counts,
    quote_use,
    shortened,
)
from oversight.evals.breakdown import (
    NO_RUNS,
    ModelUsage,
    OwnPrompt,
    PromptCounter,
    ReportOrigin,
    RunDifference,
    RunMembership,
    UsageCounter,
    run_differences,
)
from oversight.evals.calibration import (
    SCORES,
    BeliefPath,
    Calibration,
    TrajectoryPoint,
    calibration,
    path,
    trajectory,
)
from oversight.evals.harm import AnswerCounter, AnswerDrift, AnswerPair, AnswerStage
from oversight.evals.intervals import Estimate, mean_interval
from oversight.evals.observations import Arm, Kind, Observation, cluster_of, labels, observe
from oversight.evals.observations import named as named_agent
from oversight.evals.principles import PrincipleCounter, PrincipleEffect
from oversight.evals.properties import Breakdown, BreakdownCounter, Property
from oversight.types import JudgeKind, Transcript, Verdict

Observed = Mapping[Arm, Sequence[Observation]]

COMPARED = (
    (Kind.DEBATE, Kind.CONSULTANCY),
    (Kind.DEBATE, Kind.NAIVE),
    (Kind.CONSULTANCY, Kind.NAIVE),
    (Kind.EXPERT, Kind.DEBATE),
)
"""Kinds of protocol whose difference is taken, first minus second."""


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
    """Mean of each proper score of `scoring.SCORES`, over beliefs that could be read."""
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
class Slice:
    """Accuracy of one arm on one part of the questions."""

    dataset: str
    family: str
    label: str
    accuracy: Accuracy


@dataclass(frozen=True, slots=True)
class ArmDifference:
    """The paired difference of two arms in `accuracy_all`, first minus second."""

    first: str
    second: str
    kinds: tuple[Kind, Kind]
    difference: Estimate


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of the judges of one protocol's debates on the option chosen."""

    protocol: str
    judges: tuple[str, ...]
    num_debates: int
    """Debates that at least two of them decided."""
    agreement: float
    alpha: float | None
    kappa: float | None
    """Only of two judges."""


@dataclass(frozen=True, slots=True)
class Unseen:
    """People's rulings of one arm, by whether all turns had been on their screen."""

    label: str
    num: int
    num_unseen: int
    """Given while some turns had not been on the screen completely."""
    num_unrecorded: int
    """Of these nobody recorded what was on the screen."""
    accuracy: Accuracy | None
    """Of all of them, on questions whose right answer is known."""
    accuracy_without: Accuracy | None
    """The same without the `num_unseen`."""


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
    usage: tuple[ModelUsage, ...] = ()
    prompts: tuple[OwnPrompt, ...] = ()
    models: tuple[str, ...] = ()
    """Models, or agents without one, by name."""
    seeds: tuple[int, ...] = ()
    origin: ReportOrigin | None = None


@dataclass(frozen=True, slots=True)
class _Ruled:
    """Measurements of one ruling; the transcript itself is not kept."""

    observation: Observation
    reading: OrderReading
    path: BeliefPath | None
    quotes: tuple[QuoteCount, ...]
    unread: tuple[str, ...]
    """Answers that could not be read, shortened."""


def build_report(
    transcripts: Iterable[Transcript],
    seed: int = 0,
    *,
    failed: Iterable[Transcript] = (),
    arms: Mapping[str, Iterable[Transcript]] | None = None,
    by: Sequence[Property] = (),
    runs: Mapping[str, RunMembership] | None = None,
    prices: PriceTable | None = None,
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
    """
    ends, usage, responses, own = EndCounter(), UsageCounter(), ResponseCounter(), PromptCounter()
    gathered: dict[Arm, list[_Ruled]] = defaultdict(list)
    raters, answers, principles = RaterCounter(), AnswerCounter(), PrincipleCounter()
    taken_apart = BreakdownCounter(by)
    questions, prompts, models, seeds = set(), set(), set(), set()
    num_debates = num_unjudged = 0
    named_arms = [("", transcripts), *(arms or {}).items()]
    for name, transcript in ((name, each) for name, some in named_arms for each in some):
        num_debates += 1
        ends.add(transcript)
        usage.add(transcript, name)
        own.add(transcript, name)
        models |= {named_agent(spec) for spec in transcript.debate.agents.values()}
        seeds.add(transcript.debate.seed)
        raters.add(transcript)
        questions.add(cluster_of(transcript.question))
        if transcript.question.is_open:
            prompts.add(cluster_of(transcript.question))
            responses.add(transcript)
            answers.add(transcript, name)
            principles.add(transcript)
            continue
        found = rulings(transcript)
        num_unjudged += not found
        for ruling in found:
            one = _ruled(transcript, ruling, name)
            gathered[one.observation.arm].append(one)
            taken_apart.add(transcript, ruling, one.observation, (runs or {}).get(name, NO_RUNS))
    for group in gathered.values():
        group.sort(key=lambda one: one.observation.debate_id)
    observed = {arm: [one.observation for one in gathered[arm]] for arm in sorted(gathered)}
    named = labels(observed)
    reports = (_arm(named[arm], arm, gathered[arm], seed) for arm in observed)
    every = [each for group in observed.values() for each in group]
    return Report(
        num_debates=num_debates,
        num_questions=len(questions),
        num_rulings=len(every),
        num_unjudged=num_unjudged,
        num_unknown=sum(each.correct is None for each in every),
        datasets=tuple(sorted({dataset for dataset, _ in questions})),
        arms=tuple(sorted((arm for arm in reports if arm is not None), key=_rank)),
        slices=tuple(_slices(observed, named)),
        comparisons=tuple(_comparisons(observed, named)),
        agreements=tuple(_agreements(every)),
        responses=responses.counted(),
        num_prompts=len(prompts),
        answer_ends=ends.counted(),
        failures=count_failures(failed),
        assistance=assistance(every),
        unread=tuple(each for arm in observed for each in _unread(named[arm], gathered[arm])),
        unseen=tuple(each for arm in observed for each in _unseen(named[arm], observed[arm])),
        raters=raters.summaries(),
        rater_agreements=raters.agreements(),
        stages=answers.stages(),
        drifts=answers.drifts(),
        principles=principles.counted().effects,
        pairs=answers.pairs(),
        breakdowns=taken_apart.counted(named),
        run_differences=run_differences(observed, list(arms or ())),
        usage=usage.counted(prices),
        prompts=own.counted(),
        models=tuple(sorted(models)),
        seeds=tuple(sorted(seeds)),
    )


def _ruled(transcript: Transcript, ruling: Ruling, group: str) -> _Ruled:
    return _Ruled(
        observation=observe(transcript, ruling, group),
        reading=reading(transcript, ruling),
        path=path(transcript, ruling),
        quotes=tuple(quote_counts(transcript)),
        unread=tuple(
            shortened(judgment.final.raw)
            for judgment in ruling.judgments
            if judgment.final.verdict is Verdict.INVALID
        ),
    )


MAX_KINDS = 3
"""Kinds of unreadable answers that are shown of an arm."""
KIND_CHARS = 60
"""Answers that begin alike, apart from numbers, are of one kind."""


def _unread(label: str, group: Sequence[_Ruled]) -> list[Unread]:
    """The most frequent kinds of an arm's unreadable answers."""
    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for answer in (answer for one in group for answer in one.unread):
        kind = re.sub(r"\d+", "0", answer.casefold())[:KIND_CHARS]
        counts[kind] += 1
        first.setdefault(kind, answer)
    return [
        Unread(label, num, counts.total(), first[kind])
        for kind, num in counts.most_common(MAX_KINDS)
    ]


def _unseen(label: str, group: Sequence[Observation]) -> Iterator[Unseen]:
    """Judgments of people in an arm, and those given with turns unread; none without people."""
    people = [each for each in group if each.judge_kind is JudgeKind.HUMAN]
    if people:
        yield Unseen(
            label=label,
            num=len(people),
            num_unseen=sum(bool(each.num_unseen) for each in people),
            num_unrecorded=sum(each.num_unseen is None for each in people),
            accuracy=accuracy(people),
            accuracy_without=accuracy(each for each in people if not each.num_unseen),
        )


def _rank(report: ArmReport) -> tuple[bool, float, str]:
    """The most accurate first, arms in which nothing was decided last."""
    found = report.accuracy.accuracy
    return (found is None, 0.0 if found is None else -found.value, report.label)


def _arm(label: str, arm: Arm, group: Sequence[_Ruled], seed: int) -> ArmReport | None:
    """Everything of one arm, or None if the right answer is known of none of its questions."""
    observed = [one.observation for one in group]
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
        scores=_scores(observed),
        mass=_mass(observed),
        calibration=calibration(observed),
        trajectory=trajectory(paths),
        trajectory_present=trajectory(paths, "present"),
        position=position_bias([one.reading for one in group]),
        quotes=quote_use(quotes),
        quotes_honest=quote_use(count for count in quotes if count.side == "honest"),
        quotes_dishonest=quote_use(count for count in quotes if count.side == "dishonest"),
        num_setups=len({o.setup_id for o in observed}),
    )


def _mass(found: Sequence[Observation]) -> Estimate | None:
    known = [(each.mass, each.cluster) for each in found if each.mass is not None]
    if not known:
        return None
    masses, clusters = zip(*known, strict=True)
    return mean_interval(masses, clusters)


def _scores(found: Sequence[Observation]) -> dict[str, Estimate]:
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


def _slices(observed: Observed, named: dict[Arm, str]) -> list[Slice]:
    groups: dict[tuple[str, str, str], list[Observation]] = defaultdict(list)
    for arm, group in observed.items():
        for each in group:
            groups[each.dataset, each.family, named[arm]].append(each)
    if len({(dataset, family) for dataset, family, _ in groups}) < 2:
        return []
    measured = ((key, accuracy(group)) for key, group in sorted(groups.items()))
    return [Slice(*key, found) for key, found in measured if found is not None]


def _comparisons(observed: Observed, named: dict[Arm, str]) -> list[ArmDifference]:
    """Differences between arms that have the same judge, and the same speakers or none."""
    kinds = {arm: group[0].kind for arm, group in observed.items()}
    found = []
    for pair in COMPARED:
        for one in observed:
            for two in observed:
                alike = (one.judge, one.group) == (two.judge, two.group)
                if (kinds[one], kinds[two]) != pair or not alike:
                    continue
                if one.speakers and two.speakers and one.speakers != two.speakers:
                    continue
                gap = difference(observed[one], observed[two])
                if gap is not None:
                    found.append(ArmDifference(named[one], named[two], pair, gap))
    return found


def _agreements(every: Sequence[Observation]) -> list[Agreement]:
    """Of each protocol whose debates several judges decided."""
    choices: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for each in every:
        if each.verdict is Verdict.DECIDED and each.choice is not None:
            choices[each.arm.protocol][each.arm.judge][each.debate_id] = each.choice
    found = []
    for protocol, by_judge in sorted(choices.items()):
        shared = {
            debate
            for one, two in combinations(by_judge.values(), 2)
            for debate in one.keys() & two.keys()
        }
        units = sorted(shared)
        # A judge who decided nothing that another did agrees with nobody, and is not named.
        judges = sorted(judge for judge, given in by_judge.items() if given.keys() & shared)
        raters = [[by_judge[judge].get(unit) for unit in units] for judge in judges]
        agreed = pairwise_agreement(raters) if units else None
        if agreed is None:
            continue
        found.append(
            Agreement(
                protocol=protocol,
                judges=tuple(judges),
                num_debates=len(units),
                agreement=agreed,
                alpha=krippendorff_alpha(raters),
                kappa=cohen_kappa(*raters) if len(raters) == 2 else None,
            )
        )
    return found
