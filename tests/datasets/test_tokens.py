from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.datasets.nyu import SURFACE, detokenise


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("I do n't know , she 's gone .", "I don't know, she's gone."),
        ("`` Stop ! '' he said .", '"Stop!" he said.'),
        ("`` He said ` no ' . ''", "\"He said 'no'.\""),
        ("-LSB- Note : see -LRB- 1 -RRB- -RSB-", "[Note: see (1)]"),
        ("magazines -- Sis is", "magazines -- Sis is"),
        ("Swarts ' steely eyes", "Swarts' steely eyes"),
        ("tell 'em so ... then", "tell 'em so... then"),
        ("pay $ 5.00 , or 20 %", "pay $5.00, or 20%"),
        ("I 'm gon na go", "I'm gonna go"),
        ("WO N'T", "WON'T"),
    ],
)
def test_running_text_is_restored(tokens, text):
    assert detokenise(tokens.split(" ")).text == text


def test_line_breaks_are_kept_without_spaces_around_them():
    assert detokenise(["One", ".", "\n", "\n", "``", "Two", "''"]).text == 'One.\n\n"Two"'


@given(st.lists(st.sampled_from([*SURFACE, "\n", "a", "n't", ".", "--", "'", "$", "Übel", "$5"])))
def test_every_token_stands_in_the_text_where_its_span_says(tokens):
    made = detokenise(tokens)
    assert [made.text[b:e] for b, e in made.spans] == [SURFACE.get(t, t) for t in tokens]
    between = [made.text[e:b] for (_, e), (b, _) in zip(made.spans, made.spans[1:], strict=False)]
    assert set(between) <= {"", " "}


def test_a_span_of_tokens_is_a_span_of_characters():
    made = detokenise(["He", "said", "``", "go", "''", "."])
    begin, end = made.characters(2, 5)
    assert made.text[begin:end] == '"go"'
    for start, stop in ((0, 0), (3, 2), (-1, 2), (0, 7)):
        with pytest.raises(IndexError):
            made.characters(start, stop)
