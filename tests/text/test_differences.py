"""Word-by-word differences lead from one text to the other and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.text.differences import Piece, differences, share_kept

WORDS = st.lists(st.sampled_from(["a", "b", "don't", ".", " ", "\n", "é", "x1"])).map("".join)


@given(WORDS, WORDS)
def test_pieces_make_both_texts(before: str, after: str) -> None:
    pieces = differences(before, after)

    assert "".join(p.text for p in pieces if p.change != "added") == before
    assert "".join(p.text for p in pieces if p.change != "removed") == after
    assert all(p.text for p in pieces)


def test_a_word_is_changed_whole() -> None:
    assert differences("He can't swim.", "He can swim well.") == (
        Piece("kept", "He "),
        Piece("removed", "can't"),
        Piece("added", "can"),
        Piece("kept", " swim"),
        Piece("added", " well"),
        Piece("kept", "."),
    )


def test_words_that_follow_one_another_are_one_change() -> None:
    assert differences("Hit it hard now.", "Warm the lid gently now.") == (
        Piece("removed", "Hit it hard"),
        Piece("added", "Warm the lid gently"),
        Piece("kept", " now."),
    )


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [("a b c", "a b c", 1.0), ("a b", "c d", 0.0), ("", "", 1.0), ("a b", "a c", 0.5)],
)
def test_the_share_of_kept_words(before: str, after: str, share: float) -> None:
    assert share_kept(before, after) == pytest.approx(share)
