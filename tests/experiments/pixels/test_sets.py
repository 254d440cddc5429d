"""Sets of pixels by number."""

from __future__ import annotations

from itertools import combinations
from math import comb

import pytest

from oversight.experiments.pixels.game import all_sets, children, index_of, members_at


@pytest.mark.parametrize(("num", "size"), [(7, 3), (6, 0), (5, 5), (8, 1)])
def test_every_set_stands_once_at_its_place(num: int, size: int) -> None:
    sets = [tuple(each) for each in all_sets(num, size).tolist()]
    assert sorted(sets) == list(combinations(range(num), size))
    assert [index_of(each) for each in sets] == list(range(comb(num, size)))
    assert [members_at(index, size) for index in range(len(sets))] == sets


@pytest.mark.parametrize(("num", "size"), [(7, 3), (5, 0), (6, 5)])
def test_children_are_the_sets_with_one_member_more(num: int, size: int) -> None:
    found = children(num, size)
    for row, members in enumerate(all_sets(num, size).tolist()):
        free = [p for p in range(num) if p not in members]
        assert {int(found[p, row]) for p in free} == {index_of([*members, p]) for p in free}
        for held in members:
            assert int(found[held, row]) in {index_of([*members, p]) for p in free}
