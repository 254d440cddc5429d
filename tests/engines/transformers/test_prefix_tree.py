"""The tree of kept beginnings: what it finds, shares and forgets."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oversight.engines.transformers.prefix_tree import PrefixTree, common_prefix


def kv_of(ids):  # type: ignore[no-untyped-def]
    """Reads 'keys' that say which token they belong to, and 'values' that say where it stands."""

    def read(start: int, stop: int):  # type: ignore[no-untyped-def]
        keys = torch.tensor(ids[start:stop], dtype=torch.float32).reshape(1, -1, 1)
        values = torch.arange(start, stop, dtype=torch.float32).reshape(1, -1, 1)
        return [(keys.clone(), values)]

    return read


def insert(tree: PrefixTree, ids: list[int]) -> None:
    tree.insert(np.asarray(ids, dtype=np.int64), kv_of(ids))


def found(tree: PrefixTree, ids: list[int]) -> list[int]:
    """The kept beginning of `ids`, as its keys say; checks that values stand in their places."""
    prefix = tree.match(np.asarray(ids, dtype=np.int64))
    keys = [node.kv[0][0][0, :taken, 0] for node, taken in prefix.runs]
    values = [node.kv[0][1][0, :taken, 0] for node, taken in prefix.runs]
    assert sum(len(part) for part in keys) == prefix.length
    if values:
        assert torch.cat(values).tolist() == list(range(prefix.length))
    return torch.cat(keys).int().tolist() if keys else []


def test_common_prefix_of_arrays():
    assert common_prefix(np.array([1, 2, 3]), np.array([1, 2, 4, 5])) == 2
    assert common_prefix(np.array([1, 2]), np.array([1, 2, 4])) == 2
    assert common_prefix(np.array([], dtype=np.int64), np.array([1])) == 0


def test_sequences_with_one_beginning_keep_it_once():
    tree = PrefixTree(100)
    insert(tree, [1, 2, 3, 4])
    insert(tree, [1, 2, 3, 5, 6])
    assert tree.num_tokens == 6
    assert found(tree, [1, 2, 3, 5, 6, 7]) == [1, 2, 3, 5, 6]
    assert found(tree, [1, 2, 9]) == [1, 2]
    assert found(tree, [9]) == []


def test_the_end_used_longest_ago_is_dropped_first():
    tree = PrefixTree(7)
    insert(tree, [1, 2, 3])
    insert(tree, [1, 2, 4])
    insert(tree, [5, 6])
    assert found(tree, [1, 2, 3]) == [1, 2, 3]
    insert(tree, [7, 8])
    assert tree.num_tokens <= 7
    assert found(tree, [1, 2, 3]) == [1, 2, 3]
    assert found(tree, [1, 2, 4]) == [1, 2]


def test_a_sequence_beyond_the_bound_keeps_its_beginning():
    tree = PrefixTree(3)
    insert(tree, [1, 2, 3, 4, 5])
    assert found(tree, [1, 2, 3, 4, 5]) == [1, 2, 3]
    insert(tree, [1, 2, 8, 9])
    assert tree.num_tokens <= 3


def test_a_dropped_half_gives_its_memory_back():
    tree = PrefixTree(6)
    insert(tree, [1, 2, 3, 4, 5, 6])
    insert(tree, [1, 2])
    insert(tree, [1, 2, 7])
    held = [node for node, _ in tree.match(np.array([1, 2, 7])).runs]
    for node in held:
        assert node.kv[0][0].untyped_storage().nbytes() == 4 * len(node.token_ids)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), max_size=25),
    st.integers(0, 30),
)
def test_the_tree_finds_true_beginnings_only_and_stays_within_its_bound(sequences, capacity):
    tree = PrefixTree(capacity)
    for ids in sequences:
        insert(tree, ids)
        assert tree.num_tokens <= capacity
        kept = found(tree, ids)
        assert kept == ids[: len(kept)]
        if len(ids) <= capacity:
            assert kept == ids


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), max_size=25))
def test_a_tree_with_room_forgets_nothing(sequences):
    tree = PrefixTree(10_000)
    for ids in sequences:
        insert(tree, ids)
    for ids in sequences:
        assert found(tree, ids) == ids
    beginnings = {tuple(ids[:end]) for ids in sequences for end in range(1, len(ids) + 1)}
    assert tree.num_tokens == len(beginnings)
