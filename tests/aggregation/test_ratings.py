"""Ratings: strengths that are known come back, and what cannot be compared is told apart."""

from __future__ import annotations

import numpy as np
import pytest

from oversight.aggregation.ratings import ELO, PRIOR, connected, ratings


def table(players, bouts, questions=1):
    """Wins [Q, K, K] from (winner, loser, times) on each question."""
    wins_QKK = np.zeros((questions, len(players), len(players)))
    for first, second, times in bouts:
        wins_QKK[:, players.index(first), players.index(second)] += times
    return wins_QKK


def test_two_players_have_the_odds_of_their_wins():
    found = ratings(["a", "b"], table(["a", "b"], [("a", "b", 30), ("b", "a", 10)]), anchor="b")
    odds = (30 + PRIOR) / (10 + PRIOR)
    assert found[0].value == pytest.approx(ELO * np.log(odds), abs=0.01)
    assert found[1].value == 0.0
    assert found[1].low == found[1].high == 0.0


def test_ten_to_one_is_400_points():
    assert ELO * np.log(10) == pytest.approx(400)


def test_strengths_are_found_again_from_many_bouts():
    rng = np.random.default_rng(0)
    true = np.array([0.0, 120.0, 300.0, -80.0])
    strength = np.exp(true / ELO)
    p = strength[:, None] / (strength[:, None] + strength[None, :])
    upper = rng.binomial(10, p, size=(400, 4, 4)) * np.triu(np.ones((4, 4)), 1)
    wins = upper + np.triu(10 * np.ones((4, 4)), 1).T - upper.swapaxes(1, 2)
    wins *= 1 - np.eye(4)
    found = ratings(["a", "b", "c", "d"], wins, anchor="a")
    values = [each.value for each in found]
    assert values == pytest.approx(true, abs=15)
    assert all(each.low <= each.value <= each.high for each in found)
    assert found[2].low > found[1].high


def test_who_never_lost_has_a_finite_rating():
    [best, worst] = ratings(["a", "b"], table(["a", "b"], [("a", "b", 50)]))
    assert np.isfinite([best.value, worst.value]).all()
    assert best.value == pytest.approx(-worst.value)
    assert best.value > 200


def test_a_chain_compares_players_who_never_met():
    players = ["a", "b", "c"]
    found = ratings(
        players, table(players, [("a", "b", 20), ("b", "a", 10), ("b", "c", 20), ("c", "b", 10)])
    )
    assert {each.part for each in found} == {0}
    assert found[0].value > found[1].value > found[2].value


def test_parts_without_a_bout_between_them_are_rated_apart():
    players = ["a", "b", "c", "d", "alone"]
    wins = table(players, [("a", "b", 20), ("b", "a", 5), ("c", "d", 30)])
    found = ratings(players, wins, anchor="b")
    assert [each.part for each in found] == [0, 0, 1, 1, 2]
    assert found[1].value == 0.0
    assert found[2].value == pytest.approx(-found[3].value)
    assert found[4].value == 0.0


def test_connected_names_the_parts():
    assert connected(np.array([[0, 1, 0], [0, 0, 0], [0, 0, 0]])) == [0, 0, 1]


def test_intervals_shrink_with_questions():
    rng = np.random.default_rng(1)

    def width(questions):
        first = rng.binomial(1, 0.7, size=questions)
        wins = np.zeros((questions, 2, 2))
        wins[:, 0, 1], wins[:, 1, 0] = first, 1 - first
        found = ratings(["a", "b"], wins, anchor="b")[0]
        return found.high - found.low

    assert width(400) < width(40) < width(12)


@pytest.mark.parametrize(
    ("wins", "says"),
    [
        (np.zeros((1, 3, 3)), "shape"),
        (np.zeros((0, 2, 2)), "shape"),
        (np.full((1, 2, 2), np.nan), "finite"),
        (np.full((1, 2, 2), -1.0), "negative"),
    ],
)
def test_wins_that_are_none_are_refused(wins, says):
    with pytest.raises(ValueError, match=says):
        ratings(["a", "b"], wins)
