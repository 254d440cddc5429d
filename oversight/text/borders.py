"""Words and their borders: where a quote may begin and end, and how many words it has.

A border is stricter than a change from letter to space, as a quote that
begins or ends inside a compound can turn its sense: "can" is no quote from
"can't", nor "violent" from "non-violent", nor "500 men" from "1,500 men", nor
"5 degrees" from "-5 degrees".
"""

from __future__ import annotations

import re
import unicodedata

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
"""Letters of scripts that put no spaces between words: each counts as a word."""

WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
"""A word, to count and to look up."""

_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_JOINERS = "'’ʼ-‐‑"
_DIGIT_JOINERS = ".,:"
_SIGNS = "-−"


def is_border(text: str, place: int) -> bool:
    """True if a word may begin or end before `text[place]`; both ends of the text are borders."""
    if place <= 0 or place >= len(text):
        return True
    before, after = text[place - 1], text[place]
    if before.isspace() or after.isspace():
        return True
    if _is_mark(after):
        return False
    if _is_word(before) and _is_word(after):
        return _IS_UNSPACED.match(before) is not None or _IS_UNSPACED.match(after) is not None
    return not (_joined(text, place - 1) or _joined(text, place) or _signed(text, place))


def _joined(text: str, place: int) -> bool:
    """True if the character at `place` holds the two beside it together as one word."""
    char = text[place]
    if char not in _JOINERS and char not in _DIGIT_JOINERS:
        return False
    before, after = text[place - 1 : place], text[place + 1 : place + 2]
    if char in _DIGIT_JOINERS:
        return before.isdigit() and after.isdigit()
    return _is_word(before) and _is_word(after)


def _signed(text: str, place: int) -> bool:
    """True if the number that begins at `place` has its sign before it."""
    return text[place].isdigit() and text[place - 1] in _SIGNS


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_" or _is_mark(char)


def _is_mark(char: str) -> bool:
    return char > "\u02ff" and unicodedata.category(char)[0] == "M"
