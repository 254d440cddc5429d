"""Borders of words: the places in a text where a word begins or ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.text.folding import WORD, is_border


@pytest.mark.parametrize(
    "text",
    [
        "the |cat| sat",
        "(|cat|)",
        "“|cat|,” he said",
        "|cat|—dog",
        "|cat|--dog",
        "dogs|' tails",
        "the |'90s",
        "it costs |$5|.",
        "|1918|–1939",
        "|中|文|字",
        "|ไทย| x",
        "x |e\u0301|.",
        "a |-5| b",
        "e.g.| x",
        "a/|b",
        "end.|Next",
    ],
)
def test_borders(text: str) -> None:
    places, plain = _marked(text)
    assert all(is_border(plain, place) for place in places)


@pytest.mark.parametrize(
    "text",
    [
        "p|art|y",
        "can|'t",
        "can'|t",
        "can|’t",
        "non-|violent",
        "non|-violent",
        "1,|500 men",
        "1|,500 men",
        "3.|5",
        "10:|30",
        "-|5 degrees",
        "−|5 degrees",
        "e|\u0301",
        "snake_|case",
        "ab|12",
        "일|본",
    ],
)
def test_no_borders(text: str) -> None:
    places, plain = _marked(text)
    assert not any(is_border(plain, place) for place in places)


@given(st.text(), st.integers(-3, 30))
def test_any_place_in_any_text_can_be_asked_about(text: str, place: int) -> None:
    known = is_border(text, place)
    assert known or 0 < place < len(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [("three little words", 3), ("中文字", 3), ("... — !", 0), ("don't", 2), ("", 0)],
)
def test_words_are_counted(text: str, count: int) -> None:
    assert len(WORD.findall(text)) == count


def _marked(text: str) -> tuple[list[int], str]:
    """Places of the bars in `text`, and the text without them."""
    pieces = text.split("|")
    places = [sum(map(len, pieces[: number + 1])) for number in range(len(pieces) - 1)]
    return places, "".join(pieces)
