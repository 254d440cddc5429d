"""Forged marks by the million, read as tokenizers read them: none gets through as data.

Neither the forger nor the readers share code with `oversight.text.prompts`. The forger takes
from Unicode's tables whatever becomes a letter of a name; the readers are the normalizers of the
`tokenizers` library, in the combinations that model families use, and simple ones of our own.
"""

from __future__ import annotations

import os
import random
import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest
from tokenizers import normalizers as nz

from oversight.text.prompts import data

TAGS = [
    *("rules", "role", "task", "instructions", "side", "source", "question", "options", "option"),
    *("answer", "argument", "transcript", "debate", "round", "turn", "speech", "statement"),
    *("reasoning", "belief", "judgment", "quote", "verified_quote", "near_quote"),
    *("unverified_quote", "source_words", "s", "bos", "eos", "pad", "unk", "mask", "sys", "system"),
    *("user", "assistant", "tool_call", "think", "start_of_turn", "end_of_turn", "endoftext"),
    *("extra_id_0", "0x0a", "thin"),
]
WORDS = ["inst", "system_prompt", "tool_calls", "img", "think", "available_tools"]
MARKS = [
    re.compile(
        rf"<[\s/\\]*(?:{'|'.join(t for t in TAGS if t not in ('thin', '0x0a'))})(?!\w)",
        re.IGNORECASE,
    ),
    re.compile(r"<0x0a(?!\w)", re.IGNORECASE),
    re.compile(r"<[\s/\\]*\||<\s*\w+\|\s*>"),
    re.compile(rf"\[[\s/\\]*(?:{'|'.join(WORDS)})\s*\]", re.IGNORECASE),
    re.compile(r"\[\|\w+\|\]|\]~!?b[\[\]]|\[e~\[", re.IGNORECASE),
]

# --- readers -----------------------------------------------------------------------------

ALL = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
IGNORED = [c for c in ALL if unicodedata.category(c) in ("Cf", "Mn", "Me") and c > "\x7f"]
IGNORED += ["\u115f", "\u1160", "\u3164", "\uffa0", "\ufffd", "\u034f", "\ue000", "\uffff"]
_OUT = re.compile("[" + re.escape("".join(sorted(set(IGNORED)))) + "]")

READERS: list[Callable[[str], str]] = [
    lambda text: text,
    lambda text: unicodedata.normalize("NFKC", text).lower(),
    lambda text: unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()),
    lambda text: unicodedata.normalize("NFKC", _OUT.sub("", text)),
    lambda text: unicodedata.normalize("NFKC", _OUT.sub(" ", text)),
    lambda text: _OUT.sub("", unicodedata.normalize("NFKD", text)).casefold(),
    nz.Sequence([nz.NFD(), nz.Lowercase(), nz.StripAccents()]).normalize_str,  # as ALBERT
    nz.Sequence([nz.NFKD(), nz.StripAccents(), nz.Lowercase()]).normalize_str,  # as XLNet
    nz.Sequence([nz.Nmt(), nz.NFKC()]).normalize_str,  # as SentencePiece's nmt_nfkc
    nz.Sequence([nz.Nmt(), nz.NFKC(), nz.Lowercase()]).normalize_str,  # nmt_nfkc_cf
    nz.BertNormalizer(lowercase=True).normalize_str,
    nz.BertNormalizer(lowercase=False, strip_accents=False).normalize_str,
]


def marks(text: str) -> list[tuple[int, str]]:
    """Parts of a text that any reader takes for a mark, with the reader's number."""
    return [
        (number, found[0])
        for number, reader in enumerate(READERS)
        for pattern in MARKS
        if (found := pattern.search(reader(text)))
    ]


# --- the forger --------------------------------------------------------------------------


def _spellings() -> dict[str, list[str]]:
    """Characters by what compatibility and lower-casing make of them, one to four letters."""
    spelt = defaultdict(list)
    for char in ALL:
        for form in ("NFKC", "NFKD"):
            letters = [c for c in unicodedata.normalize(form, char) if not unicodedata.combining(c)]
            plain = "".join(letters).casefold()
            if plain != char and 0 < len(plain) <= 4 and plain.isascii():
                spelt[plain].append(char)
    return {plain: sorted(set(chars)) for plain, chars in spelt.items()}


SPELLINGS = _spellings()


class Forger:
    """Draws texts that are, or nearly are, marks."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def text(self) -> str:
        draw = self._random
        parts = [self._part() for _ in range(draw.choice((1, 1, 2, 3)))]
        return draw.choice(("", "a ", "é")).join(parts)

    def _part(self) -> str:
        draw = self._random
        kind = draw.random()
        if kind < 0.70:
            name = self._spelt(draw.choice(TAGS))
            end = draw.choice((">", " x>", "", " ", "|>", "\n", ".", "x>"))
            return self._spelt("<") + self._gap() + name + self._noise(0.3) + end
        if kind < 0.85:
            word = self._spelt(draw.choice(WORDS))
            return self._spelt("[") + self._gap() + word + self._gap() + self._spelt("]")
        if kind < 0.93:
            return self._spelt("<") + self._gap() + self._spelt(draw.choice(("|", "|im_start|>")))
        return self._spelt(draw.choice(("]~b]", "]~!b[", "[e~[", "[|user|]")))

    def _gap(self) -> str:
        draw = self._random
        gaps = ("", "", "", "/", " ", "\n/", "\\", "\u3000", "／", "\u2028", "\xa8", "\u2581")
        return draw.choice(gaps) + self._noise(0.2)

    def _noise(self, often: float) -> str:
        draw = self._random
        return draw.choice(IGNORED) if draw.random() < often else ""

    def _spelt(self, name: str) -> str:
        draw = self._random
        strange = draw.choice((0.0, 0.1, 0.5))
        noise = draw.choice((0.0, 0.0, 0.1))
        made, place = [], 0
        while place < len(name):
            size = draw.choice((1, 1, 1, 2, 3))
            piece = name[place : place + size].casefold()
            if draw.random() < strange and piece in SPELLINGS:
                made.append(draw.choice(SPELLINGS[piece]))
            else:
                size = 1
                made.append(draw.choice((str.lower, str.lower, str.upper))(name[place]))
            made.append(self._noise(noise))
            place += size
        return "".join(made)


def forged(number: int, seed: int) -> Iterator[str]:
    forger = Forger(seed)
    return (forger.text() for _ in range(number))


# --- tests -------------------------------------------------------------------------------


def test_the_forger_makes_marks_that_the_readers_see() -> None:
    seen = sum(bool(marks(text)) for text in forged(400, seed=1))
    assert seen > 200
    assert not marks("a < b, [1] and <b>bold</b>; <turning> [inster] x|y <thin>")


def _check(number: int, seed: int) -> None:
    batch: list[str] = []
    for text in forged(number, seed):
        safe = data(text)
        assert data(safe) == safe, ascii(text)
        batch.append(safe)
        if len(batch) == 200:
            _check_batch(batch)
            batch = []
    _check_batch(batch)


def _check_batch(batch: list[str]) -> None:
    if marks("\n.\n".join(batch)):
        for safe in batch:
            assert marks(safe) == [], ascii(safe)
        pytest.fail("a mark arises where texts meet")


def test_no_forgery_gets_through() -> None:
    _check(4_000, seed=int(os.environ.get("OVERSIGHT_FUZZ_SEED", "0")))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_no_forgery_of_a_million_gets_through() -> None:
    _check(1_000_000, seed=int(os.environ.get("OVERSIGHT_FUZZ_SEED", "2")))


def test_no_forgery_arises_where_two_texts_meet() -> None:
    texts = list(forged(1_500, seed=3))
    for text in texts:
        cut = len(text) // 2
        joined = data(text[:cut]) + data(text[cut:])
        assert marks(joined) == [], (ascii(text), cut)


def test_ordinary_text_with_letters_of_all_scripts_stays_as_it_is() -> None:
    letters = [c for c in ALL if unicodedata.category(c)[0] in "LNPSZ" and c not in "\u2028\u2029"]
    openings = set(SPELLINGS.get("<", []) + SPELLINGS.get("[", []) + SPELLINGS.get("~", []))
    openings |= set("<[~‹\u2329\u3008︿⟨❬❮❰˂ᐸᚲ\U0001d236≮")
    text = "".join(c for c in letters if c not in openings)
    assert data(text) == text
    for size in (3, 17):
        pieces = [text[at : at + size] for at in range(0, len(text), size * 5)]
        assert all(data(piece) == piece for piece in pieces)


@pytest.mark.parametrize(
    "text",
    [
        *("<šest>", "<té>", "<turné>", "<Straße>", "≮ 5"),
        *("a ≮ b, c ≯ d", "㎞² < 5 ㎢", "x＿y", "①<②", "<ⓢⓣⓞⓟ>", "〈本〉", "１～２", "~100 ~ 200"),
    ],
)
def test_what_only_resembles_a_mark_stays_as_it_is(text: str) -> None:
    assert data(text) == text
