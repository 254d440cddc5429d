"""Schedules: everybody meets everybody once, nobody twice needlessly; Glicko's own example."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.tournaments.schedules import (
    OnlineRating,
    meetings_of_round_robin,
    meetings_of_swiss_round,
    online_ratings,
)


@pytest.mark.parametrize("number", [2, 3, 4, 5, 8, 9])
def test_in_a_round_robin_every_pair_meets_once_and_nobody_twice_in_a_round(number):
    players = [f"p{k}" for k in range(number)]
    rounds = meetings_of_round_robin(players)
    assert len(rounds) == number - 1 + number % 2
    assert sorted(pair for each in rounds for pair in each) == sorted(combinations(players, 2))
    for each in rounds:
        assert len({player for pair in each for player in pair}) == 2 * (number // 2)


@given(st.integers(3, 9), st.integers(0, 1000))
def test_in_a_swiss_tournament_nobody_meets_twice_while_a_pairing_without_that_exists(number, seed):
    """An even number below the round robin's length always leaves one for its first rounds."""
    players = [f"p{k}" for k in range(number)]
    rng = np.random.default_rng(seed)
    met: Counter = Counter()
    rested: Counter = Counter()
    for _ in range(number // 2):
        standing = dict(zip(players, rng.normal(size=number), strict=True))
        pairs = meetings_of_swiss_round(players, standing, met, rested)
        playing = [player for pair in pairs for player in pair]
        assert len(playing) == len(set(playing)) == 2 * (number // 2)
        left = [p for p in combinations(playing, 2) if not met[p] and not met[p[::-1]]]
        if _can_pair(sorted(playing), {frozenset(pair) for pair in left}):
            assert not any(met[pair] for pair in pairs)
        met.update(pairs)
        rested.update(set(players) - set(playing))
    assert max(rested.values(), default=0) <= 1


def _can_pair(players, allowed):
    if not players:
        return True
    first, *others = players
    return any(
        frozenset((first, other)) in allowed
        and _can_pair([each for each in others if each != other], allowed)
        for other in others
    )


def test_a_swiss_round_pairs_players_of_like_standing():
    standing = {"a": 1.0, "b": 4.0, "c": 3.0, "d": 2.0}
    found = meetings_of_swiss_round(list("abcd"), standing, {}, {})
    assert set(found) == {("b", "c"), ("a", "d")}


def test_who_rested_does_not_rest_again_before_the_others():
    standing = {"a": 3.0, "b": 2.0, "c": 1.0}
    assert meetings_of_swiss_round(list("abc"), standing, {}, {}) == (("a", "b"),)
    assert meetings_of_swiss_round(list("abc"), standing, {}, {"c": 1}) == (("a", "c"),)


def test_two_players_meet_again_where_there_is_nobody_else():
    assert meetings_of_swiss_round(["a", "b"], {}, {("a", "b"): 3}, {}) == (("a", "b"),)


def test_online_ratings_are_those_of_glickmans_example():
    """Glickman, "The Glicko system", the example on its last page."""
    before = {
        "own": OnlineRating(1500, 200),
        "1": OnlineRating(1400, 30),
        "2": OnlineRating(1550, 100),
        "3": OnlineRating(1700, 300),
    }
    found = online_ratings(before, [("own", "1", 1.0), ("2", "own", 1.0), ("own", "3", 0.0)])["own"]
    assert found.value == pytest.approx(1464, abs=0.5)
    assert found.deviation == pytest.approx(151.4, abs=0.1)


def test_a_rating_without_games_stays():
    before = {"a": OnlineRating(1500, 200), "b": OnlineRating(1600, 100)}
    assert online_ratings(before, []) == pytest.approx(before)
