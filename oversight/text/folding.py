"""Folding: what counts as the same words, with the way back to the original's characters.

Two texts are the same words if their folds are equal. A fold takes

- a run of whitespace as one space, and invisible characters (soft hyphens,
  zero-width characters, variation selectors) as nothing;
- typographic quotation marks, guillemets, primes, doubled `''` and ` `` ` as
  `"` and `'`; all dashes, and runs of them, as `-`; ellipses, spaced or not, as `...`;
- bracket names of treebanks (`-LRB- x -RRB-`) as the brackets `(x)`;
- compatibility characters (ligatures, full-width forms, decomposed accents)
  as their NFKC form.

Case stays: "Polish" is not "polish", and a speaker who changes a capital is
shown a near miss that costs little.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

BIDI_CONTROLS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Characters that turn the direction of reading, so that a text reads other than it is stored."""

TAGS = "\U000e0000-\U000e007f"
"""An invisible copy of ASCII: models read it and people do not see it."""

UNSEEN = (
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u206a-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0080-\U000e0fff"
)
"""Others that leave no trace on a page: soft hyphens, joiners, selectors, fillers, annotations."""

INVISIBLE = UNSEEN + BIDI_CONTROLS + TAGS
"""Unicode's Default_Ignorable_Code_Point, and annotation marks."""

COMBINING = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20f0\ufe20-\ufe2f"
"""Marks that sit on, strike through or ring the letter before them."""

LOOKALIKES = str.maketrans(
    "аеорсухіѕјԁһԛѵтпикмвнοινυτρακεχηıօոս",
    "aeopcyxisjdhqvtnukmbnoivutpakexnionu",
)
"""Small letters of Cyrillic, Greek and Armenian (and ı) as the Latin letters they pass for."""


def picture(char: str) -> str:
    """The visible picture of a control character of ASCII (U+2400 block), such as `␛`."""
    return "\u2421" if char == "\x7f" else chr(0x2400 + ord(char))


_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
"""Letters of scripts that put no spaces between words: each counts as a word."""

WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
"""A word, to count and to look up."""

ASCII_WORD = re.compile(r"\w+", re.ASCII)
"""The same of a text in ASCII, and faster."""

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


_DOUBLE = "“”„‟«»″〝〞＂"
_SINGLE = "‘’‚‛′´＇"
_DASHES = "‐‑‒–—―−⸺⸻﹘﹣－"
_BRACKETS = {"LRB": "(", "RRB": ")", "LSB": "[", "RSB": "]", "LCB": "{", "RCB": "}"}

_OTHER = rf"^\x00-\x7f\s…{INVISIBLE}{_DOUBLE}{_SINGLE}{_DASHES}"
# The first character is taken before it is told apart by looking back at it: a set at the front
# lets the search skip over ordinary letters, and the spaces between words are the next to be
# done with, which is where its time goes.
_PIECE = re.compile(
    r"[^\x21-\x26\x28-\x2c\x2f-\x5f\x61-\x7e](?:(?<! )|(?![A-Za-z0-9]))(?:"
    r"(?<=-)(?:LRB|LSB|LCB)-\s*+(?P<opening>)"
    r"|(?:(?<=-)|(?<=\s)\s*+-)(?:RRB|RSB|RCB)-(?P<closing>)"
    rf"|(?<=[\s{INVISIBLE}])(?:[\s{INVISIBLE}]++|(?<! ))(?P<space>)"
    r"|(?:(?<=\.)(?:\.\.[.…]*+|(?: \.){2,}+)|(?<=…)[.…]*+)(?P<ellipsis>)"
    rf"|(?:(?<=')'|(?<=`)`|(?<=[{_DOUBLE}]))(?P<double>)"
    rf"|(?<=[{_SINGLE}])(?P<single>)"
    rf"|(?<=[-{_DASHES}])(?:[-{_DASHES}]++|(?<!-))(?P<dash>)"
    rf"|(?<=[{_OTHER}])[{_OTHER}]*+(?P<other>)"
    r")"
)
_KINDS = bytes(
    code if chr(code) in " -.`'" else ord("\n" if chr(code).isspace() else "a")
    for code in range(128)
) + bytes(128)
"""Of ASCII: where a match may begin as it is, white space as a newline, the rest as `a`."""
_HAS_SPACE = re.compile(r"\s")
_MARKS = {"ellipsis": "...", "double": '"', "single": "'", "dash": "-"}


@dataclass(frozen=True, slots=True)
class Folded:
    """A folded text, in stretches that lie in order over stretches of the original."""

    text: str
    starts: tuple[int, ...]
    """Start of each stretch in `text`; the first is 0."""
    origins: tuple[int, ...]
    """Start of each stretch in the original."""
    ends: tuple[int | None, ...]
    """End of each replaced stretch in the original; None if taken over as it is."""

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Span of `text[start:end]`, not empty, in the original; replaced stretches count whole."""
        first = bisect_right(self.starts, start) - 1
        last = bisect_right(self.starts, end - 1) - 1
        begin, stop = self.origins[first], self.ends[last]
        if self.ends[first] is None:
            begin += start - self.starts[first]
        return begin, self.origins[last] + end - self.starts[last] if stop is None else stop

    def cuts(self, place: int) -> bool:
        """True if `place` lies within a replaced stretch, where the original has no border."""
        index = bisect_right(self.starts, place) - 1
        inside = self.starts[index] < place < len(self.text)
        return inside and self.ends[index] is not None


def fold(text: str) -> Folded:
    """The fold of `text`. Linear in its length."""
    parts: list[str] = []
    starts: list[int] = []
    origins: list[int] = []
    ends: list[int | None] = []
    size = 0
    for begin, end, part in _stretches(text):
        starts.append(size)
        origins.append(begin)
        ends.append(end)
        parts.append(part)
        size += len(part)
    return Folded("".join(parts), tuple(starts), tuple(origins), tuple(ends))


def _pieces(text: str) -> Iterator[re.Match[str]]:
    """The matches of `_PIECE` in their order.

    In ASCII its search would stop behind each word. What is followed by a letter or the like and
    then begins no match is taken out of the way first.
    """
    if not text.isascii():
        yield from _PIECE.finditer(text)
        return
    kinds = text.encode().translate(_KINDS)
    for kind in (b" ", b".", b"`", b"'"):
        kinds = kinds.replace(kind + b"a", b"aa")
    places: list[int] = []
    for kind in (b"\n", b" ", b"-", b".", b"`", b"'"):
        place = kinds.find(kind)
        while place >= 0:
            places.append(place)
            place = kinds.find(kind, place + 1)
    done = 0
    for place in sorted(places):
        if place >= done and (match := _PIECE.match(text, place)):
            done = match.end()
            yield match


def _stretches(text: str) -> Iterator[tuple[int, int | None, str]]:
    """Origin, end if replaced, and fold of each stretch; only the last one may be empty."""
    done = 0
    for match in _pieces(text):
        for begin, end, part in _replacements(match, done):
            if begin > done:
                yield done, None, text[done:begin]
            if part:
                yield begin, end, part
            done = end
    yield done, None, text[done:]


def _replacements(match: re.Match[str], done: int) -> Iterator[tuple[int, int, str]]:
    """Replacement of one match: begin and end in the original, and the new text."""
    kind, found = match.lastgroup, match[0]
    if kind == "other":
        yield from _composed(match.string, match.start(), match.end(), done)
    elif kind in ("opening", "closing"):
        yield match.start(), match.end(), _BRACKETS[found.strip().strip("-")]
    elif kind == "space":
        yield match.start(), match.end(), " " if _HAS_SPACE.search(found) else ""
    else:
        yield match.start(), match.end(), _MARKS[str(kind)]


def _composed(text: str, begin: int, end: int, done: int) -> Iterator[tuple[int, int, str]]:
    """The characters of `text[begin:end]`, with the marks that sit on them, that NFKC changes."""
    if begin > done and _joins(text[begin]):
        begin -= 1
    if unicodedata.is_normalized("NFKC", text[begin:end]):
        return
    start = begin
    for place in range(begin + 1, end + 1):
        if place < end and _joins(text[place]):
            continue
        cluster = text[start:place]
        composed = unicodedata.normalize("NFKC", cluster)
        if composed != cluster:
            yield start, place, composed
        start = place


def _joins(char: str) -> bool:
    """True if a character belongs to the one before: a mark, or the rest of a Hangul syllable."""
    return unicodedata.category(char)[0] == "M" or "\u1160" <= char <= "\u11ff"
