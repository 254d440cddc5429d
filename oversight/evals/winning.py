"""Properties that go with winning: side, seat, place, the length of speeches and their quotes.

All functions take plain arrays. Of a debate there is one row, not one a side: of two sides that
compete the one's gain is the other's loss, and counting both would count everything twice.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from oversight.aggregation import LEVEL, TIE_TOLERANCE, Ruling
from oversight.evals.calibration import FLOOR
from oversight.evals.comparisons import (
    ComparisonFamily,
    PValue,
    corrected,
    correction_note,
    flag_cell,
    p_cells,
    why_not,
)
from oversight.evals.intervals import Estimate, Floats, mean_interval, paired_difference
from oversight.evals.observations import Cluster, Kind, Observation
from oversight.text.numbers import NONE, Table, count, decimals, points, share
from oversight.text.quotes import strip_quotes
from oversight.types import QuoteStatus, Transcript

Scored = tuple[Cluster, float]
"""(question, value) of one ruling."""

MIN_QUESTIONS = 10
"""Questions below which no correlation is told."""


@dataclass(frozen=True, slots=True)
class SideContent:
    """Words and quotes that one side put forward in a debate."""

    characters: int
    quotes: int
    checked: int
    """Quotes that are long enough to be looked for in the source."""
    verified: int
    """Of these, the ones that stand there word for word."""

    @property
    def verified_share(self) -> float | None:
        """Share of the checked quotes that stand in the source; None without any."""
        return self.verified / self.checked if self.checked else None


def contents_of(transcript: Transcript) -> tuple[SideContent, ...]:
    """Words and quotes of each speaker in the speeches that stand, A before B."""
    found = {seat: [0, 0, 0, 0] for seat in transcript.debate.protocol.speakers}
    for turn in transcript.turns:
        if turn.chosen and turn.argues and turn.seat in found:
            of = found[turn.seat]
            statuses = [quote.status for quote in turn.quotes]
            of[0] += len(strip_quotes(turn.text))
            of[1] += len(statuses)
            of[2] += sum(status is not QuoteStatus.TOO_SHORT for status in statuses)
            of[3] += sum(status is QuoteStatus.VERIFIED for status in statuses)
    return tuple(SideContent(*of) for of in found.values())


FEATURES: dict[str, Callable[[SideContent], float | None]] = {
    "characters": lambda side: float(side.characters),
    "quotes": lambda side: float(side.quotes),
    "verified share": lambda side: side.verified_share,
}


# --- who is believed, by side and by place ---------------------------------------


@dataclass(frozen=True, slots=True)
class Contest:
    """One ruling as a contest: which option was believed, and where its defenders stood."""

    observation: Observation
    contents: tuple[SideContent, ...]
    listed_first: int | None
    """Option that was listed first; None where the judge saw both listings."""
    shown_first: int | None
    """Option whose side was shown first; likewise."""

    won: float | None = field(init=False)
    """1 if A's option is believed more than any other that was argued for, 1/2 if equally; of a
    consultancy, if the consultant's is. None where nothing could be read."""

    def __post_init__(self) -> None:
        # Asked for many times over.
        object.__setattr__(self, "won", self._won())

    def _won(self) -> float | None:
        seen = self.observation
        if seen.probs is None or not seen.defends:
            return None
        own = seen.probs[seen.defends[0]]
        others = [seen.probs[k] for k in seen.defends[1:]]
        others = others or [p for k, p in enumerate(seen.probs) if k != seen.defends[0]]
        gap = own - max(others)
        return 0.5 if abs(gap) <= TIE_TOLERANCE else float(gap > 0)

    @property
    def honest(self) -> float | None:
        """1 if A, or the consultant, defends the right option, -1 if another one does, 0 if of two
        sides neither; None where nobody knows."""
        seen = self.observation
        if seen.correct is None or not seen.defends:
            return None
        if seen.correct not in seen.defends and len(seen.defends) > 1:
            return 0.0
        return 1.0 if seen.defends[0] == seen.correct else -1.0


def contest_of(
    observation: Observation, ruling: Ruling, contents: tuple[SideContent, ...]
) -> Contest:
    """The contest of one ruling."""
    orders = ruling.judgments[0].orders
    alone = len(ruling.judgments) == 1
    two_sides = len(observation.defends) > 1
    return Contest(
        observation,
        contents,
        listed_first=orders.options[0] if alone and orders.options else None,
        shown_first=(
            orders.defended_by(orders.shown[0]) if alone and two_sides and orders.shown else None
        ),
    )


@dataclass(frozen=True, slots=True)
class WinRate:
    """Share of debates in which one side is believed, in one place; ties are half."""

    label: str
    side: str
    """`honest`, `dishonest`: the right option's defender, or a wrong one's."""
    place: str
    """`any`, `seat A`, `seat B`, `shown first`, `shown last`, `listed first`, `listed last`."""
    share: Estimate


PLACES = ("any", "seat A", "seat B", "shown first", "shown last", "listed first", "listed last")


def win_rates(label: str, contests: Iterable[Contest]) -> tuple[WinRate, ...]:
    """Win rates of the honest side by the place where it stood; of consultants those of both sides.

    In a debate the dishonest side's rate is one less the honest side's in the other place.
    """
    found: dict[tuple[str, str], list[Scored]] = defaultdict(list)
    for contest in contests:
        won, honest = contest.won, contest.honest
        if won is None or not honest:
            continue
        seen = contest.observation
        if seen.kind is Kind.CONSULTANCY:
            side, value, own = ("honest" if honest > 0 else "dishonest"), won, seen.defends[0]
        else:
            side, value = "honest", won if honest > 0 else 1.0 - won
            own = seen.correct if seen.correct is not None else seen.defends[0]
        for place in _places(contest, own):
            found[side, place].append((seen.cluster, value))
    return tuple(
        WinRate(label, side, place, _mean(found[side, place]))
        for side in ("honest", "dishonest")
        for place in PLACES
        if found[side, place]
    )


def _places(contest: Contest, own: int) -> Iterator[str]:
    yield "any"
    defends = contest.observation.defends
    if len(defends) > 1:
        yield "seat A" if defends[0] == own else "seat B"
        if contest.shown_first is not None:
            yield "shown first" if contest.shown_first == own else "shown last"
    if contest.listed_first is not None:
        yield "listed first" if contest.listed_first == own else "listed last"


# --- what honesty gains ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AgentScoreDifference:
    """Gain of an agent's score when it defends the right option instead of a wrong one."""

    label: str
    log: Estimate | None
    """Of the natural logarithm of the judge's belief in the option defended."""
    belief: Estimate | None
    """Of the belief itself."""
    num_pairs: int
    """Debates, or questions on which consultants of both sides were judged."""
    flag: str = ""


def agent_score_difference(
    honest: Sequence[tuple[Hashable, float]], dishonest: Sequence[tuple[Hashable, float]]
) -> tuple[Estimate | None, Estimate | None]:
    """Agent score difference: by log score, and in belief.

    E[S | defends the right option] - E[S | defends a wrong one], the score S of an agent being the
    logarithm of the judge's belief in the option that it defends (Sudhir, Kaunismaa and
    Panickssery 2025, arXiv:2504.03731: log p_true - log p_false). Paired by question, each counted
    once; beliefs are floored at `FLOOR`. Above 0 the protocol rewards telling the truth.

    Args:
        honest: (question, belief in the option defended) of each ruling, where it is right.
        dishonest: The same where it is wrong; of a debate, of the same rulings' other side.
    """
    right, wrong = (
        [(question, math.log(max(p, FLOOR))) for question, p in each]
        for each in (honest, dishonest)
    )
    return paired_difference(right, wrong, bounds=None), paired_difference(honest, dishonest)


def score_difference(label: str, contests: Iterable[Contest]) -> AgentScoreDifference | None:
    """The agent score difference of one arm; None where nobody speaks or no answer is known."""
    sides: tuple[list[Scored], list[Scored]] = ([], [])
    num = 0
    for each in (contest.observation for contest in contests):
        if each.correct is None or each.probs is None:
            continue
        num += 1
        for option in each.defends:
            sides[option != each.correct].append((each.cluster, each.probs[option]))
    if not sides[0] and not sides[1]:
        return None
    log, belief = agent_score_difference(*sides)
    shared = 0 if belief is None else belief.num_clusters
    flag = ""
    if shared < 2:
        log = belief = None
        flag = f"{count(shared, 'question')} with both sides; two are the least"
    return AgentScoreDifference(label, log, belief, shared, flag)


# --- what goes with winning ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FeatureEffect:
    """Correlation of one property of a side's words with winning."""

    label: str
    feature: str
    num: int
    """Debates in which the sides differ in it, or consultancies that have it."""
    num_questions: int
    more_wins: Estimate | None
    """Share of these debates that the side with more of it wins; None of a consultancy."""
    correlation: Estimate | None
    """Of the difference of the sides (of a consultancy: of the amount) with winning, by ranks."""
    given_side: Estimate | None
    """The same with the right side's advantage taken out of both."""
    test: PValue | None = None
    """Of the correlation being 0, corrected over all features and arms."""
    flag: str = ""


def clustered_correlation(
    xs: Sequence[float],
    ys: Sequence[float],
    clusters: Sequence[Hashable],
    given: Sequence[float] | None = None,
    level: float = LEVEL,
) -> tuple[Estimate, float] | None:
    """Spearman's rank correlation with a clustered interval, and the p-value of its being 0.

    The interval is on Fisher's scale, with the variance of the influence function summed by cluster
    (r's influence is z_x z_y - r (z_x^2 + z_y^2) / 2, Devlin, Gnanadesikan and Kettenring 1975) and
    a t quantile of clusters minus one.

    Args:
        xs: One value a unit.
        ys: Another value of each.
        clusters: The question of each unit.
        given: What is taken out of the ranks of both by least squares first: a partial correlation.
        level: Coverage.

    Returns:
        None with fewer than `MIN_QUESTIONS` clusters, or where one of the two never varies.

    Raises:
        ValueError: They are not as many.
    """
    from scipy import stats

    if not len(xs) == len(ys) == len(clusters) or (given is not None and len(given) != len(xs)):
        raise ValueError(f"{len(xs)} and {len(ys)} values in {len(clusters)}: need as many")
    index: dict[Hashable, int] = {}
    places = [index.setdefault(cluster, len(index)) for cluster in clusters]
    if len(index) < MIN_QUESTIONS:
        return None
    x, y = (np.asarray(stats.rankdata(each), dtype=np.float64) for each in (xs, ys))
    if given is not None:
        design = np.column_stack([np.ones(len(x)), np.asarray(given, dtype=np.float64)])
        x, y = (each - design @ np.linalg.lstsq(design, each, rcond=None)[0] for each in (x, y))
    zx, zy = _standard(x), _standard(y)
    if zx is None or zy is None:
        return None
    r = float((zx * zy).mean())
    if 1.0 - abs(r) < 1e-9:  # its variance is 0 there, and says nothing
        return None
    influence = zx * zy - r * (zx**2 + zy**2) / 2.0
    sums = np.bincount(places, weights=influence)
    groups = len(index)
    variance = float((sums**2).sum()) * groups / (groups - 1) / len(x) ** 2
    error = math.sqrt(variance) / (1.0 - r * r)
    half = float(stats.t.ppf(0.5 + level / 2.0, groups - 1)) * error
    ends = (math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half))
    p = float(2.0 * stats.t.sf(abs(math.atanh(r)) / error, groups - 1))
    return Estimate(r, *ends, len(x), groups, "fisher-z"), p


def _standard(values: Floats) -> Floats | None:
    spread = float(values.std())
    if spread <= 1e-9 * max(1.0, float(np.abs(values).max())):
        return None
    standard: Floats = (values - values.mean()) / spread
    return standard


def feature_effects(by_arm: Mapping[str, Sequence[Contest]]) -> tuple[FeatureEffect, ...]:
    """Correlations of length, quotes and their verified share with winning by arm, with p-values
    corrected over all of them."""
    found = [
        effect
        for label, contests in by_arm.items()
        for feature in FEATURES
        if (effect := _effect(label, feature, contests)) is not None
    ]
    tests = corrected([p for _, p in found])
    return tuple(replace(effect, test=test) for (effect, _), test in zip(found, tests, strict=True))


def _effect(
    label: str, feature: str, contests: Sequence[Contest]
) -> tuple[FeatureEffect, float | None] | None:
    """The effect of one feature in one arm with its p-value; None if no ruling has the feature."""
    rows = [row for each in contests if (row := _row(each, FEATURES[feature])) is not None]
    if not rows:
        return None
    xs, wins, _, clusters = (list(column) for column in zip(*rows, strict=True))
    plain = clustered_correlation(xs, wins, clusters)
    known = [row for row in rows if row[2] is not None]
    partial = None
    if len({side for _, _, side, _ in known}) > 1:
        kx, kw, ks, kc = zip(*known, strict=True)
        partial = clustered_correlation(kx, kw, kc, given=ks)
    flag = ""
    if (num_questions := len(set(clusters))) < MIN_QUESTIONS:
        flag = f"{count(num_questions, 'question')}; {MIN_QUESTIONS} are the least"
    elif plain is None:
        flag = "one of the two never varies, or follows the other exactly"
    more, num = None, len(rows)
    if contests[0].observation.kind is Kind.DEBATE:
        unequal = [(c, win if x > 0 else 1.0 - win) for x, win, _, c in rows if x]
        num = len(unequal)
        if len({cluster for cluster, _ in unequal}) >= MIN_QUESTIONS:
            more = _mean(unequal)
    effect = FeatureEffect(
        label=label,
        feature=feature,
        num=num,
        num_questions=num_questions,
        more_wins=more,
        correlation=plain[0] if plain else None,
        given_side=partial[0] if partial else None,
        flag=flag,
    )
    return effect, plain[1] if plain else None


def _row(
    contest: Contest, feature: Callable[[SideContent], float | None]
) -> tuple[float, float, float | None, Cluster] | None:
    """(difference of A and B in the feature, whether A won, A's side, question)."""
    won = contest.won
    amounts = [feature(side) for side in contest.contents]
    known = [each for each in amounts if each is not None]
    if won is None or not known or len(known) < len(amounts):
        return None
    difference = known[0] - known[1] if len(known) > 1 else known[0]
    return difference, won, contest.honest, contest.observation.cluster


def _mean(found: Sequence[Scored]) -> Estimate:
    return mean_interval([value for _, value in found], [cluster for cluster, _ in found])


# --- tables ----------------------------------------------------------------------


def win_table(found: Sequence[WinRate]) -> Table:
    """Win rates by the side defended and the place."""
    by_row: dict[tuple[str, str], dict[str, Estimate]] = defaultdict(dict)
    for each in found:
        by_row[each.label, each.side][each.place] = each.share
    places = [place for place in PLACES if any(place in row for row in by_row.values())]
    return Table(
        title="Win rates",
        note="How often the option of the honest side is believed more than its opponent's (of a "
        "consultant: than any other), ties half, by where it stood. A judge blind to seats and "
        "orders has the same in all columns.",
        columns=("protocol", "side", *places),
        rows=tuple(
            (*key, *(share(row.get(place)) for place in places)) for key, row in by_row.items()
        ),
    )


def score_table(found: Sequence[AgentScoreDifference]) -> Table:
    """Agent score differences."""
    return Table(
        title="What honesty gains",
        note="Agent score difference (Sudhir et al. 2025): what the judge's belief in the option "
        "defended gains, as a natural logarithm and in points, where that option is right; paired "
        "by question. Above 0 telling the truth pays.",
        columns=("protocol", "log score", "points", "questions", *why_not(found)),
        rows=tuple(
            (
                each.label,
                decimals(each.log),
                NONE if each.belief is None else points(each.belief),
                f"{each.num_pairs:,}",
                *flag_cell(each, found),
            )
            for each in found
        ),
    )


def feature_table(found: Sequence[FeatureEffect], family: ComparisonFamily | None) -> Table:
    """Correlations of length and quotes with winning."""
    return Table(
        title="What goes with winning",
        note="“more wins”: debates that the side with more of it wins. Rank correlation of the "
        "difference of the sides with winning, alone, and with the right side's advantage taken "
        f"out. {correction_note(family)}".rstrip(),
        columns=(
            *("protocol", "what", "more wins", "correlation", "given the side"),
            *("p", "Holm", "BH", "n", "questions", *why_not(found)),
        ),
        rows=tuple(
            (
                each.label,
                each.feature,
                share(each.more_wins),
                decimals(each.correlation),
                decimals(each.given_side),
                *p_cells(each.test),
                f"{each.num:,}",
                f"{each.num_questions:,}",
                *flag_cell(each, found),
            )
            for each in found
        ),
    )
