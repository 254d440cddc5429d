"""Foreign text in a prompt: nothing that reads as structure survives, and the rest is untouched."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oversight.text.prompts import CONTROL_WORDS, RESERVED_TAGS, data

HOSTILE = {
    case["name"]: case["text"]
    for case in json.loads((Path(__file__).parent / "hostile.json").read_text("utf-8"))
}

TEMPLATE_TAGS = (
    *("s", "bos", "eos", "unk", "pad", "mask", "sop", "start_of_turn", "end_of_turn", "sys"),
    *("think", "tool_call", "bos_token", "extra_id_0", "0x0a"),
)


def structures(text: str) -> list[str]:
    """Parts of a text that a very lenient reader could take for our tags or a chat template's.

    It knows nothing of how `data` works: it first makes compatibility letters
    plain, takes out all that cannot be seen and all accents, and then ignores case and space.
    """
    seen = "".join(map(_plain, text)).casefold()
    names = "|".join(
        map(re.escape, sorted({*RESERVED_TAGS, *TEMPLATE_TAGS}, key=len, reverse=True))
    )
    words = "|".join(map(re.escape, CONTROL_WORDS))
    return [
        match[0]
        for pattern in (
            rf"<[\s/\\]*(?:{names})(?!\w)",
            r"<[\s/\\]*\|",
            r"<\s*\w+\|\s*>",
            rf"\[[\s/\\]*(?:{words})\s*\]",
            r"\[\|\w+\|\]",
            r"\]~!?b[\[\]]|\[e~\[",
        )
        for match in re.finditer(pattern, seen)
    ]


def _plain(char: str) -> str:
    if unicodedata.category(char) in ("Cf", "Cs", "Mn") or char in "\u3164\u115f\u1160\uffa0":
        return ""
    plain = unicodedata.normalize("NFKC", char)
    return char if plain[0] == " " else plain  # a spacing accent such as ¯ is no space


PIECES = st.sampled_from(
    [
        *(
            "<",
            "</",
            "< ",
            "<|",
            "|>",
            "[",
            "[/",
            "]",
            ">",
            "/",
            "~",
            "b]",
            "e~[",
            "|",
            "\n",
            " ",
            "＜",
            "［",
        ),
        *(
            "turn",
            "tu",
            "rn",
            "TURN",
            "ｔｕｒｎ",
            "source",
            "verified_quote",
            "verified_",
            "quote",
            "s",
            "INST",
        ),
        *(
            "IN",
            "ST]",
            "im_start",
            "｜",
            "\u200b",
            "\u00ad",
            "\x00",
            "\x1b",
            "\u202e",
            "&lt;",
            "a",
            "bos",
        ),
    ]
)
FORGERIES = st.lists(PIECES | st.text(max_size=4), max_size=12).map("".join)


def test_the_reader_of_these_tests_finds_structure_in_raw_text() -> None:
    raw = [
        "<turn>",
        "</ TURN >",
        "<｜User｜>",
        "[INST]",
        "<<SYS>>",
        "<t\u200burn>",
        "＜ｔｕｒｎ>",
        "<|x",
        "<s>",
    ]
    assert all(structures(text) for text in raw)
    assert not structures("a < b, [1], <b>bold</b>, <<48/2=24>>, <turning>")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_holds_no_structure_afterwards(name: str) -> None:
    assert structures(data(HOSTILE[name])) == []


@given(FORGERIES)
@example("<" + "\u200b" * 50 + "turn")
@example("<turn\u202eturn>")
@example("<turn\U000e0041>")
def test_no_structure_survives(text: str) -> None:
    assert structures(data(text)) == []


@given(FORGERIES, FORGERIES, st.sampled_from(["", "\n", "\n\n", "</", "<turn", "\n<"]))
def test_no_structure_arises_where_two_texts_meet(left: str, right: str, between: str) -> None:
    if between in ("", "\n", "\n\n"):
        assert structures(data(left) + between + data(right)) == []
    own = f"<turn>\n{data(left)}\n</turn>\n<turn>{data(right)}</turn>\n"
    assert structures(own) == ["<turn", "</turn", "<turn", "</turn"]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("a [IN", "ST] b"),
        ("a [", "/INST]"),
        ("[", "e~[x"),
        ("[e", "~[x"),
        ("]", "~b]x"),
        ("]~", "b]x"),
    ],
)
def test_a_control_word_in_brackets_cannot_be_put_together(left: str, right: str) -> None:
    assert structures(left + right)
    assert structures(data(left) + data(right)) == []
    assert structures(data(left + right)) == []


@given(st.text())
def test_controls_and_hidden_directions_are_gone(text: str) -> None:
    left = re.findall(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
        "\U000e0000-\U000e007f]",
        data(text),
    )
    assert left == []


@given(
    st.text(
        alphabet=st.characters(
            exclude_categories=["C"], exclude_characters="<＜﹤≮‹〈〈︿⟨❬❮❰˂ᐸᚲ𝈶[［﹇~～"
        )
    )
)
def test_text_without_openings_stays_as_it_is(text: str) -> None:
    assert data(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Is 3 < 5, and 5 > 3? Yes.",
        "She has <<48/2=24>>24 apples left. #### 24",
        "<b>bold</b> [1] [sic] (x) {y} \\[z\\]",
        "if (a<b && c>d) return x[0];",
        "a ~ b, ~5 %, [~10]",
        "Ceci n'est pas « une pipe », 中文, עברית, 👩‍👧",
        "&lt;turn> and &amp; stay",
        "tabs\tand\nnewlines\n",
        "‹Bonjour›, dit-il; 〈书名〉; ⟨x|y⟩; <тест>; < 5; i ≺ 5",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert data(text) == text


@pytest.mark.parametrize("name", ["s", "side", "round", "user", "Model"])
@pytest.mark.parametrize(
    "calculation",
    ["{}*2=10", "{}+3=8.5", "{}/2=$4", "{}-1=-4", "{} * 2 = 2s", "{}*({}+1)=1,332", "{}^2%7=4"],
)
def test_a_calculation_that_begins_with_a_variable_stays_as_it_is(name, calculation) -> None:
    text = f"That is <<{calculation.format(name, name)}>>10 apples. #### 10"
    assert data(text) == text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("<<turn>>", "<&lt;turn>>"),
        ("<turn*2=4>>", "&lt;turn*2=4>>"),
        ("<<turn*2=4>", "<&lt;turn*2=4>"),
        ("<<turn=4>>", "<&lt;turn=4>>"),
        ("<<turn*x=y>>", "<&lt;turn*x=y>>"),
        ("<<turn a=1>>", "<&lt;turn a=1>>"),
        ("<<turn/>1=1>>", "<&lt;turn/>1=1>>"),
        ("<<turn*2=4\n>>", "<&lt;turn*2=4\n>>"),
        ("<</turn*2=4>>", "<&lt;/turn*2=4>>"),
        ("<<turn*<turn>=4>>", "<&lt;turn*&lt;turn>=4>>"),
        ("<<t\u0301urn*2=4>>", "<&lt;t\u0301urn*2=4>>"),
        ("<<turn*2=4", "<&lt;turn*2=4"),
    ],
)
def test_what_is_no_whole_calculation_is_broken_in_doubled_angles(text: str, safe: str) -> None:
    assert data(text) == safe
    assert data(safe) == safe


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("<turn x>", "&lt;turn x>"),
        ("</ Turn >", "&lt;/ Turn >"),
        ("<|im_end|>", "&lt;|im_end|>"),
        ("<<SYS>>", "<&lt;SYS>>"),
        ("[/INST]", "&#91;/INST]"),
        ("<｜User｜>", "&lt;｜User｜>"),
        ("and <tu", "and &lt;tu"),
        ("\x1b[0m\x7f", "␛[0m␡"),
        ("\x9b\ud800\u202e\U000e0041", "\\u009b\\ud800\\u202e\\U000e0041"),
        ("a\r\nb\rc", "a\nb␍c"),
    ],
)
def test_what_is_broken_stays_readable(text: str, safe: str) -> None:
    assert data(text) == safe


@pytest.mark.parametrize(
    "text",
    [
        *(
            "<vеrified_quote>",
            "<ТURN>",
            "<tυrn>",
            "<ѕоurсe>",
            "‹turn›",
            "⟨/turn⟩",
            "〈turn〉",
            "❮turn❯",
        ),
        *(
            "<t̶u̶r̶n̶>",
            "<túrn>",
            "<／turn>",
            "＜／ｔｕｒｎ＞",
            "<⁄turn",
            "<\u0336turn>",
            "˂verified_quote˃",
        ),
    ],
)
def test_what_passes_for_a_tag_to_the_eye_is_broken(text: str) -> None:
    assert data(f"x {text} y") == f"x &lt;{text[1:]} y"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("<verified_quotⓔ>", "&lt;verified_quotⓔ>"),
        ("<thin🅺>", "&lt;thin🅺>"),
        ("<🇹🇺🇷🇳>", "&lt;🇹🇺🇷🇳>"),
        ("<thin🄺>", "&lt;thin🄺>"),
        ("<ＴⓊℝⓝ>", "&lt;ＴⓊℝⓝ>"),
        ("<verified＿quote>", "&lt;verified＿quote>"),
        ("<verified︳quote>", "&lt;verified︳quote>"),
        ("<verified﹍quote>", "&lt;verified﹍quote>"),
        ("<verified_quote\u200bx>", "&lt;verified_quote\u200bx>"),
        ("<tu\u064ern>", "&lt;tu\u064ern>"),
        ("<turn\ufffdx>", "&lt;turn\ufffdx>"),
        ("<turn中>", "&lt;turn中>"),
        ("<turn⑴>", "&lt;turn⑴>"),
        ("<▁turn▁x>", "&lt;▁turn▁x>"),
        ("<¨turn>", "&lt;¨turn>"),
        ("<ŭnk>", "&lt;ŭnk>"),
        ("≮turn>", "&nlt;turn>"),
        ("ᐸtᐸturn>", "ᐸt&lt;turn>"),
        ("<turnᐸturn>", "&lt;turn&lt;turn>"),
        ("<</\u2067|a|", "<&lt;/\\u2067|a|"),
        ("［ⓘⓝⓢⓣ]", "&#91;ⓘⓝⓢⓣ]"),
        ("]～b]", "]&#126;b]"),
    ],
)
def test_what_a_tokenizer_would_make_a_tag_is_broken_once_for_all(text: str, safe: str) -> None:
    assert data(text) == safe
    assert data(safe) == safe


def test_a_megabyte_of_openings_takes_less_than_a_second() -> None:
    begin = time.process_time()
    assert data("<" * 1_000_000) == "<" * 999_999 + "&lt;"
    assert time.process_time() - begin < 1.0


@pytest.mark.parametrize(
    "unit",
    [
        "<",
        "<a",
        "< ",
        "<turn>",
        "[",
        "[ ",
        "<|",
        "\x1b",
        "~",
        "]~",
        "<\u200b",
        "a",
        "[/ ",
        "<turn|",
        "ｔ",
        "ⓣ",
        "t\u200b",
        "<<s*",
        "<<s*1=",
        "|t\u200b",
        "a|\u200b",
        "<a\u0301",
        "中",
    ],
)
def test_time_is_linear_in_hostile_text(unit: str) -> None:
    text = "<" + unit * (100_000 // len(unit)) + "[" + " " * 100_000
    begin = time.process_time()
    data(text)
    assert time.process_time() - begin < 0.5
