"""Accuracy of judges: by protocol, by the side that was right, and with an assistant or without."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from oversight.aggregation import TIE_TOLERANCE, Ruling, readable, top
from oversight.evals.calibration import brier
from oversight.evals.intervals import (
    Estimate,
    bootstrap_interval,
    mean_interval,
    paired_difference,
    unpaired_difference,
)
from oversight.evals.observations import Cluster, Kind, Observation, cluster_of
from oversight.text.numbers import NONE, Table, percent, share
from oversight.types import Belief, JudgeKind, Judgment, Transcript, Verdict


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Accuracy of one group of rulings; rulings on questions without a known answer left out."""

    accuracy: Estimate | None
    """Right over decided; None if nothing was decided."""
    bootstrap: Estimate | None
    """The same with the second interval; None if it was not asked for."""
    accuracy_all: Estimate
    num: int
    num_debates: int
    num_questions: int
    chance: float
    """Score of guessing: the mean of one over the number of options."""
    share_tie: float
    share_abstain: float
    share_invalid: float


def score(observation: Observation) -> float | None:
    """Amount that a ruling adds to `accuracy_all`, 0 to 1; None if the right answer is unknown."""
    if observation.correct is None:
        return None
    if observation.right is not None:
        return float(observation.right)
    return 0.0 if observation.verdict is Verdict.INVALID else 1.0 / observation.num_options


def accuracy(observations: Iterable[Observation], seed: int | None = None) -> Accuracy | None:
    """Accuracy of `observations`, or None if the right answer is known of none of them.

    Args:
        observations: Rulings of one group.
        seed: Of the bootstrap, which is left out without one.
    """
    known = [each for each in observations if each.correct is not None]
    if not known:
        return None
    decided = [each for each in known if each.right is not None]
    hits = [float(bool(each.right)) for each in decided]
    clusters = [each.cluster for each in decided]
    verdicts = Counter(each.verdict for each in known)
    return Accuracy(
        accuracy=mean_interval(hits, clusters) if decided else None,
        bootstrap=(
            bootstrap_interval(hits, clusters, seed=seed) if decided and seed is not None else None
        ),
        accuracy_all=mean_interval(
            [value for _, value in scores(known)], [each.cluster for each in known]
        ),
        num=len(known),
        num_debates=len({each.debate_id for each in known}),
        num_questions=len({each.cluster for each in known}),
        chance=sum(1.0 / each.num_options for each in known) / len(known),
        share_tie=verdicts[Verdict.TIE] / len(known),
        share_abstain=verdicts[Verdict.ABSTAIN] / len(known),
        share_invalid=verdicts[Verdict.INVALID] / len(known),
    )


def scores(observations: Iterable[Observation]) -> list[tuple[tuple[str, str], float]]:
    """(question, score) of every ruling on a question whose answer is known."""
    pairs = ((each.cluster, score(each)) for each in observations)
    return [(cluster, value) for cluster, value in pairs if value is not None]


def difference(first: Sequence[Observation], second: Sequence[Observation]) -> Estimate | None:
    """`accuracy_all` of first minus second on the questions that both have, each counted once."""
    return paired_difference(scores(first), scores(second))


class Treatment(StrEnum):
    """Treatment of rulings in which nothing was decided."""

    LEFT_OUT = "left out"
    GUESS = "as a guess"
    WRONG = "as wrong"
    RIGHT = "as right"


UNDECIDED = (Verdict.INVALID, Verdict.TIE, Verdict.ABSTAIN)


def treated_accuracy(
    right: Sequence[bool | None],
    verdicts: Sequence[Verdict],
    chances: Sequence[float],
    clusters: Sequence[Hashable],
    treatment: Treatment | Mapping[Verdict, Treatment],
) -> Estimate | None:
    """Accuracy with each class of undecided rulings treated as told; None if nothing is left.

    All undecided ones as wrong, and all as right, are the bounds between which accuracy lies
    whatever these rulings would have been (Manski 1989; Horowitz and Manski 2000): from the lower
    end of the one interval to the upper end of the other is an interval for it.

    Args:
        right: Whether each ruling is right; None where nothing was decided.
        verdicts: The class of each.
        chances: The score of guessing on each one's question.
        clusters: The question of each.
        treatment: One for all classes, or one for each of `UNDECIDED`.

    Raises:
        ValueError: They are not as many.
    """
    if not len(right) == len(verdicts) == len(chances) == len(clusters):
        raise ValueError(
            f"{len(right)} rulings, {len(verdicts)} verdicts, {len(chances)} chances and "
            f"{len(clusters)} clusters: need as many"
        )
    if isinstance(treatment, Treatment):
        treatment = dict.fromkeys(UNDECIDED, treatment)
    scored = _treated_scores(right, verdicts, chances, treatment)
    kept = [(value, of) for value, of in zip(scored, clusters, strict=True) if value is not None]
    return mean_interval([value for value, _ in kept], [of for _, of in kept]) if kept else None


def _treated_scores(
    right: Sequence[bool | None],
    verdicts: Sequence[Verdict],
    chances: Sequence[float],
    by_class: Mapping[Verdict, Treatment],
) -> list[float | None]:
    """The score of each ruling; None of one that is left out."""
    found: list[float | None] = []
    for hit, verdict, chance in zip(right, verdicts, chances, strict=True):
        if hit is not None:
            found.append(1.0 if hit else 0.0)
            continue
        how = by_class[verdict]
        if how is Treatment.GUESS:
            found.append(chance)
        else:
            found.append(None if how is Treatment.LEFT_OUT else float(how is Treatment.RIGHT))
    return found


@dataclass(frozen=True, slots=True)
class Treated:
    """Accuracy of an arm under each treatment of the rulings that decide nothing."""

    label: str
    num: int
    num_invalid: int
    num_tie: int
    num_abstain: int
    left_out: Estimate | None
    """Right over decided; None if nothing was decided."""
    guess: Estimate
    wrong: Estimate
    """The lower bound: every undecided ruling counts as wrong."""
    right: Estimate
    """The upper bound."""
    by_class: dict[str, tuple[float, float]]
    """Of each class that occurs, accuracy with it alone as wrong and as right, the others as
    guesses: how much hangs on that class."""


def treated(label: str, observations: Iterable[Observation]) -> Treated | None:
    """Accuracy of `observations` under every treatment; None if no answer is known."""
    known = [each for each in observations if each.correct is not None]
    if not known:
        return None
    arrays = (
        [each.right for each in known],
        [each.verdict for each in known],
        [1.0 / each.num_options for each in known],
        [each.cluster for each in known],
    )
    left_out, guess, wrong, right = (treated_accuracy(*arrays, each) for each in Treatment)
    if guess is None or wrong is None or right is None:
        return None
    counts = Counter(arrays[1])

    def alone(verdict: Verdict, treatment: Treatment) -> float:
        by_class = dict.fromkeys(UNDECIDED, Treatment.GUESS) | {verdict: treatment}
        return fmean(value or 0.0 for value in _treated_scores(*arrays[:3], by_class))

    return Treated(
        label=label,
        num=len(known),
        num_invalid=counts[Verdict.INVALID],
        num_tie=counts[Verdict.TIE],
        num_abstain=counts[Verdict.ABSTAIN],
        left_out=left_out,
        guess=guess,
        wrong=wrong,
        right=right,
        by_class={
            each.value: (alone(each, Treatment.WRONG), alone(each, Treatment.RIGHT))
            for each in UNDECIDED
            if counts[each]
        },
    )


def treatment_table(found: Sequence[Treated]) -> Table:
    """Accuracy under every treatment, once some ruling decided nothing."""
    some = [each for each in found if each.num_invalid + each.num_tie + each.num_abstain]

    def alone(each: Treated, verdict: Verdict) -> str:
        ends = each.by_class.get(verdict.value)
        return NONE if ends is None else f"{percent(ends[0])} to {percent(ends[1])}"

    return Table(
        title="Accuracy by treatment",
        note="Rulings that decide nothing left out, as guesses, all as wrong and all as right: "
        "between the last two lies accuracy whatever they would have been (Manski 1989). Then how "
        "much hangs on each class alone, the others being guesses.",
        columns=(
            *("protocol", *(each.value for each in Treatment)),
            *("INVALID alone", "ties alone", "abst. alone"),
        ),
        rows=tuple(
            (
                each.label,
                *(share(one) for one in (each.left_out, each.guess, each.wrong, each.right)),
                *(alone(each, verdict) for verdict in UNDECIDED),
            )
            for each in some
        ),
    )


@dataclass(frozen=True, slots=True)
class OrderReading:
    """Effects of the order in which options were listed on one judge, in one debate."""

    cluster: Cluster
    first_chosen: tuple[bool, ...]
    """Of each order judged and decided: whether the option listed first was chosen."""
    first_argued: tuple[bool, ...]
    """Likewise: whether the option of the side shown first was chosen."""
    gain: float | None = None
    """Belief that an option gains by being shown first instead of last: by its side's words, or
    in the listing where nobody speaks; None unless judged in both orders."""
    flipped: bool | None = None
    """True if the two orders were decided differently."""


@dataclass(frozen=True, slots=True)
class PositionBias:
    """Effect of the order shown on decisions."""

    first_chosen: Estimate | None
    """Share of decisions for the option listed first; one over the number of options if blind."""
    first_argued: Estimate | None
    """Share of decisions for the side shown first among the options that were argued for."""
    gain: Estimate | None
    """Mean belief gained by being shown first; 0 if blind to order. Needs both orders."""
    flipped: Estimate | None
    """Share of debates decided differently in the two orders. Needs both."""


def honest_win_rate(observations: Iterable[Observation]) -> Estimate | None:
    """Share of debates in which the right side is believed more than its opponent; ties are half.

    Over debates that could be read and in which one side defended the right answer.
    """
    found = []
    for each in observations:
        if each.kind is Kind.DEBATE and each.p_correct is not None and each.probs is not None:
            others = [each.probs[k] for k in each.defends if k != each.correct]
            if others and each.correct in each.defends:
                found.append((each.cluster, _half(each.p_correct - max(others))))
    return _mean(found)


def seat_win_rate(observations: Iterable[Observation]) -> Estimate | None:
    """Share of debates in which seat A is believed more, ties half; 1/2 unless seats matter."""
    found = [
        (each.cluster, _half(each.probs[each.defends[0]] - each.probs[each.defends[1]]))
        for each in observations
        if each.kind is Kind.DEBATE and each.probs is not None
    ]
    return _mean(found)


def reading(transcript: Transcript, ruling: Ruling) -> OrderReading:
    """Effects of the order of options and sides on one ruling."""
    orders = [judgment for judgment in ruling.judgments if _choice(judgment.final) is not None]
    drawn = [j for j in ruling.judgments if not j.swapped and readable(j.final)]
    swapped = [j for j in ruling.judgments if j.swapped and readable(j.final)]
    both = (drawn[0], swapped[0]) if drawn and swapped else None
    two_sides = len(transcript.debate.protocol.speakers) > 1
    return OrderReading(
        cluster=cluster_of(transcript.question),
        first_chosen=tuple(_choice(j.final) == j.orders.options[0] for j in orders),
        first_argued=tuple(_argued_first(orders)) if two_sides else (),
        gain=_gain(*both) if both else None,
        flipped=_choice(both[0].final) != _choice(both[1].final) if both else None,
    )


def position_bias(readings: Sequence[OrderReading]) -> PositionBias:
    """Order effects over `readings`."""
    return PositionBias(
        first_chosen=_mean([(r.cluster, float(f)) for r in readings for f in r.first_chosen]),
        first_argued=_mean([(r.cluster, float(f)) for r in readings for f in r.first_argued]),
        gain=_mean([(r.cluster, r.gain) for r in readings if r.gain is not None], low=-1.0),
        flipped=_mean([(r.cluster, float(r.flipped)) for r in readings if r.flipped is not None]),
    )


def _choice(belief: Belief) -> int | None:
    """The one option believed most; None of a tie, or if it cannot be read."""
    if not readable(belief) or belief.probs is None or len(top(belief.probs)) > 1:
        return None
    return top(belief.probs)[0]


def _argued_first(judgments: Iterable[Judgment]) -> Iterator[bool]:
    for judgment in judgments:
        choice = _choice(judgment.final)
        if choice in judgment.orders.defends and judgment.orders.shown:
            yield choice == judgment.orders.defended_by(judgment.orders.shown[0])


def _gain(drawn: Judgment, swapped: Judgment) -> float | None:
    """Mean change in belief of the two outermost options, from shown last to shown first."""
    if drawn.orders.options != swapped.orders.options:
        first, last = drawn.orders.options[0], drawn.orders.options[-1]
    elif drawn.orders.shown != swapped.orders.shown and len(drawn.orders.defends) > 1:
        first, last = (drawn.orders.defended_by(seat) for seat in drawn.orders.shown)
    else:
        return None
    before, after = drawn.final.probs, swapped.final.probs
    if before is None or after is None:
        return None
    return ((before[first] - after[first]) + (after[last] - before[last])) / 2.0


def _half(gap: float) -> float:
    """1 for the first, 0 for the second, 1/2 where they are equal."""
    return 0.5 if abs(gap) <= TIE_TOLERANCE else float(gap > 0)


def _mean(found: Sequence[tuple[Cluster, float]], low: float = 0.0) -> Estimate | None:
    if not found:
        return None
    return mean_interval([v for _, v in found], [c for c, _ in found], bounds=(low, 1.0))


UNASSISTED = "none"
"""The kind that means no assistance: what the others are compared with."""


@dataclass(frozen=True, slots=True)
class Assistance:
    """Rulings that came with one kind of assistance, in one study and protocol."""

    study: str
    protocol: str
    kind: str
    num: int
    num_used: int
    """Rulings before which the judge was shown any of it."""
    accuracy_all: Estimate
    brier: Estimate | None
    """Of beliefs that can be read; lower is better."""
    active_s: Estimate | None
    """Seconds of active attention."""
    gain: Estimate | None
    """`accuracy_all` minus that without assistance; None for `none` itself, or without it."""
    gain_brier: Estimate | None
    extra_s: Estimate | None


Measured = Sequence[tuple[tuple[str, str], float]]
"""(question, value) of each ruling."""


def assistance(observations: Iterable[Observation]) -> tuple[Assistance, ...]:
    """Measurements of every kind of assistance that a study drew, `none` first."""
    groups: dict[tuple[str, str], dict[str, list[Observation]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for each in observations:
        if each.assistance_drawn is not None and each.correct is not None:
            groups[each.study, each.arm.protocol][each.assistance_drawn].append(each)
    return tuple(
        _measure(study, protocol, kind, by_kind[kind], by_kind.get(UNASSISTED, []))
        for (study, protocol), by_kind in sorted(groups.items())
        for kind in sorted(by_kind, key=lambda name: (name != UNASSISTED, name))
    )


def _measure(
    study: str, protocol: str, kind: str, group: list[Observation], without: list[Observation]
) -> Assistance:
    compared = [] if kind == UNASSISTED else without
    seconds = _seconds(group)
    return Assistance(
        study=study,
        protocol=protocol,
        kind=kind,
        num=len(group),
        num_used=sum(each.assistance_used for each in group),
        accuracy_all=mean_interval(*_columns(_scores(group))),
        brier=mean_interval(*_columns(_briers(group))) if _briers(group) else None,
        active_s=mean_interval(*_columns(seconds), bounds=None) if seconds else None,
        gain=_gap(_scores(group), _scores(compared)),
        gain_brier=_gap(_briers(group), _briers(compared)),
        extra_s=_gap(seconds, _seconds(compared)),
    )


def _columns(measured: Measured) -> tuple[list[float], list[tuple[str, str]]]:
    return [value for _, value in measured], [cluster for cluster, _ in measured]


def _gap(first: Measured, second: Measured) -> Estimate | None:
    if not first or not second:
        return None
    return unpaired_difference(*_columns(first), *_columns(second))


def _scores(group: Iterable[Observation]) -> Measured:
    return [(each.cluster, value) for each in group if (value := score(each)) is not None]


def _briers(group: Iterable[Observation]) -> Measured:
    return [
        (each.cluster, brier(each.probs, each.correct))
        for each in group
        if each.probs is not None and each.correct is not None
    ]


def _seconds(group: Iterable[Observation]) -> Measured:
    return [(each.cluster, each.active_s) for each in group if each.active_s is not None]


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


def unseen(label: str, group: Sequence[Observation]) -> Iterator[Unseen]:
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
