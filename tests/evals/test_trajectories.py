import pytest

from oversight.aggregation import rulings
from oversight.evals.calibration import BeliefPath, path, trajectory


def values(points):
    return [(p.round, pytest.approx(p.belief.value), p.belief.num) for p in points]


def test_belief_in_the_right_answer_by_round(judged):
    made = judged(0.2, correct=1, path=(0.5, 0.4, 0.3))
    got = path(made, rulings(made)[0])
    assert got.by_round == ((1, 0.5), (2, 0.6), (3, 0.7))
    assert got.final == 0.8


def test_unread_beliefs_are_missing_and_unknown_answers_have_no_path(judged):
    made = judged(None, path=(0.5, None, 0.7))
    got = path(made, rulings(made)[0])
    assert got.by_round == ((1, 0.5), (3, 0.7))
    assert got.final is None
    unknown = judged(0.9, correct=None, path=(0.5,))
    assert path(unknown, rulings(unknown)[0]) is None


def test_early_ends_are_carried_or_left_out():
    early = BeliefPath("q1", ((0, 0.5), (1, 0.9)), final=0.95)
    late = BeliefPath("q2", ((0, 0.5), (1, 0.6), (2, 0.7)), final=0.8)
    carried = trajectory([early, late])
    assert values(carried) == [(0, 0.5, 2), (1, 0.75, 2), (2, 0.825, 2), (None, 0.875, 2)]
    present = trajectory([early, late], "present")
    assert values(present) == [(0, 0.5, 2), (1, 0.75, 2), (2, 0.7, 1), (None, 0.875, 2)]


def test_a_missing_round_in_the_middle_is_not_filled():
    gap = BeliefPath("q", ((0, 0.5), (2, 0.9)))
    assert [p.round for p in trajectory([gap])] == [0, 2]


def test_rulings_without_beliefs_by_round_have_no_curve(judged):
    made = judged(0.9)
    assert trajectory([path(made, rulings(made)[0])]) == ()
