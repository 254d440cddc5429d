"""The Bradley-Terry model of games between two players, with ties, order and covariates.

Bradley and Terry 1952: player i beats j with probability s_i / (s_i + s_j). Davidson 1970 ("On
extending the Bradley-Terry model to accommodate ties in paired comparison experiments") gives a
tie the weight nu sqrt(s_i s_j) beside s_i and s_j; Davidson and Beaver 1977 multiply the strength
of the player that comes first by an order effect, and covariates of a game enter in the same way.
With d = log s_i - log s_j + order + x b the three weights are exp(d/2), exp(-d/2) and nu: the
log-likelihood is concave, and Newton's method finds its maximum.

A maximum exists only within a set of players of whom each is led to from each other one by wins
and ties (Ford 1957, "Solution of a ranking problem from binary comparisons").

Shapes: G games, U different games (players and covariates), K players, E effects (order and
covariates), N parameters (strengths, effects, log nu), S points, P parts, Q questions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a viewer's first page waits for whatever is imported here
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

MAX_STEPS = 60
TOLERANCE = 1e-9
"""Newton's decrement (half of it is the log-likelihood still to gain) at which a fit ends."""
MAX_LOG = 25.0
"""An effect that is larger has no finite estimate: the data are separated."""


@dataclass(frozen=True, slots=True)
class PairedGames:
    """Games between two players each, as arrays."""

    players: tuple[str, ...]
    first_G: Ints
    """Index of the player that came first."""
    second_G: Ints
    result_G: Floats
    """1 where the first won, 0 where the second did, 0.5 of a tie."""
    cluster_G: Ints
    """Question of each game: games on one question are resampled together."""
    covariates_GP: Floats
    """For each game what it had in favour of the first player; may have no columns."""
    covariates: tuple[str, ...] = ()
    """Names of the columns."""

    @classmethod
    def of(
        cls,
        players: Sequence[str],
        first: Sequence[int] | Ints,
        second: Sequence[int] | Ints,
        result: Sequence[float] | Floats,
        *,
        cluster: Sequence[int] | Ints | None = None,
        covariates: Mapping[str, Sequence[float] | Floats] | None = None,
    ) -> PairedGames:
        """Checked games; without `cluster` each stands for itself.

        Raises:
            ValueError: Lengths differ, an index names no player, a result is none of 0, 0.5 and
                1, or a covariate is not finite.
        """
        import numpy as np

        first_G, second_G = (np.asarray(each, dtype=np.int64) for each in (first, second))
        result_G = np.asarray(result, dtype=np.float64)
        number = len(result_G)
        cluster_G = (
            np.arange(number) if cluster is None else np.unique(cluster, return_inverse=True)[1]
        )
        named = covariates or {}
        table = np.array([np.asarray(c, dtype=np.float64) for c in named.values()]).T
        covariates_GP = table if named else np.zeros((number, 0))
        if not number:
            raise ValueError("there are no games to rate players by")
        if {len(first_G), len(second_G), len(cluster_G), len(covariates_GP)} != {number}:
            raise ValueError(
                f"games have {len(first_G)} first and {len(second_G)} second players, "
                f"{number} results, {len(cluster_G)} clusters and {len(covariates_GP)} rows of "
                "covariates; give as many of each"
            )
        for name, index_G in (("first", first_G), ("second", second_G)):
            if index_G.min() < 0 or index_G.max() >= len(players):
                wrong = int(np.flatnonzero((index_G < 0) | (index_G >= len(players)))[0])
                raise ValueError(
                    f"{name}[{wrong}] = {index_G[wrong]} is no index of {len(players)} players"
                )
        if not np.isin(result_G, (0.0, 0.5, 1.0)).all():
            wrong = int(np.flatnonzero(~np.isin(result_G, (0.0, 0.5, 1.0)))[0])
            raise ValueError(
                f"result[{wrong}] = {result_G[wrong]}: give 1 (the first won), 0 (the second won) "
                "or 0.5 (a tie)"
            )
        if not np.isfinite(covariates_GP).all():
            raise ValueError("covariates have to be finite")
        return cls(
            tuple(players), first_G, second_G, result_G, cluster_G, covariates_GP, tuple(named)
        )


def bearable_parts(games: PairedGames) -> list[int]:
    """For each player the number of its part: those who are led to from each other by wins and
    ties, within which the likelihood has a maximum."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    lost = games.result_G < 1.0
    won = games.result_G > 0.0
    better = np.concatenate([games.first_G[won], games.second_G[lost]])
    worse = np.concatenate([games.second_G[won], games.first_G[lost]])
    number = len(games.players)
    graph = coo_array((np.ones(len(better)), (better, worse)), shape=(number, number))
    _, found = connected_components(graph, directed=True, connection="strong")
    return [int(part) for part in found]


@dataclass(frozen=True, slots=True)
class ResultCounts:
    """Weights of the results of each different game."""

    won_U: Floats
    lost_U: Floats
    tied_U: Floats

    @property
    def all_U(self) -> Floats:
        """Weight of all games of each kind."""
        return self.won_U + self.lost_U + self.tied_U


@dataclass(frozen=True, slots=True)
class BradleyTerry:
    """The model's design: what each different game adds to d, and how parts are held."""

    num_players: int
    effects: tuple[str, ...]
    has_ties: bool
    first_U: Ints
    second_U: Ints
    design_UN: Any
    """Sparse, with a column for each strength and effect."""
    effects_UE: Floats
    row_G: Ints
    result_G: Floats
    cluster_G: Ints
    gauge_PN: Floats = field(repr=False)
    """For each part the direction that no game says anything about, of length 1."""

    @classmethod
    def of(cls, games: PairedGames, within_G: Any, parts_K: Ints, *, order: bool) -> BradleyTerry:
        """The model of the games within parts."""
        import numpy as np
        from scipy.sparse import csr_array, hstack

        first_G, second_G = games.first_G[within_G], games.second_G[within_G]
        result_G, covariates_GP = games.result_G[within_G], games.covariates_GP[within_G]
        rows = np.column_stack([first_G, second_G, covariates_GP])
        if covariates_GP.shape[1]:
            different, row_G = np.unique(rows, axis=0, return_inverse=True)
        else:
            key, row_G = np.unique(first_G * len(parts_K) + second_G, return_inverse=True)
            different = np.column_stack(np.divmod(key, len(parts_K)))
        first_U, second_U = (different[:, place].astype(np.int64) for place in (0, 1))
        number, places = len(parts_K), np.arange(len(different))
        ones = np.ones(len(different))
        # One that plays against itself adds 1 and -1 to one place: duplicates are summed.
        strengths = csr_array(
            (
                np.concatenate([ones, -ones]),
                (np.concatenate([places, places]), np.concatenate([first_U, second_U])),
            ),
            shape=(len(different), number),
        )
        effects_UE = np.column_stack([ones[:, None]] * order + [different[:, 2:]])
        has_ties = bool((result_G == 0.5).any())
        size = number + effects_UE.shape[1] + has_ties
        gauge_PN = np.zeros((int(parts_K.max()) + 1, size))
        gauge_PN[parts_K, np.arange(number)] = 1.0
        gauge_PN /= np.sqrt(gauge_PN.sum(1, keepdims=True))
        design = hstack([strengths, csr_array(effects_UE)], format="csr")
        names = (*["first"] * order, *games.covariates)
        cluster_G = np.unique(games.cluster_G[within_G], return_inverse=True)[1]
        return cls(
            *(number, names, has_ties, first_U, second_U, design, effects_UE),
            *(row_G.ravel(), result_G, cluster_G, gauge_PN),
        )

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.num_players + len(self.effects) + self.has_ties

    def counts(self, weights_Q: Floats | None = None) -> ResultCounts:
        """Results of each different game, each weighted as its cluster."""
        import numpy as np

        weight_G = np.ones(len(self.result_G)) if weights_Q is None else weights_Q[self.cluster_G]
        number = len(self.first_U)

        def of(result: float) -> Floats:
            weights_G = weight_G * (self.result_G == result)
            found: Floats = np.bincount(self.row_G, weights_G, minlength=number).astype(np.float64)
            return found

        return ResultCounts(of(1.0), of(0.0), of(0.5))

    def start(self, counts: ResultCounts) -> Floats:
        """Equal strengths, and the share of ties that there is."""
        import numpy as np

        at_N = np.zeros(self.size)
        if self.has_ties:
            tied = float(counts.tied_U.sum()) / float(counts.all_U.sum())
            at_N[-1] = math.log(2.0 * tied / (1.0 - tied)) if tied < 1.0 else MAX_LOG
        return at_N

    def _split(self, at_SN: Floats) -> tuple[Floats, Floats]:
        """d / 2 of each different game, and nu, for many points at once."""
        import numpy as np

        strengths_SN = at_SN[:, : at_SN.shape[1] - self.has_ties]
        half_SU = 0.5 * (self.design_UN @ strengths_SN.T).T
        tie_S1 = np.exp(at_SN[:, -1:]) if self.has_ties else np.zeros((len(at_SN), 1))
        return half_SU, tie_S1

    def log_likelihoods(self, counts: ResultCounts, at_SN: Floats) -> tuple[Floats, Floats]:
        """Log-likelihood [S] and its gradient [S, N] at many points."""
        import numpy as np

        half_SU, tie_S1 = self._split(at_SN)
        signs_SU = np.sign(half_SU)
        x_SU = np.exp(-np.abs(half_SU))
        square_SU = x_SU * x_SU
        sum_SU = 1.0 + square_SU + tie_S1 * x_SU
        all_U, lead_U = counts.all_U, counts.won_U - counts.lost_U
        log_S = half_SU @ lead_U - (np.abs(half_SU) + np.log(sum_SU)) @ all_U
        slope_SU = 0.5 * (lead_U - all_U * (signs_SU * (1.0 - square_SU) / sum_SU))
        gradient_SN = np.zeros(at_SN.shape)
        gradient_SN[:, : self.num_players + len(self.effects)] = (self.design_UN.T @ slope_SU.T).T
        if self.has_ties:
            log_S = log_S + counts.tied_U.sum() * at_SN[:, -1]
            p_SU = tie_S1 * x_SU / sum_SU
            gradient_SN[:, -1] = counts.tied_U.sum() - p_SU @ all_U
        return log_S, gradient_SN

    def log_likelihood(self, counts: ResultCounts, at_N: Floats) -> float:
        """Log-likelihood at one point."""
        return float(self.log_likelihoods(counts, at_N[None])[0][0])

    def information(self, counts: ResultCounts, at_N: Floats) -> Floats:
        """Minus the log-likelihood's second derivatives [N, N]."""
        import numpy as np

        half_SU, tie_S1 = self._split(at_N[None])
        half_U, tie = half_SU[0], float(tie_S1[0, 0])
        x_U = np.exp(-np.abs(half_U))
        sum_U = 1.0 + x_U * x_U + tie * x_U
        lead_U = np.sign(half_U) * (1.0 - x_U * x_U) / sum_U
        tied_U = tie * x_U / sum_U
        all_U = counts.all_U
        weight_U = 0.25 * all_U * (1.0 - tied_U - lead_U * lead_U)
        k, e = self.num_players, len(self.effects)
        found_NN = np.zeros((self.size, self.size))
        i, j = self.first_U, self.second_U
        cross_KK = np.bincount(i * k + j, weight_U, minlength=k * k).reshape(k, k)
        cross_KK = cross_KK + cross_KK.T
        found_NN[:k, :k] = np.diag(cross_KK.sum(1)) - cross_KK
        columns = [weight_U[:, None] * self.effects_UE]
        if self.has_ties:
            columns.append((-0.5 * all_U * lead_U * tied_U)[:, None])
        beside_UM = np.column_stack(columns)
        block = self.design_UN.T @ beside_UM
        found_NN[: k + e, k:] = block
        found_NN[k:, : k + e] = block.T
        if self.has_ties:
            found_NN[-1, -1] = float((all_U * tied_U * (1.0 - tied_U)).sum())
        return found_NN

    def held(self, information_NN: Floats) -> Floats:
        """The information with the free direction of each part held still."""
        import numpy as np

        scale = float(np.trace(information_NN)) / len(information_NN)
        held: Floats = information_NN + scale * (self.gauge_PN.T @ self.gauge_PN)
        return held

    def fit(self, counts: ResultCounts, start_N: Floats) -> Floats:
        """The maximum of the likelihood by Newton's method, with steps halved while they lead
        down.

        Raises:
            ValueError: An effect cannot be told from the strengths.
        """
        import numpy as np
        from scipy.linalg import cho_factor, cho_solve

        at_N, value = start_N, -math.inf
        for _ in range(MAX_STEPS):
            values_S, gradients_SN = self.log_likelihoods(counts, at_N[None])
            value, gradient_N = float(values_S[0]), gradients_SN[0]
            held_NN = self.held(self.information(counts, at_N))
            try:
                step_N = cho_solve(cho_factor(held_NN, lower=True), gradient_N)
            except np.linalg.LinAlgError:
                if np.abs(at_N).max() < MAX_LOG:
                    raise ValueError(self._untold()) from None
                return at_N
            gain = float(gradient_N @ step_N)
            if gain < TOLERANCE or np.abs(at_N[self.num_players :]).max(initial=0.0) > MAX_LOG:
                return at_N
            size = 1.0
            while self.log_likelihood(counts, at_N + size * step_N) < value and size > 1e-6:
                size *= 0.5
            at_N = at_N + size * step_N
        return at_N

    def _untold(self) -> str:
        return (
            f"effects {', '.join(self.effects) or 'of ties'} cannot be told from the players' "
            "strengths or from each other: leave one out, or let each pair play both ways round"
        )

    def check_bearable(self, counts: ResultCounts, at_N: Floats) -> None:
        """Refuse effects that the games cannot tell or that have no finite estimate.

        Raises:
            ValueError: There is one.
        """
        import numpy as np

        information_NN = self.information(counts, at_N)
        names = (*self.effects, *["ties"] * self.has_ties)
        for name, value in zip(names, at_N[self.num_players :], strict=True):
            if abs(value) > MAX_LOG / 2.0:
                raise ValueError(
                    f"the effect {name!r} has no finite estimate: every game that differs in "
                    "it went the same way; leave it out, or play more games"
                )
        held_NN = self.held(information_NN)
        scales_N = np.sqrt(np.maximum(np.diag(held_NN), 1e-300))
        if np.linalg.eigvalsh(held_NN / np.outer(scales_N, scales_N))[0] < 1e-9:
            raise ValueError(self._untold())
