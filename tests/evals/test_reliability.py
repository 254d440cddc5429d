"""Judges of a panel by themselves: planted drift and liking are found, thin data is named."""

from dataclasses import replace

import numpy as np
import pytest

from oversight.evals.observations import observations
from oversight.evals.reliability import (
    first_place,
    gold_accuracy,
    judge_standings,
    panel_table,
    repeat_consistency,
    session_drift,
)


def test_repeats_are_consistent_by_the_share_that_came_again():
    found = repeat_consistency("abcd", "abcc", [1, 2, 3, 4])
    assert found.value == pytest.approx(0.75)
    assert repeat_consistency([], [], []) is None
    with pytest.raises(ValueError, match="4 answers, 3 repeats"):
        repeat_consistency("abcd", "abc", [1, 2, 3, 4])


def test_a_liking_for_the_first_place_is_found_and_a_fair_judge_has_none():
    rng = np.random.default_rng(0)
    items = list(range(300))
    assert first_place(list(rng.random(300) < 0.65), items).excludes(0.5)
    assert not first_place(list(rng.random(300) < 0.5), items).excludes(0.5)
    assert first_place([True] * 50, [1] * 50) is None


def answers(rng, fall):
    """Right or wrong of 20 answers in each of 15 sessions, by `fall` worse in the later half."""
    places = list(range(20)) * 15
    sessions = [session for session in range(15) for _ in range(20)]
    right = [float(rng.random() < 0.8 - fall * (place >= 10)) for place in places]
    return right, places, sessions, list(range(300))


def test_a_judge_who_tires_drifts_by_what_was_planted_and_a_steady_one_does_not():
    found = session_drift(*answers(np.random.default_rng(1), 0.3))
    assert found.value == pytest.approx(-0.3, abs=0.1)
    assert found.excludes(0.0)
    assert not session_drift(*answers(np.random.default_rng(1), 0.0)).excludes(0.0)
    right, places, sessions, items = answers(np.random.default_rng(1), 0.3)
    assert session_drift(right[:12], places[:12], sessions[:12], items[:12]) is None


def test_few_items_with_a_known_answer_say_nothing_of_accuracy():
    assert gold_accuracy([True] * 9, range(9)) is None
    assert gold_accuracy([True] * 9 + [False], range(10)).value == pytest.approx(0.9)


@pytest.fixture
def panel(judged):
    """Observations of judges who are right as often as named, on the same debates."""
    (one,) = observations(judged(0.9))

    def make(num_debates, seed=0, **accuracy):
        rng = np.random.default_rng(seed)
        found = []
        for number in range(num_debates):
            for judge, p in accuracy.items():
                right = rng.random() < p
                probs = (0.9, 0.1) if right == (one.correct == 0) else (0.1, 0.9)
                arm = replace(one.arm, judge=judge)
                found.append(
                    replace(
                        one, arm=arm, debate_id=str(number), cluster=("d", str(number)), probs=probs
                    )
                )
        return found

    return make


def test_accuracy_from_agreement_stands_beside_that_by_known_answers(panel):
    found = judge_standings(panel(250, ann=0.9, ben=0.8, cleo=0.65))
    assert [each.judge for each in found] == ["ann", "ben", "cleo"]
    for each, known in zip(found, (0.9, 0.8, 0.65), strict=True):
        assert each.gold.low <= known <= each.gold.high
        assert each.fitted.low - 0.03 <= known <= each.fitted.high + 0.03
        assert each.flaws == ()
    table = panel_table(found)
    assert [len(row) for row in table.rows] == [len(table.columns)] * 3


def test_what_cannot_be_said_of_a_judge_stands_in_words(panel):
    two = judge_standings(panel(40, ann=0.9, ben=0.8))
    assert all(each.fitted is None and "fewer than 3 judges" in each.flaws[0] for each in two)
    few = panel(40, ann=0.9, ben=0.8, cleo=0.7) + panel(3, dan=0.9)
    dan = judge_standings(few)[-1]
    assert (dan.judge, dan.gold, dan.fitted) == ("dan", None, None)
    assert dan.flaws == (
        "3 questions with a known answer; 10 are needed",
        "3 debates shared with others; 5 are needed",
    )
    assert panel_table([dan]).rows[0][2:4] == ("–", "–")
    assert judge_standings(panel(40, ann=0.9)) == ()
