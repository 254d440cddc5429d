"""Numbers as judges write them: characters of any script made plain, per cent, fractions, words."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple


class Number(NamedTuple):
    """A number as it was written."""

    value: float
    percent: bool
    """True with a percent sign, or out of 100."""
    point: bool
    """True with a decimal point, or for a fraction."""


_SIGNS = str.maketrans(
    {
        **dict.fromkeys("“”„«»", '"'),
        **dict.fromkeys("‘’", "'"),
        **dict.fromkeys("∶꞉︓", ":"),
        **dict.fromkeys("∼≈≃≅", "~"),
        **dict.fromkeys("→⇒➔", "→"),
        **dict.fromkeys("│｜", "|"),
        "٪": "%",
        "٫": ".",
        "−": "-",
        "、": ",",
        "。": ".",
    }
)
_SAME_CHARACTER = ("<wide>", "<narrow>", "<small>", "<font>", "<noBreak>")


def fold(text: str) -> str:
    """`text` with full-width, bold and foreign forms of digits, letters and signs made plain.

    Superscripts stay what they are: `70²` is not 702.
    """
    return _SPELT.sub(_in_digits, "".join(map(_folded, text)).translate(_SIGNS))


_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_VALUES = {word: value for value, word in enumerate(_SMALL)} | {
    word: 10 * place for place, word in enumerate(_TENS, start=2)
}
_SPELT = re.compile(
    rf"(?<![\w-])(?<!hundred )(?<!and )(?:(?P<tens>{'|'.join(_TENS)})"
    rf"(?:[-\s](?P<ones>{'|'.join(_SMALL[1:10])}))?"
    rf"|(?P<small>{'|'.join(_SMALL)})|(?:an?|one)\s+hundred)(?=\s*(?:%|per\s?cent\b))",
    re.IGNORECASE,
)
"""A whole number of per cent in words."""


def _in_digits(match: re.Match[str]) -> str:
    words = [word.lower() for word in match.groups() if word]
    return str(sum(map(_VALUES.__getitem__, words)) if words else 100)


@lru_cache(maxsize=4096)
def _folded(char: str) -> str:
    if char.isascii():
        return char
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category == "Cf":
        return ""
    if category == "Zs":
        return " "
    if unicodedata.decomposition(char).startswith(_SAME_CHARACTER):
        return unicodedata.normalize("NFKC", char)
    return char


_UNIT = (
    r"(?:%|percent\b|per\s+cent\b|pct\b|/\s*100\b(?!\s*%)|out\s+of\s+100\b"
    r"|(?:/|out\s+of)\s*(?P<parts>[2-9]|1\d|2[05])\b(?!\s*%|[.,/:]?\d))"
)
NUMBER = rf"(?P<number>\d{{1,3}}(?:[.,]\d{{1,12}})?|[.,]\d{{1,12}})(?!\d)\s*(?P<unit>{_UNIT})?"
ABOUT = (
    r"(?:(?:about|around|approximately|approx\.?|roughly|circa|ca\.|nearly|almost|exactly|only|just"
    r"|an?\s+estimated|probability\s*[:=]?|~|[\[(\"']|<(?=[~\d.,]+\s*%?\s*>))\s*)*"
)


def parse_number(match: re.Match[str]) -> Number | None:
    """The number that was matched; None if its comma may separate thousands, or past its parts."""
    written = match["number"]
    if re.fullmatch(r"[1-9]\d*,\d{3}", written):
        return None
    value = float(written.replace(",", "."))
    if parts := match["parts"]:
        return Number(value / int(parts), False, True) if value <= int(parts) else None
    return Number(value, bool(match["unit"]), "." in written or "," in written)


WORDS = (
    r"(?:\s*\b(?:likely|probable|probability|chances?|likelihood|confident|confidence|certain"
    r"|certainty|sure|belief|(?:of\s+being|to\s+be|likely\s+to\s+be|that\s+(?:it|this)\s+is)\s+"
    r"(?:right|correct|true)|right|correct)\b)*"
)
CLOSED = r"[\"')\]>]{0,4}"
_WHOLE_NUMBER = re.compile(rf"\s*{ABOUT}{NUMBER}{CLOSED}{WORDS}\s*\.?\s*", re.IGNORECASE)


def whole_number(text: str) -> Number | None:
    """The number that `text` is, if it is nothing else."""
    match = _WHOLE_NUMBER.fullmatch(text) if len(text) < 100 else None
    return None if match is None else parse_number(match)
