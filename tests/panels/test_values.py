"""Choices by rule and regrets of groups, on votes worked by hand and with known values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.errors import ConfigError
from oversight.panels.values import RULES, choices, group_ratings, regrets, rule_regrets

# Eight of the large group like 0 and two 2; the two of the small group like 1 and 2.
SPLIT = np.array([[[8.0, 0.0, 2.0], [0.0, 1.0, 1.0]]])


def test_a_majority_passes_over_the_small_group_and_maximin_does_not():
    assert {rule: int(choices(SPLIT, rule)[0]) for rule in RULES} == {
        "majority": 0,
        "weighted": 0,
        "maximin": 2,
        "nash": 2,
        "bridging": 0,  # 9/12 * 1/4 against 3/12 * 2/4: two raters are not yet a consensus
    }
    assert choices(SPLIT, "weighted", (1, 9)).tolist() == [2]


def test_regret_is_what_a_group_misses_of_its_own_favourite():
    assert regrets(SPLIT, np.array([0]))[0] == pytest.approx([0.0, 0.5])
    assert regrets(SPLIT, np.array([2]))[0] == pytest.approx([0.6, 0.0])


def test_bridging_believes_a_small_group_less_than_nash_does():
    votes = np.array([[[60.0, 40.0], [0.35, 0.65]]])  # one vote, not whole, against a hundred
    assert choices(votes, "nash").tolist() == [1]
    assert choices(votes, "bridging").tolist() == [0]


@given(
    st.lists(
        st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=2, max_size=2),
        min_size=1,
        max_size=6,
    )
)
def test_maximin_never_leaves_a_group_less_than_any_other_rule_does(votes):
    votes_QGA = np.array(votes, dtype=float) + 0.25
    worth = votes_QGA / votes_QGA.sum(2, keepdims=True)
    places = np.arange(len(worth))
    least = {rule: worth[places, :, choices(votes_QGA, rule)].min(1) for rule in RULES}
    for rule in RULES:
        assert (least["maximin"] >= least[rule] - 1e-9).all()
        assert (regrets(votes_QGA, choices(votes_QGA, rule)) >= 0).all()


def test_a_group_of_one_is_flagged_and_questions_without_a_groups_vote_are_left_out():
    votes = np.concatenate([SPLIT, SPLIT, np.array([[[1.0, 0, 0], [0, 0, 0]]])])
    found = {each.rule: each for each in rule_regrets(votes, ("large", "small"), (10, 1))}
    majority = found["majority"]
    assert (majority.worst, majority.largest) == ("small", pytest.approx(0.5))
    assert (majority.num_questions, majority.num_left_out) == (2, 1)
    assert [each.flaw is None for each in majority.groups] == [True, False]
    assert "group of 1" in majority.groups[1].flaw


def test_one_question_has_no_interval():
    found = rule_regrets(SPLIT, ("large", "small"), (10, 2))
    assert {(each.low, each.high) for each in found} == {(None, None)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": ("a",), "num_raters": (1,)}, "a number a group"),
        ({"votes_QGA": SPLIT[:, :1], "groups": ("a",), "num_raters": (3,)}, "two or more"),
        ({"rules": ("maximum",)}, "rule = 'maximum' is unknown. Did you mean 'maximin'"),
        ({"weights": (1.0,)}, "one number above 0 for each group"),
        ({"votes_QGA": np.array([[[1.0, 0], [0, 0]]])}, "no question has votes of every group"),
    ],
)
def test_votes_that_cannot_bear_it_are_refused(change, message):
    settings = {"votes_QGA": SPLIT, "groups": ("a", "b"), "num_raters": (3, 3)} | change
    with pytest.raises(ConfigError, match=message):
        rule_regrets(**settings)


def drawn(rng, number):
    """Votes of twelve and of three raters who like alternatives of their own two times in three."""
    likes = rng.integers(3, size=(number, 2))
    votes = np.zeros((number, 2, 3))
    for group, raters in enumerate((12, 3)):
        for _ in range(raters):
            own = rng.random(number) < 2 / 3
            said = np.where(own, likes[:, group], rng.integers(3, size=number))
            votes[np.arange(number), group, said] += 1
    return votes


def covered(num_simulations):
    """Share of intervals of the largest regret under `majority` that hold the population's."""
    known = rule_regrets(drawn(np.random.default_rng(0), 50_000), "ab", (12, 3), num_resamples=2)
    truth = known[0].largest
    found = [
        rule_regrets(drawn(np.random.default_rng(1 + i), 120), "ab", (12, 3), seed=i)[0]
        for i in range(num_simulations)
    ]
    return np.mean([each.low <= truth <= each.high for each in found])


def test_intervals_of_the_largest_regret_cover_in_short():
    assert covered(40) >= 0.87


@pytest.mark.slow
def test_intervals_of_the_largest_regret_cover():
    assert 0.93 <= covered(1200) <= 0.97  # of which chance moves 400 by 0.011


def test_groups_rate_the_same_players_apart():
    wins = np.zeros((4, 30, 3, 3))
    wins[0, :, 0, 1] = wins[0, :, 1, 2] = 3  # the first group likes a, then b, then c
    wins[0, :, 1, 0] = wins[0, :, 2, 1] = 1
    wins[1] = wins[0].swapaxes(1, 2)
    wins[2, :, 0, 1] = 1
    found = group_ratings("abc", wins, ("one", "two", "three", "silent"), (5, 5, 2, 4))
    assert [each.group for each in found] == ["one", "two", "three"]
    first, second, third = found
    assert [each.flaw for each in (first, second)] == [None, None]
    assert first.ratings[0].low > first.ratings[2].high
    assert second.ratings[0].value == pytest.approx(-first.ratings[0].value, abs=1e-3)
    assert first.ratings[0].value - first.ratings[1].value == pytest.approx(
        400 * np.log10(90.5 / 30.5), rel=0.01
    )
    assert third.flaw == "players fall in 2 parts that never met"
    assert "group of 1" in group_ratings("abc", wins[:1], ("one",), (1,))[0].flaw
