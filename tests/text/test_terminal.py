"""Text on a screen: nothing that a terminal obeys, nothing that hides, nothing dropped."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oversight.text.folding import INVISIBLE
from oversight.text.terminal import MAX_MARKS, rich_text, visible

HOSTILE = {
    case["name"]: case["text"]
    for case in json.loads((Path(__file__).parent / "hostile.json").read_text("utf-8"))
}
SELECTORS = "\u200d\ufe0f"
SYMBOLS = ("So", "Sm", "Sk", "Po", "Pd", "Nd")


def forbidden(text: str, kept: str = "\n\t") -> list[str]:
    """Characters that a screen must not be given; emoji's own two only directly after a symbol."""
    found = []
    before = ""
    for char in text:
        hidden = unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
        hidden = hidden or re.match(f"[{INVISIBLE}]", char) is not None
        symbol = before == "ℹ" or unicodedata.category(before or "a") in SYMBOLS
        after_emoji = char in SELECTORS and (symbol or before + char == "\ufe0f\u200d")
        if hidden and char not in kept and not after_emoji:
            found.append(char)
        before = char
    return found


MEAN = st.text(
    alphabet=st.sampled_from(
        "\x00\x07\x08\x0c\r\x1b\x7f\x85\x90\x9b\x9c\x9d\u00ad\u061c\u200b\u200c\u200d\u200e\u2028"
        "\u202e\u2066\ufe0f\ufeff\ufff9\ud800\udfff\ue000\uffff\u0301\u0489\u3164\U000e0041"
        "\U000e0100👩❤1#a é中\n\t[]m"
    )
)


@given(st.text() | MEAN)
@example("👩" + "\u200d👩" * 9)
@example("\ufe0f\u200d\ufe0f")
def test_nothing_forbidden_is_shown(text: str) -> None:
    assert forbidden(visible(text)) == []
    assert forbidden(visible(text, newlines=False), kept="") == []


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_shown_harmlessly(name: str) -> None:
    assert forbidden(visible(HOSTILE[name])) == []
    assert forbidden(rich_text(HOSTILE[name]).plain) == []


def test_every_character_of_unicode_alone_is_harmless() -> None:
    codes = [
        *range(0x20000),
        *range(0x20000, 0xE0000, 97),
        *range(0xE0000, 0xE1000),
        0xF0000,
        0x10FFFF,
    ]
    assert forbidden(visible("a".join(map(chr, codes)))) == []


@given(st.text() | MEAN)
def test_showing_what_is_shown_changes_nothing(text: str) -> None:
    assert visible(visible(text)) == visible(text)


@given(st.text() | MEAN)
def test_nothing_is_dropped(text: str) -> None:
    kept = [char for char in text if visible("a" + char) == "a" + char and not _is_mark(char)]
    rest = iter(visible(text))
    assert all(char in rest for char in kept)


@given(
    st.text(
        alphabet=st.characters(
            categories=["L", "N", "P", "S", "Zs"],
            exclude_characters="\u115f\u1160\u3164\uffa0\u2065",
        )
        | st.sampled_from("\n\t")
    )
)
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Hello, world!\n\tünïcödé — “quotes” … €",
        "中文 日本語 한국어 русский ελληνικά",
        "עברית العربية हिन्दी ไทย tiếng Việt Vie\u0302\u0323t",
        "👩‍👩‍👧‍👦 ❤️ 1️⃣ #️⃣ 🏴‍☠️ 👍🏽 🇫🇷 ❤️‍🔥 🧑🏻‍❤️‍💋‍🧑🏼",
        "שָׁלוֹם",
        "[bold]x[/bold] [/oops] \\[ &amp; <b>",
    ],
)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("\x1b]52;c;eA==\x07", "␛]52;c;eA==␇"),
        ("\x9b31m\x9d\x90\x9c", "⟨U+009B⟩31m⟨U+009D⟩⟨U+0090⟩⟨U+009C⟩"),
        ("a\rb\x7f", "a␍b␡"),
        ("safe\u202etxt.exe", "safe⟨U+202E⟩txt.exe"),
        ("a\u200bb\u00adc\ufeff", "a⟨U+200B⟩b⟨U+00AD⟩c⟨U+FEFF⟩"),
        ("a\ufe0f\U000e0041", "a⟨U+FE0F⟩⟨U+E0041⟩"),
        ("\ud800\ue000\uffff", "⟨U+D800⟩⟨U+E000⟩⟨U+FFFF⟩"),
        ("a\u2028b\u2029", "a⟨U+2028⟩b⟨U+2029⟩"),
        ("👩\u200d👩\u200d👩\u200d👩\u200d👩", "👩\u200d👩\u200d👩\u200d👩⟨U+200D⟩👩"),
        ("z" + "\u0301" * 16, "z" + "\u0301" * MAX_MARKS + "⟨+12 marks⟩"),
        ("\u0301a \u0301", "◌\u0301a ◌\u0301"),
    ],
)
def test_what_is_hidden_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_on_one_line_newlines_and_tabs_are_shown_too() -> None:
    assert visible("a\nb\tc", newlines=False) == "a␊b␉c"
    assert visible("é\nb\tc", newlines=False) == "é␊b␉c"


@given(st.text() | MEAN)
def test_marks_do_not_pile_up(text: str) -> None:
    piled = re.search(f"[\u0300-\u036f\u0483-\u0489]{{{MAX_MARKS + 1}}}", visible(text))
    assert piled is None


@pytest.mark.parametrize(
    "markup", ["[bold]x[/bold]", "[/oops]", "[@click=app.quit]x", "[red", "\\[x]", "[/"]
)
def test_markup_is_literal(markup: str) -> None:
    text = rich_text(markup, style="bold")
    assert text.plain == markup
    assert not text.spans
    assert text.style == "bold"


@pytest.mark.parametrize(
    "unit", ["a\n", "é", "\x1b[", "\u200d", "\ufe0f", "\u0301", "👩\u200d", "中", "\u0301 "]
)
def test_time_is_linear(unit: str) -> None:
    text = unit * (200_000 // len(unit))
    visible("warm é")
    begin = time.process_time()
    visible(text)
    assert time.process_time() - begin < 1.0


def _is_mark(char: str) -> bool:
    return unicodedata.category(char)[0] == "M"
