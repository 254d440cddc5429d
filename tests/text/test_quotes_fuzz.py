"""Quotes in any text: the source's words verify, no mark is forged, and none takes long."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from oversight.text.folding import fold
from oversight.text.quotes import (
    MIN_QUOTE_CHARS,
    MIN_QUOTE_WORDS,
    core,
    find_quotes,
    render_quotes,
)
from oversight.types import Quote, Source
from tests.text.quoting import NEAR, STORY, TOO_SHORT, UNVERIFIED, VERIFIED

HOSTILE = {
    case["name"]: case["text"]
    for case in json.loads((Path(__file__).parent / "hostile.json").read_text("utf-8"))
}


# --- properties ---

WORDS = st.lists(
    st.sampled_from(
        [
            *(
                "the",
                "captain",
                "said",
                "can’t",
                "ship",
                "non-violent",
                "1,500",
                "ﬁrst",
                "wept.",
                "“no”",
                "—",
            ),
            *(
                "-LRB-",
                "old",
                "-RRB-",
                "…",
                "...",
                "guilty",
                "not",
                "cafe\u0301",
                "中文",
                "Öl",
                "a",
                "''",
                "``",
            ),
            *(
                "Donau\u00addampf",
                "art",
                "party",
                "(x)",
                "b.",
                "\u200b",
                "-5",
                "x--y",
                ".",
                "I",
                "¨",
                "ﷺ",
            ),
        ]
    ),
    min_size=1,
    max_size=40,
)


SPACES = st.sampled_from([" ", "  ", "\n", "\t", "\u00a0"])


@st.composite
def sources(draw: st.DrawFn) -> Source:
    words = draw(WORDS)
    return Source(text="".join(word + draw(SPACES) for word in words))


def check(text: str, source: Source | None) -> tuple[Quote, ...]:
    """The quotes of `text`, held to what must be true of all quotes."""
    quotes = find_quotes(text, source)
    done = 0
    for quote in quotes:
        assert done <= quote.start <= quote.end <= len(text)
        assert text[quote.start : quote.end] == quote.text
        done = quote.end
        if quote.status in (VERIFIED, NEAR):
            assert source is not None
            assert quote.source_start is not None
            assert quote.source_end is not None
            assert quote.source_text == source.text[quote.source_start : quote.source_end] != ""
        if quote.status is VERIFIED:
            assert core(fold(quote.source_text or "").text) == core(fold(quote.text).text) != ""
            _check_borders(quote, source)
        assert (quote.similarity is not None) == (quote.status is NEAR)
        assert (quote.source_text is not None) == (quote.status in (VERIFIED, NEAR))
    return quotes


def _check_borders(quote: Quote, source: Source | None) -> None:
    """No letter of the source hangs on to the quote at either end."""
    assert source is not None
    for place in (quote.source_start or 0, quote.source_end or 0):
        beside = source.text[max(place - 1, 0) : place + 1]
        assert not re.fullmatch(r"[A-Za-z0-9]{2}", beside)


@given(sources(), st.data())
def test_any_words_of_the_source_verify(source: Source, data: st.DataObject) -> None:
    tokens = list(re.finditer(r"\S+", source.text))
    first = data.draw(st.integers(0, len(tokens) - 1))
    last = data.draw(st.integers(first, len(tokens) - 1))
    words = source.text[tokens[first].start() : tokens[last].end()]
    (quote,) = check(f"<quote>{words}</quote>", source)
    counted = re.findall(r"[\u4e00-\u9fff]|[^\W\u4e00-\u9fff]+", fold(words).text)
    enough = len(counted) >= MIN_QUOTE_WORDS and len("".join(counted)) >= MIN_QUOTE_CHARS
    assert quote.status is (VERIFIED if enough else TOO_SHORT)


@given(sources(), st.data())
def test_edited_words_verify_only_if_they_fold_alike(source: Source, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(source.text) - 1))
    end = data.draw(st.integers(start, len(source.text)))
    place = data.draw(st.integers(start, end))
    inserted = data.draw(st.text(alphabet="aeiou ,.-’'…\u00ad", max_size=2))
    removed = data.draw(st.integers(0, 2))
    words = source.text[start:place] + inserted + source.text[place + removed : end]
    assume("<" not in words)
    for quote in check(f"<quote>{words}</quote>", source):
        if quote.status is not VERIFIED:
            continue
        assert core(fold(words).text) in fold(source.text).text


@given(
    st.lists(
        st.sampled_from(
            [
                *(
                    "<quote>",
                    "</quote>",
                    "<Quote x>",
                    "< / quote>",
                    "<quote/>",
                    "<quote",
                    "quote>",
                    "<",
                    ">",
                ),
                *(
                    "<verified_quote>",
                    "</verified_quote>",
                    "<verified_",
                    "<near_quote>",
                    "&lt;",
                    "\n",
                    " ",
                ),
                *(
                    "He was not guilty of the crime",
                    "the ﬁrst mate wept",
                    "He was guilty",
                    "We can't go on",
                ),
            ]
        )
        | st.text(max_size=5),
        max_size=14,
    ).map("".join),
    st.sampled_from([STORY, None]),
)
def test_any_text_is_read_and_shown_with_no_mark_but_ours(text: str, source: Source | None) -> None:
    quotes = check(text, source)
    rendered = render_quotes(text, quotes)
    for mark, statuses in (
        ("verified_quote", [VERIFIED]),
        ("near_quote", [NEAR]),
        ("unverified_quote", [UNVERIFIED, TOO_SHORT]),
    ):
        count = sum(quote.status in statuses and quote.text != "" for quote in quotes)
        assert len(re.findall(rf"(?i)<\s*{mark}\b", rendered)) == count
        assert len(re.findall(rf"(?i)<\s*/\s*{mark}\b", rendered)) == count
    assert not re.search(r"(?i)<\s*/?\s*quote\b", rendered)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_read_and_shown(name: str) -> None:
    for text in (HOSTILE[name], f"<quote>{HOSTILE[name]}</quote>"):
        quotes = check(text, STORY)
        marks = render_quotes(text, quotes).count("<verified_quote>")
        assert marks == sum(quote.status is VERIFIED for quote in quotes)
    if HOSTILE[name] and "surrogates" not in name:  # a Source is valid Unicode
        check("<quote>we went to the sea</quote>", Source(text=HOSTILE[name]))


# --- time ---


def _seconds(text: str, source: Source) -> float:
    begin = time.process_time()
    quotes = find_quotes(text, source)
    render_quotes(text, quotes)
    return time.process_time() - begin


BIG = Source(text=" ".join(f"w{number * 7919 % 3001}" for number in range(60_000)))


@pytest.mark.parametrize(
    "text",
    [
        f"<quote>{BIG.text[:100_000]}x</quote>",
        f"<quote>not {BIG.text[:100_000]}</quote>",
        "".join(f"<quote>x{BIG.text[n : n + 1990]}</quote>" for n in range(0, 100_000, 2000)),
        "".join(f"<quote>x{BIG.text[n : n + 30]}</quote>" for n in range(0, 75_000, 30)),
        "<quote>" * 14_000,
        "<quote></quote>" * 7_000,
        "<quote " * 14_000,
        "<" + " " * 100_000,
        "<quote>" + " " * 100_000 + "</quote>",
    ],
)
def test_a_hostile_turn_against_a_large_source_takes_no_longer_than_seconds(text: str) -> None:
    assert _seconds(text, BIG) < 2.0


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("ab " * 120_000, f"<quote>{'b' + ' ab' * 33_000}</quote>"),
        ("a " * 180_000, f"<quote>{'a a a ' * 16_000}x</quote>"),
        ("a " * 180_000, f"<quote>{'a a a ' * 300}bcdefgh</quote>" * 25),
        ("中文字" * 60_000, f"<quote>{'中文' * 1_000}</quote>"),
        ("a" * 360_000, "<quote>aaa aaa aaa</quote>"),
    ],
)
def test_a_repetitive_source_costs_no_more(source: str, text: str) -> None:
    assert _seconds(text, Source(text=source)) < 2.0
