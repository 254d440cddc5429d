"""Ratings of players from who beat whom, and the agreement of raters beyond chance.

Bradley and Terry 1952: player i beats j with probability s_i / (s_i + s_j). Strengths are found by
Hunter's MM algorithm ("MM algorithms for generalized Bradley-Terry models", 2004, eq. 3), of all
bootstrap samples at once, and shown on Elo's scale: 400 points are odds of ten to one. Every pair
that met is given `PRIOR` wins either way, so that a player who never lost has a finite rating.

Strengths of players who are connected by no chain of bouts cannot be compared: they form parts of
their own, each rated within itself, and a report has to say so.

Agreement (kappa, alpha) is of nominal ratings: any hashable values, None where one is missing.

Shapes: Q questions, K players, R resamples.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
"""Coverage aimed at by every interval."""
ELO = 400.0 / np.log(10.0)
"""Points a unit of natural log-strength."""
PRIOR = 0.5
NUM_RESAMPLES = 300
MAX_ROUNDS = 1000
TOLERANCE = 1e-6

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EloRating:
    """One player's rating in Elo points above the anchor, or above the mean of its part."""

    player: str
    value: float
    low: float
    high: float
    part: int
    """Number of the connected part it belongs to; 0 is the one with the anchor."""


def ratings(
    players: Sequence[str],
    wins_QKK: Floats,
    *,
    anchor: str | None = None,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> tuple[EloRating, ...]:
    """The rating of every player, in their order.

    Args:
        players: Their names.
        wins_QKK: For each question, how often the first beat the second; ties half each way.
        anchor: Player whose rating is 0; the mean of its part without one.
        num_resamples: Of the bootstrap over questions.
        seed: Of the bootstrap.

    Raises:
        ValueError: The shapes do not fit, or a count is negative or no number.
    """
    number = len(players)
    wins_QKK = np.asarray(wins_QKK, dtype=np.float64)
    if wins_QKK.shape[1:] != (number, number) or not len(wins_QKK):
        raise ValueError(f"wins have shape {wins_QKK.shape} for {number} players")
    if not np.isfinite(wins_QKK).all() or (wins_QKK < 0).any():
        raise ValueError("wins have to be finite and not negative")
    whole_KK = wins_QKK.sum(0)
    parts = connected(whole_KK)
    first = players.index(anchor) if anchor is not None else 0
    rank = {part: place for place, part in enumerate(dict.fromkeys([parts[first], *parts]))}
    numbered = [rank[part] for part in parts]
    rng = np.random.default_rng(seed)
    questions = len(wins_QKK)
    drawn_RQ = rng.multinomial(questions, np.full(questions, 1 / questions), size=num_resamples)
    resampled_RKK = np.tensordot(drawn_RQ.astype(np.float64), wins_QKK, axes=1)
    met_KK = whole_KK + whole_KK.T > 0
    every = np.concatenate([whole_KK[None], resampled_RKK])
    logs = ELO * _log_strengths(every + PRIOR * met_KK)
    for part in set(numbered):
        own = [place for place, each in enumerate(numbered) if each == part]
        base = logs[:, first] if part == 0 and anchor is not None else logs[:, own].mean(1)
        logs[:, own] -= base[:, None].copy()
    tail = (1.0 - LEVEL) / 2.0
    low_K, high_K = np.quantile(logs[1:], [tail, 1.0 - tail], axis=0)
    return tuple(
        EloRating(player, float(logs[0, k]), float(low_K[k]), float(high_K[k]), numbered[k])
        for k, player in enumerate(players)
    )


def connected(wins_KK: Floats) -> list[int]:
    """For each player the number of the part it belongs to: who met, directly or by others."""
    from scipy.sparse.csgraph import connected_components

    _, found = connected_components(wins_KK + wins_KK.T > 0, directed=False)
    return [int(part) for part in found]


def _log_strengths(wins_RKK: Floats) -> Floats:
    """Natural log of each player's strength, up to a constant, for many tables at once."""
    met_RKK = wins_RKK + wins_RKK.swapaxes(1, 2)
    won_RK = wins_RKK.sum(2)
    strength_RK = np.ones_like(won_RK)
    alone_K = met_RKK[0].sum(1) == 0
    for _ in range(MAX_ROUNDS):
        sums_RKK = strength_RK[:, :, None] + strength_RK[:, None, :]
        expected_RK = (met_RKK / sums_RKK).sum(2)
        new_RK = np.where(alone_K, 1.0, won_RK / np.where(alone_K, 1.0, expected_RK))
        new_RK /= np.exp(np.log(new_RK).mean(1, keepdims=True))
        change = float(np.abs(np.log(new_RK / strength_RK)).max())
        strength_RK = new_RK
        if change < TOLERANCE:
            break
    logs: Floats = np.log(strength_RK)
    return logs


Ratings = Sequence[Hashable | None]
"""One rater's ratings, a place for each unit."""


def cohen_kappa(first: Ratings, second: Ratings) -> float | None:
    """Cohen's kappa of two raters over the units that both rated (Cohen, 1960).

    (p_o - p_e) / (1 - p_e): observed agreement against that of two raters who
    keep their own rates of each value but rate at random. None if no unit
    was rated by both, or if chance alone agrees always (both used one value).
    """
    pairs = _both(first, second)
    if not pairs:
        return None
    n = len(pairs)
    observed = sum(a == b for a, b in pairs) / n
    rates_a, rates_b = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    expected = sum(number * rates_b[value] for value, number in rates_a.items()) / n**2
    return None if expected == 1.0 else (observed - expected) / (1.0 - expected)


def krippendorff_alpha(raters: Sequence[Ratings]) -> float | None:
    """Krippendorff's alpha for nominal data, any number of raters, missing ratings allowed.

    1 - D_o / D_e from the coincidence matrix (Krippendorff, 2011): within a unit of m ratings
    each ordered pair counts 1 / (m - 1); units with fewer than two ratings count
    for nothing. None if no unit has two ratings, or if all ratings are one value.
    """
    coincidences: dict[tuple[Hashable, Hashable], float] = defaultdict(float)
    for unit in zip(*raters, strict=True):
        given = [value for value in unit if value is not None]
        for i, a in enumerate(given):
            for j, b in enumerate(given):
                if i != j:
                    coincidences[a, b] += 1 / (len(given) - 1)
    totals: dict[Hashable, float] = {}
    for (a, _), weight in coincidences.items():
        totals[a] = totals.get(a, 0.0) + weight
    n = sum(totals.values())
    expected = n * n - sum(total * total for total in totals.values())
    if n == 0 or expected <= 1e-12:
        return None
    disagreeing = sum(weight for (a, b), weight in coincidences.items() if a != b)
    return 1.0 - (n - 1.0) * disagreeing / expected


def pairwise_agreement(raters: Sequence[Ratings]) -> float | None:
    """Share of pairs of raters that gave a unit the same rating, over all units and pairs."""
    pairs = [pair for a, b in combinations(raters, 2) for pair in _both(a, b)]
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else None


def _both(first: Ratings, second: Ratings) -> list[tuple[Hashable, Hashable]]:
    return [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
