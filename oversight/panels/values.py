"""Raters in groups: the choice that several rules make of their votes, and each group's regret.

A question has alternatives, and each group of raters its votes for them. A group's worth of an
alternative is its share of that group's votes, so that groups of any size compare. Its regret of a
choice is how far the choice's worth lies below that of what the group itself likes best.

majority
    Most votes of all raters, whatever their group.
weighted
    The greatest mean worth, groups by given weights, all alike without any.
maximin
    The greatest worth to the group that likes it least (Sen 1970, "Collective Choice and Social
    Welfare", ch. 9).
nash
    The greatest product of worths (Kaneko and Nakamura 1979, "The Nash Social Welfare Function").
bridging
    The greatest product over groups of (1 + votes for it) / (2 + votes): group-informed consensus
    (Small et al. 2021, "Polis: Scaling Deliberation by Mapping High Dimensional Opinion Spaces").
    A small group counts as less certain.

Where two are equal, `majority` decides, and then the order of the alternatives.

Shapes: Q questions, G groups, A alternatives.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from oversight.aggregation import LEVEL
from oversight.aggregation.ratings import EloRating, ratings

if TYPE_CHECKING:  # a viewer's first page waits for whatever is imported here
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.intp]

Rule = Literal["majority", "weighted", "maximin", "nash", "bridging"]
RULES: tuple[Rule, ...] = get_args(Rule)

EQUAL = 1e-9
"""Scores nearer than this are equal."""
FLOOR = 1e-9
"""Least worth in a product, so that of two that some group gives nothing the better one leads."""
MIN_QUESTIONS = 2
"""Questions from which an interval can be had."""
MIN_RATERS = 2
"""Raters that make a group: one alone is a person, and their word no group's."""
NUM_RESAMPLES = 1000
MOST_DRAWN = 5_000_000
"""Numbers of a bootstrap that are held at once."""


@dataclass(frozen=True, slots=True)
class GroupRegret:
    """One group's mean regret of the choices of one rule."""

    group: str
    regret: float
    low: float | None
    high: float | None
    flaw: str | None
    """Reason why the figure must not be read as the group's; None where there is none."""


@dataclass(frozen=True, slots=True)
class RuleRegret:
    """The regret of every group under one rule, and the largest with its interval."""

    rule: Rule
    groups: tuple[GroupRegret, ...]
    worst: str
    """The group with the largest regret."""
    largest: float
    low: float | None
    """Percentile interval over resampled questions; None of fewer than two."""
    high: float | None
    num_questions: int
    """Questions on which every group voted, or clusters of them; others are left out."""
    num_items: int
    num_left_out: int


def choices(votes_QGA: Floats, rule: Rule, weights: Sequence[float] | None = None) -> Ints:
    """The alternative (Q) that `rule` chooses of each question.

    Args:
        votes_QGA: Votes of each group for each alternative; shares of a vote are taken too. Every
            group has some vote on every question.
        rule: One of `RULES`.
        weights: Of groups, of `weighted`; all alike if None.

    Raises:
        ConfigError: The rule is unknown, weights are not one positive number a group, or are
            given to another rule.
        ValueError: A vote is negative or no number, or a group has none on a question.
    """
    import numpy as np

    _check(votes_QGA, rule, weights)
    worth_QGA = votes_QGA / votes_QGA.sum(2, keepdims=True)
    all_QA = votes_QGA.sum(1) / votes_QGA.sum((1, 2))[:, None]
    if rule == "majority":
        score_QA = all_QA
    elif rule == "weighted":
        each_G = np.ones(votes_QGA.shape[1]) if weights is None else np.asarray(weights, float)
        score_QA = np.einsum("qga,g->qa", worth_QGA, each_G / each_G.sum())
    elif rule == "maximin":
        score_QA = worth_QGA.min(1)
    elif rule == "nash":
        score_QA = np.log(np.maximum(worth_QGA, FLOOR)).sum(1)
    else:
        given_QG = votes_QGA.sum(2, keepdims=True)
        score_QA = np.log((1.0 + votes_QGA) / (2.0 + given_QG)).sum(1)
    leads_QA = score_QA >= score_QA.max(1, keepdims=True) - EQUAL
    chosen: Ints = np.where(leads_QA, all_QA, -1.0).argmax(1)
    return chosen


def combined(
    probs_JA: Sequence[Sequence[float]],
    groups_J: Sequence[str],
    rule: Rule,
    weights_J: Sequence[float] | None = None,
) -> tuple[float, ...] | None:
    """One probability of each alternative from several judges' of one item, as a soft label.

    `majority`: the share of judges who believe it most, equals shared. Of the others the score
    that the rule chooses by, over the groups' mean probabilities, scaled to sum to one; groups
    count alike in `weighted`. None where that score is 0 of every alternative: for each there is a
    group that rules it out.

    Args:
        probs_JA: Each judge's probabilities.
        groups_J: Each judge's group.
        rule: One of `RULES`.
        weights_J: Of each judge within the group, or within all of `majority`; 1 if None.

    Raises:
        ConfigError: The rule is unknown.
    """
    import numpy as np

    from oversight.errors import ConfigError
    from oversight.registry import nearest

    if rule not in RULES:
        raise ConfigError(f"rule = {rule!r} is unknown.{nearest(rule, RULES)}")
    probs = np.asarray(probs_JA, dtype=np.float64)
    weight_J = np.ones(len(probs)) if weights_J is None else np.asarray(weights_J, float)
    if rule == "majority":
        is_top = probs >= probs.max(1, keepdims=True) - EQUAL
        score_A = weight_J @ (is_top / is_top.sum(1, keepdims=True))
    else:
        names = sorted(set(groups_J))
        is_of_GJ = np.array([[name == group for group in groups_J] for name in names])
        votes_GA = (is_of_GJ * weight_J) @ probs
        given_G = (is_of_GJ * weight_J).sum(1)[:, None]
        worth_GA = votes_GA / given_G
        if rule == "weighted":
            score_A = worth_GA.mean(0)
        elif rule == "maximin":
            score_A = worth_GA.min(0)
        elif rule == "nash":
            score_A = worth_GA.prod(0)
        else:
            score_A = ((1.0 + votes_GA) / (2.0 + given_G)).prod(0)
    total = float(score_A.sum())
    return tuple(float(score) / total for score in score_A) if total > 0.0 else None


def regrets(votes_QGA: Floats, chosen_Q: Ints) -> Floats:
    """Each group's regret (Q, G), 0 to 1: the worth of what it likes best above the choice's."""
    import numpy as np

    worth_QGA = votes_QGA / votes_QGA.sum(2, keepdims=True)
    got_QG = np.take_along_axis(worth_QGA, chosen_Q[:, None, None], 2)[:, :, 0]
    found: Floats = worth_QGA.max(2) - got_QG
    return found


def rule_regrets(
    votes_QGA: Floats,
    groups: Sequence[str],
    num_raters: Sequence[int],
    *,
    rules: Sequence[Rule] = RULES,
    weights: Sequence[float] | None = None,
    clusters: Sequence[Hashable] | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[RuleRegret, ...]:
    """Each group's regret and the largest one under each rule, resampling whole questions.

    The regret is of the votes that were given: with few raters a group's worths are rough, and
    the rule has seen the very votes that it is measured by. Intervals are of other questions put
    to the same raters. A group of one rater is flagged.

    Args:
        votes_QGA: As of `choices`; questions on which some group has no vote are left out.
        groups: Names of the groups; at least two.
        num_raters: Number of raters of each group.
        rules: Rules in the order that they are given back in.
        weights: Of groups, of the rule `weighted`.
        clusters: Cluster of each question, where several are about one thing; they are
            resampled together. None where each is for itself.
        level: Coverage.
        num_resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ConfigError: As of `choices`; fewer than two groups; names or numbers are not as many as
            groups; or no question has votes of every group.
    """
    import numpy as np

    from oversight.errors import ConfigError

    votes_QGA = np.asarray(votes_QGA, dtype=np.float64)
    if votes_QGA.ndim != 3 or len(groups) != votes_QGA.shape[1] or len(groups) != len(num_raters):
        raise ConfigError(
            f"votes have shape {votes_QGA.shape}, with {len(groups)} groups and {len(num_raters)} "
            "numbers of raters: they are (questions, groups, alternatives), a number a group"
        )
    if len(groups) < 2:
        raise ConfigError(f"groups = {tuple(groups)!r}: regret between groups takes two or more")
    whole_Q = (votes_QGA.sum(2) > 0).all(1)
    votes = votes_QGA[whole_Q]
    if not len(votes):
        raise ConfigError("votes: no question has votes of every group; put some to all of them")
    given = range(len(whole_Q)) if clusters is None else clusters
    places: dict[Hashable, int] = {}
    kept = [each for each, whole in zip(given, whole_Q, strict=True) if whole]
    cluster_Q = np.array([places.setdefault(each, len(places)) for each in kept])
    number = len(places)
    tail = _tail(level, number)
    regrets_of = {
        rule: regrets(votes, choices(votes, rule, weights if rule == "weighted" else None))
        for rule in rules
    }
    sampled_of = _resampled(regrets_of, cluster_Q, num_resamples, seed)
    found = []
    for rule, regret_QG in regrets_of.items():
        mean_G, sampled_SG = regret_QG.mean(0), sampled_of[rule]
        low_G, high_G = np.quantile(sampled_SG, [tail, 1.0 - tail], axis=0)
        low, high = np.quantile(sampled_SG.max(1), [tail, 1.0 - tail])
        bears = number >= MIN_QUESTIONS
        found.append(
            RuleRegret(
                rule=rule,
                groups=tuple(
                    GroupRegret(
                        group=group,
                        regret=float(mean_G[place]),
                        low=float(low_G[place]) if bears else None,
                        high=float(high_G[place]) if bears else None,
                        flaw=_flaw(raters),
                    )
                    for place, (group, raters) in enumerate(zip(groups, num_raters, strict=True))
                ),
                worst=groups[int(mean_G.argmax())],
                largest=float(mean_G.max()),
                low=float(low) if bears else None,
                high=float(high) if bears else None,
                num_questions=number,
                num_items=len(votes),
                num_left_out=int((~whole_Q).sum()),
            )
        )
    return tuple(found)


def _resampled(
    regrets_of: Mapping[Rule, Floats], cluster_Q: Ints, num_resamples: int, seed: int
) -> dict[Rule, Floats]:
    """Mean regrets (resamples, G) by rule; the same resamples of whole clusters for each."""
    import numpy as np

    size_C = np.bincount(cluster_Q).astype(np.float64)
    number = len(size_C)
    sums = {
        rule: np.stack([np.bincount(cluster_Q, regret_Q) for regret_Q in regret_QG.T], axis=1)
        for rule, regret_QG in regrets_of.items()
    }
    parts: dict[Rule, list[Floats]] = {rule: [] for rule in regrets_of}
    rng, left = np.random.default_rng(seed), num_resamples
    while left:
        drawn_SC = rng.multinomial(
            number, np.full(number, 1 / number), size=min(left, max(1, MOST_DRAWN // number))
        ).astype(np.float64)
        left -= len(drawn_SC)
        for rule, sum_CG in sums.items():
            parts[rule].append((drawn_SC @ sum_CG) / (drawn_SC @ size_C)[:, None])
    return {rule: np.concatenate(each) for rule, each in parts.items()}


def _tail(level: float, number: int) -> float:
    """Share of resamples beyond either end of an interval over `number` questions.

    A percentile interval is too narrow by the factor sqrt((n - 1) / n), and knows no t quantile;
    taking its ends further out mends both (Hesterberg 2015, arXiv:1411.5279, section 5.3).
    """
    from scipy import stats

    if number < MIN_QUESTIONS:
        return (1.0 - level) / 2.0
    quantile = stats.t.ppf(0.5 + level / 2.0, number - 1)
    return float(stats.norm.cdf(-((number / (number - 1)) ** 0.5) * quantile))


def _flaw(num_raters: int) -> str | None:
    if num_raters >= MIN_RATERS:
        return None
    return f"a group of {num_raters}: what one judge says is not yet what a group values"


def _check(votes_QGA: Floats, rule: str, weights: Sequence[float] | None) -> None:
    import numpy as np

    from oversight.errors import ConfigError
    from oversight.registry import nearest

    if rule not in RULES:
        raise ConfigError(f"rule = {rule!r} is unknown.{nearest(rule, RULES)}")
    if weights is not None:
        if rule != "weighted":
            raise ConfigError(f"weights are of the rule 'weighted', and rule = {rule!r}")
        if len(weights) != votes_QGA.shape[1] or not all(weight > 0 for weight in weights):
            raise ConfigError(f"weights = {tuple(weights)!r}: one number above 0 for each group")
    if not np.isfinite(votes_QGA).all() or (votes_QGA < 0).any():
        raise ValueError("votes have to be finite and not negative")
    if not (votes_QGA.sum(2) > 0).all():
        raise ValueError("a group has no vote on some question")


@dataclass(frozen=True, slots=True)
class GroupRatings:
    """Strengths of the same players in the comparisons of one group, by Bradley and Terry."""

    group: str
    ratings: tuple[EloRating, ...]
    flaw: str | None
    """Reason why they must not be read as the group's; None where there is none."""


def group_ratings(
    players: Sequence[str], wins_GQKK: Floats, groups: Sequence[str], num_raters: Sequence[int]
) -> tuple[GroupRatings, ...]:
    """Bradley–Terry ratings in each group, with intervals over questions, as `ratings` has them.

    Each group's ratings have a mean of 0 within each connected part, so that what is compared
    between groups is order and distance. A group that compared nothing is left out.

    Args:
        players: Their names: responses, agents or whatever is compared.
        wins_GQKK: By group and question, how often the first was preferred to the second.
        groups: Names of the groups.
        num_raters: Number of raters of each group.

    Raises:
        ValueError: As of `ratings`, or names are not as many as groups.
    """
    if not len(wins_GQKK) == len(groups) == len(num_raters):
        raise ValueError(
            f"wins of {len(wins_GQKK)} groups, {len(groups)} names, {len(num_raters)} numbers"
        )
    found = []
    for wins_QKK, group, raters in zip(wins_GQKK, groups, num_raters, strict=True):
        if not wins_QKK.any():
            continue
        compared = ratings(players, wins_QKK)
        parts = len({each.part for each in compared})
        apart = f"players fall in {parts} parts that never met" if parts > 1 else None
        found.append(GroupRatings(group, compared, _flaw(raters) or apart))
    return tuple(found)
