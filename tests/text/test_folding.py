"""Folding: what counts as the same words, and the way back to the original's characters."""

from __future__ import annotations

import time
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oversight.text.folding import _PIECE, _pieces, fold

TYPOGRAPHY = st.lists(
    st.sampled_from(
        [
            *(" ", "  ", "\n", "\t", "\u00a0", "\u3000", "\u200b", "\u00ad", "\ufe0f"),
            *('"', "“", "''", "``", "'", "’", "«", "-", "--", "—", "‐", "...", "…", ". . .", "."),
            *(
                "-LRB-",
                " -RRB-",
                "-LSB- ",
                "LRB-",
                "(",
                "ﬁ",
                "ｗ",
                "e\u0301",
                "\u0301",
                "한",
                "\u1161",
                "¨",
            ),
            *("word", "a", "é", "中文", "ﷺ", "⑴", "\ud800"),
        ]
    ),
    max_size=14,
).map("".join)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("a  b\n\tc\u00a0d", "a b c d"),
        ("“Yes,” she said—‘no’", "\"Yes,\" she said-'no'"),
        ("``Yes,'' she said", '"Yes," she said'),
        ("«Oui»", '"Oui"'),
        ("wait -- what", "wait — what"),
        ("1914–1918", "1914-1918"),
        ("well… yes", "well... yes"),
        ("well . . . yes", "well ... yes"),
        ("the -LRB- old -RRB- ship", "the (old) ship"),
        ("he -LSB- the king -RSB-, said", "he [the king], said"),
        ("the ﬁrst oﬃce", "the first office"),
        ("ＡＢＣ１２３", "ABC123"),
        ("cafe\u0301", "café"),
        ("par\u00adty \u200bhat", "party hat"),
        ("\u1112\u1161\u11ab", "한"),
    ],
)
def test_two_ways_to_write_the_same_words_fold_alike(left: str, right: str) -> None:
    assert fold(left).text == fold(right).text


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Polish", "polish"),
        ("can't", "cant"),
        ("a b", "ab"),
        ("non-violent", "non violent"),
        ("wait...", "wait."),
        ("x2", "x²y"),
        ("resume", "résumé"),
    ],
)
def test_other_words_fold_apart(left: str, right: str) -> None:
    assert fold(left).text != fold(right).text


@given(TYPOGRAPHY | st.text())
@example("")
@example("\u00ad")
@example("e\u0301\u0301")
def test_every_stretch_of_the_fold_leads_back_to_what_folds_to_it(text: str) -> None:
    folded = fold(text)
    assert folded.starts[0] == 0
    places = [place for place in range(len(folded.text) + 1) if not folded.cuts(place)]
    whole = folded.span(0, len(folded.text)) if folded.text else (0, 0)
    assert fold(text[slice(*whole)]).text == folded.text
    for start, end in pairwise(places):
        begin, stop = folded.span(start, end)
        assert 0 <= begin < stop <= len(text)
        piece = text[begin:stop]
        assert folded.text[start:end] in (
            piece,
            fold(piece).text,
            unicodedata.normalize("NFKC", piece),
        )


@given(
    st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="'`-."))
)
def test_plain_words_are_their_own_fold(text: str) -> None:
    assert fold(text).text == text


@pytest.mark.parametrize(
    "unit",
    [" ", "a ", "-", "-LRB- ", " -RRB-", ".", ". ", "…", "'", "\u0301", "ﬁ", "é", "中", "\u200b"],
)
def test_time_is_linear(unit: str) -> None:
    text = unit * (200_000 // len(unit))
    begin = time.process_time()
    fold(text)
    assert time.process_time() - begin < 1.5


ASCII_PIECES = st.lists(
    st.sampled_from(
        [
            *(" ", "  ", "\n", "\t", "\x1c", "\x00", "'", "''", "`", "``", "-", "--"),
            *(".", "..", " . ", "-LRB-", " -RRB-", "RB-", "a", "word", "7"),
        ]
    ),
    max_size=20,
).map("".join)


@given(ASCII_PIECES | TYPOGRAPHY)
def test_the_short_way_through_ascii_finds_what_the_long_one_does(text: str) -> None:
    short = [(piece.span(), piece.lastgroup) for piece in _pieces(text)]
    assert short == [(piece.span(), piece.lastgroup) for piece in _PIECE.finditer(text)]
