"""The held-out part: whole families of prompts and questions, chosen by seed and content."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.errors import DataError
from oversight.train.data.examples import held_out

names = st.integers(0, 12)
groups = st.lists(
    st.tuples(names, names).map(lambda p: (f"p{p[0]}", f"q{p[1]}")), min_size=2, max_size=40
)


@given(groups=groups, wanted=st.integers(1, 20), seed=st.integers(0, 9))
def test_nothing_is_shared_between_the_parts_and_neither_is_empty(groups, wanted, seed):
    try:
        chosen = held_out(groups, wanted, seed)
    except DataError:
        return
    held = {name for i in chosen for name in groups[i]}
    kept = {name for i, own in enumerate(groups) if i not in chosen for name in own}
    assert held
    assert kept
    assert not held & kept


@given(groups=groups, wanted=st.integers(1, 20), data=st.data())
def test_the_order_of_rows_does_not_matter(groups, wanted, data):
    mixed = data.draw(st.permutations(range(len(groups))))
    try:
        chosen = held_out(groups, wanted, 0)
    except DataError:
        return
    again = held_out([groups[i] for i in mixed], wanted, 0)
    assert {mixed[i] for i in again} == chosen


def test_prompts_that_share_a_question_over_steps_stay_together():
    chain = [("p1", "q1"), ("p2", "q1"), ("p2", "q2"), ("p3", "q2"), ("p4",)]
    for seed in range(5):
        chosen = held_out(chain, 1, seed)
        assert chosen in ({0, 1, 2, 3}, {4})


def test_the_number_is_as_near_as_families_allow():
    groups = [(f"p{i // 2}",) for i in range(100)]
    assert len(held_out(groups, 20, 0)) == 20
    assert len(held_out(groups, 21, 0)) in (20, 22)
    assert held_out(groups, 0, 0) == set()


def test_one_family_cannot_be_parted():
    with pytest.raises(DataError, match="all 3 examples share"):
        held_out([("p",)] * 3, 1, 0)
