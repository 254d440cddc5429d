"""Games whose strengths, ties and effects are known, for tests."""

from __future__ import annotations

import numpy as np

from oversight.aggregation.bradley_terry import PairedGames


def simulated(
    rng,
    strengths,
    num_games,
    *,
    order=0.0,
    tie=0.0,
    covariate=None,
    num_clusters=None,
    cluster_sd=0.0,
):
    """Games of random pairs by Davidson's model; in a cluster all strengths are shifted alike."""
    number = len(strengths)
    first = rng.integers(0, number, num_games)
    second = (first + rng.integers(1, number, num_games)) % number
    d = strengths[first] - strengths[second] + order
    named = None
    if covariate is not None:
        x = rng.normal(size=num_games)
        d = d + covariate * x
        named = {"x": x}
    cluster = None
    if num_clusters is not None:
        cluster = rng.integers(0, num_clusters, num_games)
        shift = rng.normal(0.0, cluster_sd, (num_clusters, number))
        d = d + shift[cluster, first] - shift[cluster, second]
    weights = np.stack([np.exp(d / 2), np.exp(-d / 2), np.full(num_games, tie)])
    p = weights / weights.sum(0)
    u = rng.random(num_games)
    result = np.where(u < p[0], 1.0, np.where(u < p[0] + p[1], 0.0, 0.5))
    players = [f"p{k}" for k in range(number)]
    return PairedGames.of(players, first, second, result, cluster=cluster, covariates=named)
