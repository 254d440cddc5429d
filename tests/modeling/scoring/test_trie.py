"""The trie holds each shared beginning once, and every row can be read back from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.modeling.scoring.trie import TokenTrie, num_trie_tokens

ROWS = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=8).map(np.array), min_size=1, max_size=8
)


@given(ROWS)
def test_every_row_is_read_back_with_its_positions(rows: list[np.ndarray]) -> None:
    trie = TokenTrie.build(rows)
    for row, places in zip(rows, trie.places, strict=True):
        assert trie.ids_T[places].tolist() == row.tolist()
        assert trie.positions_T[places].tolist() == list(range(len(row)))
        assert (np.diff(places) > 0).all()


@given(ROWS)
def test_a_token_stands_once_for_every_distinct_beginning(rows: list[np.ndarray]) -> None:
    beginnings = {tuple(row[: end + 1]) for row in rows for end in range(len(row))}
    assert TokenTrie.build(rows).num_tokens == len(beginnings) == num_trie_tokens(rows)


@given(ROWS)
def test_a_place_sees_its_own_row_up_to_itself_and_nothing_else(rows: list[np.ndarray]) -> None:
    trie = TokenTrie.build(rows)
    size = trie.num_tokens
    expected = np.zeros((size, size), dtype=bool)
    for places in trie.places:
        for i, place in enumerate(places):
            expected[place, places[: i + 1]] = True
    key, query = np.arange(size), np.arange(size)[:, None]
    assert ((key <= query) & (query < trie.ends_T) == expected).all()


@given(ROWS)
def test_runs_cover_the_line_and_end_where_their_subtrees_end(rows: list[np.ndarray]) -> None:
    trie = TokenTrie.build(rows)
    assert [run.start for run in trie.runs] == [0, *(run.stop for run in trie.runs[:-1])]
    for run in trie.runs:
        assert (trie.ends_T[run.start : run.stop] == run.stop_below).all()
        assert (np.diff(trie.positions_T[run.start : run.stop]) == 1).all()


@given(ROWS)
def test_the_line_does_not_depend_on_the_order_of_rows(rows: list[np.ndarray]) -> None:
    assert TokenTrie.build(rows).ids_T.tolist() == TokenTrie.build(rows[::-1]).ids_T.tolist()


def test_a_row_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        TokenTrie.build([np.array([1]), np.array([], dtype=np.int64)])
