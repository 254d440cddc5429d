"""Approximate matching, held to the plain table of edits."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.text.quotes import align

WORDS = st.text(alphabet="abc ", min_size=1, max_size=12)


def distance(left: str, right: str) -> int:
    """Levenshtein distance, by the book."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        above, row[0] = row[0], i
        for j, b in enumerate(right, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]


@given(WORDS, st.text(alphabet="abc ", max_size=16))
def test_no_stretch_of_the_text_takes_fewer_edits(pattern: str, text: str) -> None:
    edits, start, end = align(pattern, text)
    assert 0 <= start <= end <= len(text)
    assert distance(pattern, text[start:end]) == edits
    stretches = {text[i:j] for i in range(len(text) + 1) for j in range(i, len(text) + 1)}
    assert edits == min(distance(pattern, stretch) for stretch in stretches)


@given(st.text(min_size=1, max_size=200), st.text(max_size=50), st.text(max_size=50))
def test_what_stands_in_the_text_takes_no_edits(pattern: str, before: str, after: str) -> None:
    edits, start, end = align(pattern, before + pattern + after)
    assert (edits, (before + pattern + after)[start:end]) == (0, pattern)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("we can't go", "so We can't go on", "We can't go"),
        ("the cat sat", "xx the cut sat xx", "the cut sat"),
        ("barked loudlx", "it barked loudly, then", "barked loudly"),
        ("he was guilty", "he was not guilty", "he was not guilty"),
    ],
)
def test_the_stretch_takes_in_what_was_changed_at_its_ends(
    pattern: str, text: str, found: str
) -> None:
    _, start, end = align(pattern, text)
    assert text[start:end] == found


def test_a_long_pattern_is_aligned_in_a_fraction_of_a_second() -> None:
    begin = time.process_time()
    align("ab" * 1000, "ba" * 3000)
    assert time.process_time() - begin < 0.5
