"""Pairs of rankings, and what they weigh."""

from __future__ import annotations

import numpy as np
import pytest

from oversight.train.data.examples import expand
from oversight.train.types import Comparison


def ranking(*ranks, **about):
    ids = tuple(np.array([10 + i]) for i in range(len(ranks)))
    return Comparison("r", np.array([1]), ids, ranks, **about)


def told(pairs):
    return [(int(p.responses[0][0]) - 10, int(p.responses[1][0]) - 10, p.ranks) for p in pairs]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("all", [(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)]),
        ("best_worst", [(0, 3)]),
        ("adjacent", [(0, 1), (2, 3)]),
    ],
)
def test_pairs_are_better_first_and_weigh_as_much_as_the_ranking(how, expected):
    pairs = expand(ranking(0, 1, 1, 2, weight=3.0), how)
    assert told(pairs) == [(i, j, (0, 1)) for i, j in expected]
    assert sum(p.weight for p in pairs) == pytest.approx(3.0)
    assert len({p.id for p in pairs}) == len(pairs)


def test_ties_become_pairs_only_where_asked():
    assert (1, 2, (0, 0)) in told(expand(ranking(0, 1, 1, 2), ties=True))
    assert expand(ranking(0, 0, 0)) == []
    assert expand(ranking(0, 0)) == []
    assert len(expand(ranking(0, 0), ties=True)) == 1


def test_a_pair_stays_what_it_is():
    pair = ranking(0, 1, soft_label=0.7, margin=2.0)
    assert expand(pair) == [pair]
