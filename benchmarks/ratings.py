"""Seconds of Bradley-Terry ratings with intervals: 500 players and 200,000 games.

Games of random pairs with known strengths, an order effect and ties, on 2,000 questions: the
maximum of the likelihood, with ends of the profile likelihood for every player, and with a
bootstrap over questions.

    python benchmarks/ratings.py

Bar: under 20 s with profile intervals, on one thread. The share of true strengths that lie within
their intervals is printed beside it.
"""

from __future__ import annotations

import argparse
import os
import time
from platform import python_version

import numpy as np

from oversight.aggregation.bradley_terry import PairedGames
from oversight.aggregation.ratings import ELO, IntervalMethod, fit_ratings

BAR_S = 20.0
SPREAD = 1.0
ORDER, TIE = 0.2, 0.4


def games_of(players: int, games: int, questions: int, seed: int) -> tuple[PairedGames, np.ndarray]:
    """Games by Davidson's model, and the strengths in Elo points above their mean."""
    rng = np.random.default_rng(seed)
    strengths = rng.normal(0.0, SPREAD, players)
    first = rng.integers(0, players, games)
    second = (first + rng.integers(1, players, games)) % players
    d = strengths[first] - strengths[second] + ORDER
    weights = np.stack([np.exp(d / 2), np.exp(-d / 2), np.full(games, TIE)])
    p = weights / weights.sum(0)
    u = rng.random(games)
    result = np.where(u < p[0], 1.0, np.where(u < p[0] + p[1], 0.0, 0.5))
    names = [f"player {k}" for k in range(players)]
    cluster = rng.integers(0, questions, games)
    return (
        PairedGames.of(names, first, second, result, cluster=cluster),
        ELO * (strengths - strengths.mean()),
    )


def main() -> None:
    """Print the seconds of each kind of interval."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--players", type=int, default=500)
    parser.add_argument("--games", type=int, default=200_000)
    parser.add_argument("--questions", type=int, default=2_000)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    games, true = games_of(given.players, given.games, given.questions, given.seed)
    load = os.getloadavg()[0]
    print(
        f"command   python benchmarks/ratings.py    (Python {python_version()}, numpy "
        f"{np.__version__}; load {load:.1f} on {os.cpu_count()} cores)"
    )
    print(f"{given.players:,} players, {given.games:,} games with ties and an order effect")
    methods: tuple[IntervalMethod, ...] = ("profile", "bootstrap")
    for method in methods:
        begin, cpu = time.perf_counter(), time.process_time()
        found = fit_ratings(games, order=True, intervals=method, num_resamples=given.resamples)
        seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
        rows = found.ratings
        inside = np.mean([r.low <= t <= r.high for r, t in zip(rows, true, strict=True)])
        bar = (
            f"   (bar: {BAR_S:.0f} s)"
            if method == "profile"
            else f"   ({given.resamples} resamples)"
        )
        print(
            f"  {method:<9} {seconds:5.1f} s, {cpu:5.1f} s of CPU; {inside:.1%} of true strengths "
            f"inside{bar}"
        )


if __name__ == "__main__":
    main()
