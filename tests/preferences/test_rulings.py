import pytest

from oversight.aggregation import average, consensus, rulings
from oversight.types import BeliefMethod, Verdict


def test_both_orders_of_one_judge_make_one_ruling(debate, beliefs):
    made = debate().judge(beliefs(0.9)).judge(beliefs(0.4), swapped=True).build()
    (ruling,) = rulings(made)
    assert ruling.final.probs == pytest.approx((0.65, 0.35))
    assert ruling.final.verdict is Verdict.DECIDED
    assert ruling.final.method is BeliefMethod.AVERAGED
    assert [j.swapped for j in ruling.judgments] == [False, True]


def test_orders_that_cancel_make_a_tie(debate, beliefs):
    made = debate().judge(beliefs(0.7)).judge(beliefs(0.3), swapped=True).build()
    assert rulings(made)[0].final.verdict is Verdict.TIE


def test_one_unreadable_order_makes_the_ruling_invalid(debate, beliefs):
    made = debate().judge(beliefs(0.9)).judge(beliefs(None), swapped=True).build()
    assert rulings(made)[0].final.verdict is Verdict.INVALID


def test_a_revision_by_who_was_told_the_answer_does_not_count(debate, beliefs):
    made = debate().judge(beliefs(0.2), revision=0)
    made = made.judge(beliefs(0.9), revision=1, informed=True).build()

    [ruling] = rulings(made)

    assert ruling.final.probs == beliefs(0.2).probs


def test_the_last_revision_counts(debate, beliefs):
    made = debate().judge(beliefs(0.2), revision=1).judge(beliefs(0.9), revision=0).build()
    assert rulings(made)[0].final.probs == (0.2, 0.8)


def test_judges_are_kept_apart(debate, beliefs):
    made = debate().judge(beliefs(0.9), name="z").judge(beliefs(0.2), name="a").build()
    assert [ruling.judge for ruling in rulings(made)] == ["a", "z"]


def test_trajectory_is_averaged_where_both_orders_have_it(debate, beliefs):
    first = ((0, beliefs(0.6)), (1, beliefs(0.8)))
    second = ((0, beliefs(0.4)),)
    made = (
        debate()
        .judge(beliefs(0.9), trajectory=first)
        .judge(beliefs(0.9), swapped=True, trajectory=second)
        .build()
    )
    ((step, belief),) = rulings(made)[0].trajectory
    assert step == 0
    assert belief.probs == pytest.approx((0.5, 0.5))


def test_consensus_passes_over_judges_that_cannot_be_read(debate, beliefs):
    made = (
        debate()
        .judge(beliefs(0.9), name="a")
        .judge(beliefs(None), name="b")
        .judge(beliefs(None, Verdict.ABSTAIN), name="c")
        .build()
    )
    belief = consensus(rulings(made))
    assert belief is not None
    assert belief.probs == pytest.approx((0.9, 0.1))


def test_consensus_of_no_readable_ruling_is_none(debate, beliefs):
    assert consensus(rulings(debate().judge(beliefs(None)).build())) is None


def test_a_single_belief_is_not_touched(beliefs):
    one = beliefs(0.3)
    assert average([one]) is one
