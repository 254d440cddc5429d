"""Arms compared: differences that are tested as a family, and the part of a gap that is closed.

Whoever looks at twenty differences of which none is real finds one whose 95 % interval leaves 0
out. The p-values of all differences of one table are therefore corrected together: by Holm (1979),
which bounds the chance of a single false finding, and by Benjamini and Hochberg (1995), which
bounds the expected share of false ones among the findings.

All functions take plain arrays, one place a ruling or a question, and need no records.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from oversight.aggregation import LEVEL
from oversight.evals.accuracy import scores
from oversight.evals.intervals import Estimate, cluster_means, p_value, paired_difference
from oversight.evals.intervals import paired_gaps as gaps_of
from oversight.evals.observations import Arm, Kind, Observation
from oversight.text.numbers import NONE, Table, count, points, share

Scores = Sequence[tuple[Hashable, float]]
"""(question, value in [0, 1]) of each ruling."""

MIN_FOR_TEST = 2
"""Questions below which neither a test nor a ratio says anything."""


# --- many differences at once ----------------------------------------------------


@dataclass(frozen=True, slots=True)
class PValue:
    """A p-value alone and corrected for its family."""

    p: float
    holm: float
    """Below 0.05: shown, with at most 5 % chance that any such claim of the family is false."""
    bh: float
    """Below 0.05: of the family's claims of this kind at most 5 % are expected to be false."""


@dataclass(frozen=True, slots=True)
class ComparisonFamily:
    """Differences that were corrected together, and how many of them stand."""

    name: str
    num: int
    num_alone: int
    """Below 0.05 before any correction."""
    num_holm: int
    num_bh: int


def holm(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values by Holm's step-down method (Holm 1979), in the order given.

    The k-th smallest of m is multiplied by m - k + 1; none is below the one before it, or above 1.

    Raises:
        ValueError: One is no probability.
    """
    _check(ps)
    found = [0.0] * len(ps)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        found[place] = highest
    return found


def benjamini_hochberg(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values that control the false discovery rate (Benjamini and Hochberg 1995).

    The k-th smallest of m is multiplied by m / k; none is above the one behind it.

    Raises:
        ValueError: One is no probability.
    """
    from scipy.stats import false_discovery_control

    _check(ps)
    return [float(p) for p in false_discovery_control(ps)] if ps else []


def _check(ps: Sequence[float]) -> None:
    wrong = next((p for p in ps if not 0.0 <= p <= 1.0), None)
    if wrong is not None:
        raise ValueError(f"p-value {wrong!r}: need numbers from 0 to 1")


def corrected(ps: Sequence[float | None]) -> list[PValue | None]:
    """Each p-value with its corrections over all of them; None stays None and is not counted."""
    known = [p for p in ps if p is not None]
    rest = iter(zip(known, holm(known), benjamini_hochberg(known), strict=True))
    return [None if p is None else PValue(*next(rest)) for p in ps]


def family_of(name: str, tests: Sequence[PValue | None]) -> ComparisonFamily | None:
    """Count of what stands in a family; None if nothing was tested."""
    known = [test for test in tests if test is not None]
    if not known:
        return None
    limit = 1.0 - LEVEL
    return ComparisonFamily(
        name,
        len(known),
        sum(each.p < limit for each in known),
        sum(each.holm < limit for each in known),
        sum(each.bh < limit for each in known),
    )


def paired_p(first: Scores, second: Scores) -> float | None:
    """P-value of `paired_difference` being 0; None where fewer than two questions are shared."""
    gaps, shared = gaps_of(first, second)
    return p_value(gaps, shared) if len(shared) >= MIN_FOR_TEST else None


@dataclass(frozen=True, slots=True)
class ArmDifference:
    """The paired difference of two arms in `accuracy_all`, first minus second."""

    first: str
    second: str
    kinds: tuple[Kind, Kind]
    difference: Estimate
    test: PValue | None = None
    """None where fewer than two questions were asked of both."""

    @property
    def is_shown(self) -> bool:
        """True if the difference stands after Holm's correction for all that are tested."""
        return self.test is not None and self.test.holm < 1.0 - LEVEL


COMPARED = (
    (Kind.DEBATE, Kind.CONSULTANCY),
    (Kind.DEBATE, Kind.NAIVE),
    (Kind.CONSULTANCY, Kind.NAIVE),
    (Kind.EXPERT, Kind.DEBATE),
)
"""Kinds of protocol whose difference is taken, first minus second."""

Observed = Mapping[Arm, Sequence[Observation]]


def arm_differences(observed: Observed, named: Mapping[Arm, str]) -> tuple[ArmDifference, ...]:
    """Differences between arms that have the same judge, and the same speakers or none, with
    p-values corrected over all of them."""
    kinds = {arm: group[0].kind for arm, group in observed.items()}
    measured = {arm: scores(group) for arm, group in observed.items()}
    found: list[tuple[Arm, Arm, Estimate]] = []
    for pair in COMPARED:
        for one in observed:
            for two in observed:
                if (kinds[one], kinds[two]) != pair or not _are_alike(one, two):
                    continue
                gap = paired_difference(measured[one], measured[two])
                if gap is not None:
                    found.append((one, two, gap))
    tests = corrected([paired_p(measured[one], measured[two]) for one, two, _ in found])
    return tuple(
        ArmDifference(named[one], named[two], (kinds[one], kinds[two]), gap, test)
        for (one, two, gap), test in zip(found, tests, strict=True)
    )


def _are_alike(one: Arm, two: Arm) -> bool:
    if (one.judge, one.group) != (two.judge, two.group):
        return False
    return not (one.speakers and two.speakers) or one.speakers == two.speakers


# --- the gap that is closed ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GapRecovered:
    """The part of the gap between a naive and an expert judge that a protocol closes."""

    label: str
    naive: str
    expert: str
    num_questions: int
    """Asked of all three."""
    gap: Estimate | None
    """Expert minus naive; None without a shared question."""
    recovered: Estimate | None
    """0: no better than the naive judge, 1: as good as the expert; below and above are possible."""
    flag: str = ""
    """Reason why nothing is said."""


def gap_recovered(
    arm: Scores, naive: Scores, expert: Scores, level: float = LEVEL
) -> tuple[Estimate | None, str]:
    """Performance gap recovered on the questions that all three have, or the reason why not.

    PGR = (arm - naive) / (expert - naive), after Burns et al. 2023 (arXiv:2312.09390, section 3),
    who take the weak supervisor for the naive and the strong ceiling for the expert judge. Each
    question counts once. The interval is Fieller's (`ratio_interval`).
    """
    means = [cluster_means(each) for each in (arm, naive, expert)]
    shared = [question for question in means[0] if all(question in each for each in means[1:])]
    if len(shared) < MIN_FOR_TEST:
        return None, f"{count(len(shared), 'question')} asked of all three; two are the least"
    above = [means[0][question] - means[1][question] for question in shared]
    gaps = [means[2][question] - means[1][question] for question in shared]
    if math.fsum(gaps) <= 0.0:
        return None, "the expert is no better than the naive judge: there is no gap to close"
    found = ratio_interval(above, gaps, level)
    if found is None:
        return None, "the gap between naive and expert is not shown to be above 0"
    return found, ""


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], level: float = LEVEL
) -> Estimate | None:
    """The ratio of two means with Fieller's interval (Fieller 1954), pairs being independent.

    Args:
        numerators: One value a question.
        denominators: Of the same questions.
        level: Coverage.

    Returns:
        The estimate; None if the mean of the denominators does not differ from 0 at this level,
        so that the ratio may be anything.

    Raises:
        ValueError: They are fewer than two, or not as many.
    """
    from scipy import stats

    over = np.asarray(numerators, dtype=np.float64)
    under = np.asarray(denominators, dtype=np.float64)
    if over.shape != under.shape or len(over) < MIN_FOR_TEST:
        raise ValueError(f"{len(over)} numerators and {len(under)} denominators: need two pairs")
    number = len(over)
    (v11, v12), (_, v22) = np.cov(over, under) / number
    square = float(stats.t.ppf(0.5 + level / 2.0, number - 1)) ** 2
    top, bottom = float(over.mean()), float(under.mean())
    a = bottom**2 - square * v22
    if a <= 1e-12:
        return None
    b, c = top * bottom - square * v12, top**2 - square * v11
    half = math.sqrt(max(b * b - a * c, 0.0))
    low, high = float((b - half) / a), float((b + half) / a)
    if high - low < 1e-12:  # nothing varies: the data cannot tell
        return Estimate(top / bottom, None, None, number, number, "none")
    return Estimate(top / bottom, low, high, number, number, "fieller")


def gaps_recovered(observed: Observed, named: Mapping[Arm, str]) -> tuple[GapRecovered, ...]:
    """The part of the gap that each debate and consultancy closes, where its judge was also asked
    alone and with the source."""
    by_judge: dict[tuple[str, str], dict[Kind, list[Arm]]] = defaultdict(lambda: defaultdict(list))
    for arm, group in observed.items():
        by_judge[arm.judge, arm.group][group[0].kind].append(arm)
    found = []
    for kinds in by_judge.values():
        for naive in kinds[Kind.NAIVE]:
            for expert in kinds[Kind.EXPERT]:
                for arm in (*kinds[Kind.DEBATE], *kinds[Kind.CONSULTANCY]):
                    own, low, high = (scores(observed[each]) for each in (arm, naive, expert))
                    recovered, flag = gap_recovered(own, low, high)
                    found.append(
                        GapRecovered(
                            label=named[arm],
                            naive=named[naive],
                            expert=named[expert],
                            num_questions=_num_shared(own, low, high),
                            gap=paired_difference(high, low),
                            recovered=recovered,
                            flag=flag,
                        )
                    )
    return tuple(found)


def _num_shared(*of: Scores) -> int:
    first, *rest = ({question for question, _ in each} for each in of)
    return len(first.intersection(*rest))


# --- tables ----------------------------------------------------------------------


class Flagged(Protocol):
    """A row that may say why it holds no number."""

    @property
    def flag(self) -> str:
        """The reason; empty where there is a number."""
        ...


def why_not(rows: Sequence[Flagged]) -> tuple[str, ...]:
    """The column of reasons, where some row has one."""
    return ("why not",) if any(each.flag for each in rows) else ()


def flag_cell(row: Flagged, rows: Sequence[Flagged]) -> tuple[str, ...]:
    """The cell of that column."""
    return (row.flag,) if why_not(rows) else ()


def p_text(p: float | None) -> str:
    """A p-value in three decimals; `< 0.001` below."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def correction_note(family: ComparisonFamily | None) -> str:
    """The sentence that names a family, its size and its corrections."""
    if family is None:
        return ""
    return (
        f"p: two-sided; Holm and BH: corrected for {count(family.num, 'test')} of this table "
        "(Holm 1979; Benjamini and Hochberg 1995)."
    )


def comparison_table(found: Sequence[ArmDifference], family: ComparisonFamily | None) -> Table:
    """Differences between arms with their p-values."""
    return Table(
        title="Differences",
        note="Percentage points of “all”, paired by question; 0 inside the interval: no difference "
        f"shown. {correction_note(family)}".rstrip(),
        columns=("first − second", "points", "p", "Holm", "BH", "questions"),
        rows=tuple(
            (
                f"{each.first} − {each.second}",
                points(each.difference),
                *p_cells(each.test),
                f"{each.difference.num_clusters:,}",
            )
            for each in found
        ),
    )


def p_cells(test: PValue | None) -> tuple[str, str, str]:
    """A p-value alone, by Holm, and by Benjamini and Hochberg."""
    if test is None:
        return (NONE, NONE, NONE)
    return p_text(test.p), p_text(test.holm), p_text(test.bh)


def gap_table(found: Sequence[GapRecovered]) -> Table:
    """Parts of the gap that are closed."""
    return Table(
        title="Gap recovered",
        note="Part of the gap between the naive and the expert judge that a protocol closes (Burns "
        "et al. 2023), in “all”, on the questions asked of all three; Fieller's interval.",
        columns=("protocol", "recovered", "naive to expert", "questions", *why_not(found)),
        rows=tuple(
            (
                each.label,
                share(each.recovered),
                NONE if each.gap is None else points(each.gap),
                f"{each.num_questions:,}",
                *flag_cell(each, found),
            )
            for each in found
        ),
    )
