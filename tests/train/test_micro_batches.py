"""Parts fit into memory, keep groups whole, and depend on nothing but the groups."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oversight.modeling import TokenRow
from oversight.modeling.scoring.trie import num_trie_tokens
from oversight.train.batches import micro_batches

IDS = st.lists(st.integers(0, 2), min_size=1, max_size=6).map(np.array)
GROUPS = st.lists(
    st.tuples(IDS, st.lists(IDS, min_size=1, max_size=3)).map(
        lambda drawn: [TokenRow(drawn[0], response) for response in drawn[1]]
    ),
    min_size=1,
    max_size=8,
)


@given(GROUPS, st.integers(1, 60))
def test_every_group_is_in_one_part_and_parts_fit_unless_one_group_is_too_large(
    groups: list[list[TokenRow]], max_tokens: int
) -> None:
    parts = micro_batches(groups, max_tokens)
    assert sorted(i for part in parts for i in part) == list(range(len(groups)))
    for part in parts:
        tokens = num_trie_tokens([row.ids() for i in part for row in groups[i]])
        assert tokens <= max_tokens or len(part) == 1


@given(GROUPS)
def test_all_fit_into_one_part_if_there_is_room(groups: list[list[TokenRow]]) -> None:
    total = sum(row.num_tokens for group in groups for row in group)
    assert len(micro_batches(groups, total)) == 1


def test_groups_of_one_prompt_come_together_and_count_it_once() -> None:
    long, other = np.arange(100), np.arange(100, 200)
    groups = [[TokenRow(prompt, np.array([i]))] for i, prompt in enumerate([long, other] * 3)]
    parts = micro_batches(groups, 104)
    assert [sorted(part) for part in parts] == [[0, 2, 4], [1, 3, 5]]
