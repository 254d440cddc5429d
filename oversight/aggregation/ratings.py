"""Ratings of players by who beat whom, with intervals, on Elo's scale: 400 points are odds of ten
to one.

`fit_ratings` finds the maximum of the likelihood (`bradley_terry`) and rates each part of the
players within itself; a player alone in its part has no rating. `ratings`, for tables of wins with
a prior, compares whoever met.

Intervals: ends of the profile likelihood, for games that are independent of each other, or a
bootstrap over questions.

Shapes: as in `bradley_terry`; T targets, R resamples.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from oversight.aggregation import LEVEL
from oversight.aggregation.bradley_terry import (
    MAX_STEPS,
    TOLERANCE,
    BradleyTerry,
    PairedGames,
    ResultCounts,
    bearable_parts,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

ELO = 400.0 / math.log(10.0)
"""Points a unit of natural log-strength."""
PRIOR = 0.5
"""Wins that `ratings` gives either way to each pair that met."""
NUM_RESAMPLES = 300
MAX_CHORDS = 12
"""Steps in which all ends of profile intervals are looked for at once."""
LOOSE = 1e-3
"""Log-likelihood by which the end of a profile interval may miss its level."""
CHUNK = 2_000_000
"""Entries of the largest table that a profile makes at once."""

IntervalMethod = Literal["profile", "bootstrap"]


@dataclass(frozen=True, slots=True)
class PlayerRating:
    """One player's rating in Elo points above the mean of its part, or above the anchor."""

    player: str
    value: float | None
    """None where the games cannot bear one; `lack` says why."""
    low: float | None
    high: float | None
    part: int
    """Number of the part within which it can be compared; 0 is the largest one, or the one with
    the anchor."""
    num_games: int
    lack: str = ""


@dataclass(frozen=True, slots=True)
class GameEffect:
    """An effect on games beside the players' strengths, in Elo points for the first player."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class FittedRatings:
    """Ratings by the maximum of the likelihood, with intervals."""

    ratings: tuple[PlayerRating, ...]
    effects: tuple[GameEffect, ...]
    """The order effect, where it was asked for, and those of covariates (a unit of each)."""
    tie: float | None
    """Davidson's nu: two equal players tie with probability nu / (2 + nu); None without ties."""
    parts: tuple[tuple[str, ...], ...]
    """Players by part."""
    method: IntervalMethod
    log_likelihood: float
    num_games: int
    """Games within parts, which the fit is made of."""
    num_clusters: int

    @property
    def is_connected(self) -> bool:
        """True if all players can be compared with each other."""
        return len(self.parts) == 1


def fit_ratings(
    games: PairedGames,
    *,
    order: bool = False,
    anchor: str | None = None,
    intervals: IntervalMethod = "profile",
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> FittedRatings:
    """The ratings of all players of `games`, with effects of order, ties and covariates.

    Args:
        games: The games; those between players of different parts (see above) are left out.
        order: Estimate an effect of coming first.
        anchor: Player whose rating is 0; the mean of each part without one.
        intervals: "profile" of the likelihood, for games that are independent of each other, or
            "bootstrap" over clusters: each gets a weight from Exp(1) (Rubin 1981, "The Bayesian
            bootstrap"), so that no resample falls apart; the standard error is taken from Student's
            t with one degree of freedom less than there are clusters.
        num_resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ValueError: An effect cannot be told from the strengths or has no finite estimate, the
            bootstrap has one cluster, or the anchor is no player.
    """
    import numpy as np

    if anchor is not None and anchor not in games.players:
        raise ValueError(f"anchor = {anchor!r} is none of the players {', '.join(games.players)}")
    parts_K = _numbered(bearable_parts(games), games, anchor)
    within_G = parts_K[games.first_G] == parts_K[games.second_G]
    within_G &= np.bincount(parts_K)[parts_K[games.first_G]] > 1
    members = tuple(
        tuple(games.players[k] for k in np.flatnonzero(parts_K == part))
        for part in range(int(parts_K.max()) + 1)
    )
    played_K = np.bincount(np.concatenate([games.first_G, games.second_G]), minlength=len(parts_K))
    clusters = len(np.unique(games.cluster_G[within_G]))
    if not within_G.any():
        rows = [_without(games, k, parts_K, played_K) for k in range(len(parts_K))]
        return FittedRatings(tuple(rows), (), None, members, intervals, 0.0, 0, clusters)
    if intervals == "bootstrap" and clusters < 2:
        raise ValueError(
            "all games are on one question, and a bootstrap over questions needs at least 2: play "
            "on more questions, or take intervals = 'profile'"
        )
    model = BradleyTerry.of(games, within_G, parts_K, order=order)
    counts = model.counts()
    best = model.fit(counts, model.start(counts))
    model.check_bearable(counts, best)
    targets_TN = _targets(model, games, parts_K, anchor)
    if intervals == "profile":
        low_T, high_T = _profile(model, counts, best, targets_TN)
    else:
        low_T, high_T = _bootstrap(model, best, targets_TN, clusters, num_resamples, seed)
    value_T = targets_TN @ best
    rows = []
    for k, player in enumerate(games.players):
        if len(members[parts_K[k]]) == 1:
            rows.append(_without(games, k, parts_K, played_K))
            continue
        value, low, high = (float(ELO * each[k]) for each in (value_T, low_T, high_T))
        rows.append(PlayerRating(player, value, low, high, int(parts_K[k]), int(played_K[k])))
    effects = tuple(
        GameEffect(
            name, *(float(ELO * each[len(parts_K) + place]) for each in (value_T, low_T, high_T))
        )
        for place, name in enumerate(model.effects)
    )
    tie = math.exp(best[-1]) if model.has_ties else None
    reached = model.log_likelihood(counts, best)
    return FittedRatings(
        tuple(rows), effects, tie, members, intervals, reached, int(within_G.sum()), clusters
    )


def _numbered(found: Sequence[int], games: PairedGames, anchor: str | None) -> Ints:
    """The parts numbered by size, the anchor's first."""
    import numpy as np

    first = found[games.players.index(anchor)] if anchor is not None else None
    sizes = Counter(found)
    ranked = sorted(sizes, key=lambda p: (p != first, -sizes[p], found.index(p)))
    rank = {part: place for place, part in enumerate(ranked)}
    return np.array([rank[part] for part in found], dtype=np.int64)


def _without(games: PairedGames, k: int, parts_K: Ints, played_K: Ints) -> PlayerRating:
    """The row of a player that the games cannot rate, with the reason."""
    import numpy as np

    own_first, own_second = games.first_G == k, games.second_G == k
    scores = np.concatenate([games.result_G[own_first], 1.0 - games.result_G[own_second]])
    if not len(scores):
        lack = "played no game"
    elif (scores == 1.0).all():
        lack = "won every game"
    elif (scores == 0.0).all():
        lack = "lost every game"
    else:
        lack = "won every game against some and lost every one against the others"
    return PlayerRating(games.players[k], None, None, None, int(parts_K[k]), int(played_K[k]), lack)


def _targets(model: BradleyTerry, games: PairedGames, parts_K: Ints, anchor: str | None) -> Floats:
    """Linear forms of the parameters that are reported: each player's strength above the mean of
    its part or the anchor's, then each effect."""
    import numpy as np

    k = model.num_players
    targets_TN = np.eye(k + len(model.effects), model.size)
    counts_P = np.bincount(parts_K)
    same_KK = parts_K[:, None] == parts_K[None, :]
    targets_TN[:k, :k] -= same_KK / counts_P[parts_K][:, None]
    if anchor is not None:
        place = games.players.index(anchor)
        own = np.flatnonzero(parts_K == parts_K[place])
        targets_TN[own, :k] = np.eye(k)[own]
        targets_TN[own, place] -= 1.0
    return targets_TN


# --- intervals ---


def _profile(
    model: BradleyTerry, counts: ResultCounts, best_N: Floats, targets_TN: Floats
) -> tuple[Floats, Floats]:
    """Ends of the profile likelihood of each target.

    The point of the end is looked for by itself, as Venzon and Moolgavkar 1988 ("A method for
    computing profile-likelihood-based confidence intervals") do, with the information of the
    maximum throughout, for all ends at once; an end that is not reached so is bracketed.
    """
    import numpy as np
    from scipy.linalg import cho_factor, cho_solve
    from scipy.stats import chi2

    factor = cho_factor(model.held(model.information(counts, best_N)), lower=True)
    floor = model.log_likelihood(counts, best_N) - float(chi2.ppf(LEVEL, 1)) / 2.0
    across_TN = cho_solve(factor, targets_TN.T).T
    bend_T = (targets_TN * across_TN).sum(1)
    told_T = np.flatnonzero(bend_T > 1e-12)
    ends_2T = np.tile(targets_TN @ best_N, (2, 1))
    target_S = np.concatenate([told_T, told_T])
    side_S = np.repeat([-1.0, 1.0], len(told_T))
    reach_S = side_S * np.sqrt(float(chi2.ppf(LEVEL, 1)) / bend_T[target_S])
    at_SN = best_N + reach_S[:, None] * across_TN[target_S]
    is_open_S = np.ones(len(target_S), dtype=bool)
    size = max(1, CHUNK // len(model.first_U))
    for _ in range(MAX_CHORDS):
        for start in range(0, len(target_S), size):
            some = np.flatnonzero(is_open_S[start : start + size]) + start
            if not len(some):
                continue
            values_S, gradients_SN = model.log_likelihoods(counts, at_SN[some])
            across_SN, bend_S = across_TN[target_S[some]], bend_T[target_S[some]]
            slope_S = -(gradients_SN * across_SN).sum(1) / bend_S
            aside_SN = gradients_SN + slope_S[:, None] * targets_TN[target_S[some]]
            step_SN = cho_solve(factor, aside_SN.T).T
            left_S = 0.5 * (aside_SN * step_SN).sum(1)  # the likelihood that it gains
            miss_S = values_S + left_S - floor
            is_open_S[some] = (np.abs(miss_S) > LOOSE) | (left_S > LOOSE)
            is_astray_S = ~np.isfinite(miss_S) | (slope_S * side_S[some] <= 0.0)
            with np.errstate(divide="ignore", invalid="ignore"):
                along_S = np.where(is_astray_S, 0.0, miss_S / slope_S)
            at_SN[some] += step_SN + (along_S / bend_S)[:, None] * across_SN
        if not is_open_S.any():
            break
    for place in np.flatnonzero(is_open_S | ~np.isfinite(at_SN).all(1)):
        target_N = targets_TN[target_S[place]]
        at_SN[place] = _bracketed(model, counts, best_N, target_N, side_S[place], floor)
    ends_2T[(side_S > 0).astype(int), target_S] = (at_SN * targets_TN[target_S]).sum(1)
    return ends_2T[0], ends_2T[1]


def _bracketed(
    model: BradleyTerry,
    counts: ResultCounts,
    best_N: Floats,
    target_N: Floats,
    side: float,
    floor: float,
) -> Floats:
    """The point at which the profile likelihood of one target falls to `floor`, to that side."""
    from scipy.optimize import brentq

    middle = float(target_N @ best_N)
    at = {0.0: best_N}

    def above(reach: float) -> float:
        nearest = min(at, key=lambda known: abs(known - reach))
        at[reach] = _held_at(model, counts, at[nearest], target_N, middle + side * reach)
        return model.log_likelihood(counts, at[reach]) - floor

    far = 1.0
    while above(far) > 0.0:
        far *= 2.0
    reach = float(brentq(above, 0.0, far, xtol=1e-6))
    above(reach)
    return at[reach]


def _held_at(
    model: BradleyTerry, counts: ResultCounts, at_N: Floats, target_N: Floats, value: float
) -> Floats:
    """The maximum of the likelihood where a target has that value, by Newton's method."""
    import numpy as np

    at_N = at_N + (value - target_N @ at_N) / (target_N @ target_N) * target_N
    bordered_MM = np.zeros((len(at_N) + 1, len(at_N) + 1))
    bordered_MM[-1, :-1] = bordered_MM[:-1, -1] = target_N
    for _ in range(MAX_STEPS):
        value_S, gradient_SN = model.log_likelihoods(counts, at_N[None])
        bordered_MM[:-1, :-1] = model.held(model.information(counts, at_N))
        step_N = np.linalg.solve(bordered_MM, np.append(gradient_SN[0], 0.0))[:-1]
        gain = float(gradient_SN[0] @ step_N)
        if gain < TOLERANCE:
            break
        size = 1.0
        while model.log_likelihood(counts, at_N + size * step_N) < value_S[0] and size > 1e-6:
            size *= 0.5
        at_N = at_N + size * step_N
    return at_N


def _bootstrap(
    model: BradleyTerry,
    best_N: Floats,
    targets_TN: Floats,
    num_clusters: int,
    num_resamples: int,
    seed: int,
) -> tuple[Floats, Floats]:
    """Ends of each target's interval by its standard error over resamples of the clusters.

    Strengths are estimated too far from each other where games are few, and resamples are so once
    more: percentiles of them cover less than these (0.92 against 0.94 over 200 simulations).
    """
    import numpy as np
    from scipy.stats import t

    rng = np.random.default_rng(seed)
    weights_RQ = rng.exponential(size=(num_resamples, num_clusters))
    weights_RQ *= num_clusters / weights_RQ.sum(1, keepdims=True)
    found_RT = np.array(
        [targets_TN @ model.fit(model.counts(weights_Q), best_N) for weights_Q in weights_RQ]
    )
    free = num_clusters - 1
    wide = float(t.ppf((1.0 + LEVEL) / 2.0, free)) * math.sqrt(num_clusters / free)
    reach_T = wide * found_RT.std(0, ddof=1)
    value_T = targets_TN @ best_N
    return value_T - reach_T, value_T + reach_T


# --- tables of wins ---


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
    """The rating of every player, in their order, each pair that met given `PRIOR` wins either way:
    a player who never lost has a finite rating, drawn to the others.

    Args:
        players: Their names.
        wins_QKK: For each question, how often the first beat the second; ties half each way.
        anchor: Player whose rating is 0; the mean of its part without one.
        num_resamples: Of the bootstrap over questions.
        seed: Of the bootstrap.

    Raises:
        ValueError: The shapes do not fit, or a count is negative or no number.
    """
    import numpy as np

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
    """Natural log of each player's strength, up to a constant of its part, for many tables."""
    import numpy as np

    met_KK = wins_RKK[0] + wins_RKK[0].T > 0
    first_U, second_U = np.nonzero(np.triu(met_KK, 1))
    number = wins_RKK.shape[1]
    if not len(first_U):
        return np.zeros(wins_RKK.shape[:2])
    whole = np.concatenate([np.ones(len(first_U)), np.zeros(len(first_U))])
    first_G, second_G = (np.concatenate([each, each]) for each in (first_U, second_U))
    games = PairedGames.of([str(k) for k in range(number)], first_G, second_G, whole)
    parts_K = np.array(connected(wins_RKK[0]))
    model = BradleyTerry.of(games, np.ones(len(whole), dtype=bool), parts_K, order=False)
    i, j = model.first_U, model.second_U
    found_RK = np.zeros(wins_RKK.shape[:2])
    at_N = found_RK[0]
    for place, wins_KK in enumerate(wins_RKK):
        counts = ResultCounts(wins_KK[i, j], wins_KK[j, i], np.zeros(len(i)))
        found_RK[place] = model.fit(counts, at_N)
        at_N = found_RK[0]
    return found_RK
