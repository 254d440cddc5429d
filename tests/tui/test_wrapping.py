"""Lines of a text at a width, and their pieces."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from oversight.tui.marking import MarkedText, StyledSpan, pieces, with_matches, wrap

words = st.text(alphabet="ab  \n字e\u0301,\u2764\ufe0f\u200d\U0001f469", max_size=120)


@given(words, st.integers(2, 30))
@example("e\u0301字a", 2)
def test_lines_fit_and_lose_only_spaces_at_their_ends(text, width):
    lines = wrap(text, width)

    assert all(cell_len(text[start:end]) <= width for start, end in lines)
    assert [c for start, end in lines for c in text[start:end] if not c.isspace()] == [
        c for c in text if not c.isspace()
    ]
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(lines))


@given(words, st.integers(2, 30), st.data())
def test_the_pieces_of_a_line_are_the_line(text, width, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    spans = tuple(StyledSpan(a, b, "s") for a, b in zip(cuts[::2], cuts[1::2], strict=False))
    marked = MarkedText(text, spans)
    first = 0
    for line in wrap(text, width):
        found, first = pieces(marked, line, first)
        assert "".join(piece for piece, _ in found) == text[slice(*line)]
        again, _ = pieces(marked, line)
        assert again == found


def test_a_line_breaks_at_spaces_and_a_long_word_where_it_must():
    text = "one two three abcdefghijkl"
    assert [text[a:b] for a, b in wrap(text, 7)] == ["one two", "three", "abcdefg", "hijkl"]


def test_wide_characters_take_two_cells():
    text = "字字字字"
    assert [text[a:b] for a, b in wrap(text, 5)] == ["字字", "字字"]


@given(words, st.data())
def test_matches_lie_over_what_a_text_had(text, data):
    cuts = (
        sorted(data.draw(st.sets(st.integers(0, len(text)), min_size=4, max_size=4)) or [0] * 4)
        if len(text) >= 4
        else [0, 0, 0, 0]
    )
    marked = MarkedText(text, (StyledSpan(cuts[0], cuts[2], "quote"),))
    over = with_matches(marked, [(cuts[1], cuts[3])], "match")
    styled = {place: span.style for span in over.spans for place in range(span.start, span.end)}

    for place in range(cuts[0], cuts[3]):
        assert styled[place] == ("match" if place >= cuts[1] else "quote")


@pytest.mark.parametrize("text", ["word " * 100_000, "x" * 500_000])
def test_half_a_million_characters_are_wrapped_in_linear_time(text):
    begin = time.perf_counter()
    wrap(text[: len(text) // 10], 80)
    tenth = time.perf_counter() - begin
    begin = time.perf_counter()
    wrap(text, 80)
    assert time.perf_counter() - begin < max(40 * tenth, 2.0)
