"""Schedules of tournaments, and the standings that they follow.

Round robin by the circle method: every pair meets once, in as few rounds as can be. Swiss: players
of like standing meet, and nobody meets twice as long as a pairing without that exists, since the
pairing is a matching of the least total cost in which a second meeting costs more than all else.

Online ratings, while the tournament runs, are Glicko's (Glickman 1999, "Parameter estimation in
large dynamic paired comparison experiments"): a rating and its deviation, all games of a round
taken together as one period. They decide who meets whom, and nothing else: the ratings that are
reported are fitted to all games at the end.

Shapes: none; players are names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Meeting = tuple[str, str]
"""Two players that meet, in the order of the list of players."""

START, START_DEVIATION = 1500.0, 350.0
SMALLEST_DEVIATION = 30.0
Q = math.log(10.0) / 400.0


def meetings_of_round_robin(players: Sequence[str]) -> tuple[tuple[Meeting, ...], ...]:
    """Rounds in which every pair meets once; with an odd number one rests in each."""
    seats: list[str | None] = [*players, *([None] if len(players) % 2 else [])]
    found = []
    for _ in range(len(seats) - 1):
        half = len(seats) // 2
        across = zip(seats[:half], reversed(seats[half:]), strict=True)
        pairs = [(a, b) for a, b in across if a is not None and b is not None]
        found.append(tuple(_ordered(players, a, b) for a, b in pairs))
        seats = [seats[0], seats[-1], *seats[1:-1]]
    return tuple(found)


def meetings_of_swiss_round(
    players: Sequence[str],
    standing: Mapping[str, float],
    met: Mapping[Meeting, int],
    rested: Mapping[str, int],
) -> tuple[Meeting, ...]:
    """The next round of a Swiss tournament.

    Args:
        players: All of them; ties of standing keep this order.
        standing: The higher, the better.
        met: How often each pair has met.
        rested: How often each player sat out a round; of an odd number the one with the fewest
            rests sits out, among those the one of the lowest standing.
    """
    import networkx

    ranked = sorted(players, key=lambda each: (-standing.get(each, 0.0), players.index(each)))
    playing = list(ranked)
    if len(playing) % 2:
        fewest = min(rested.get(each, 0) for each in playing)
        playing.remove(next(e for e in reversed(playing) if rested.get(e, 0) == fewest))
    # Distances in rank sum to less than this, so that they never outweigh a second meeting.
    again = len(playing) ** 3 + 1
    graph = networkx.Graph()
    for i, one in enumerate(playing):
        for j, other in enumerate(playing[:i]):
            times = met.get(_ordered(players, one, other), 0)
            graph.add_edge(i, j, weight=(i - j) ** 2 + again * times)
    pairs = networkx.min_weight_matching(graph)
    ordered = sorted((min(pair), max(pair)) for pair in pairs)
    return tuple(_ordered(players, playing[i], playing[j]) for i, j in ordered)


def _ordered(players: Sequence[str], one: str, other: str) -> Meeting:
    return (one, other) if players.index(one) < players.index(other) else (other, one)


@dataclass(frozen=True, slots=True)
class OnlineRating:
    """A rating while a tournament runs: its value and the deviation of what is known of it."""

    value: float = START
    deviation: float = START_DEVIATION


def online_ratings(
    before: Mapping[str, OnlineRating], results: Iterable[tuple[str, str, float]]
) -> dict[str, OnlineRating]:
    """Glicko's ratings after one round (Glickman 1999, equations 9 and 10).

    Args:
        before: Ratings before the round, of all players.
        results: One player, another one, and the first one's score: 1, 0, or 0.5 of a tie.
    """
    against: dict[str, list[tuple[OnlineRating, float]]] = {player: [] for player in before}
    for one, other, score in results:
        if one != other:
            against[one].append((before[other], score))
            against[other].append((before[one], 1.0 - score))
    return {player: _updated(rating, against[player]) for player, rating in before.items()}


def _updated(own: OnlineRating, games: Sequence[tuple[OnlineRating, float]]) -> OnlineRating:
    known, gained = 1.0 / own.deviation**2, 0.0
    for other, score in games:
        g = 1.0 / math.sqrt(1.0 + 3.0 * (Q * other.deviation / math.pi) ** 2)
        expected = 1.0 / (1.0 + 10.0 ** (-g * (own.value - other.value) / 400.0))
        known += (Q * g) ** 2 * expected * (1.0 - expected)
        gained += g * (score - expected)
    deviation = max(math.sqrt(1.0 / known), SMALLEST_DEVIATION)
    return OnlineRating(own.value + Q / known * gained, deviation)
