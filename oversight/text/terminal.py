"""The one sanitiser for what a screen shows: nothing foreign steers the terminal or hides in it.

Characters without a picture of their own are shown as marks: control characters
(escape sequences begin with them, in 7 or 8 bits), bidirectional and other
format characters, invisible ones, line separators, lone surrogates, private
use, and code points that Unicode has not assigned. Nothing is dropped.

Two exceptions. Emoji keep U+FE0F and up to three joiners a sequence, as they
are one picture and common; and keycaps are left whole. A joiner between
letters, as Persian and some Indian scripts have it, does become a mark: it
cannot be seen, and whether it belongs there cannot be told without guessing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec

from rich.console import Console
from rich.style import Style
from rich.text import Text

from oversight.text.folding import INVISIBLE, picture

MAX_MARKS = 4
"""Combining marks that are shown on one letter; languages need up to three."""

_HIDDEN = frozenset(["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])
_INVISIBLE = re.compile(f"[{INVISIBLE}]")

_PICTOGRAPH = (
    "[©®‼⁉™ℹ〰〽㊗㊙\u2190-\u21ff\u2300-\u27bf\u2900-\u297f\u2b00-\u2bff\U0001f000-\U0001faff]"
)
_PART = rf"{_PICTOGRAPH}(?:\ufe0f|[\U0001f3fb-\U0001f3ff])?"
_EMOJI = re.compile(rf"({_PART}(?:\u200d{_PART}){{0,3}}|[0-9#*]\ufe0f\u20e3)")


class _Pictures(dict[int, str]):
    """Table for str.translate: each character as it is shown, filled as characters are met."""

    def __init__(self, kept: str) -> None:
        super().__init__({ord(char): char for char in kept})

    def __missing__(self, code: int) -> str:
        shown = _shown(chr(code))
        if len(self) < _MAX_REMEMBERED:
            self[code] = shown
        return shown


_MAX_REMEMBERED = 20_000
"""Characters in a table: a text that holds all of Unicode shall not fill the memory."""

_WITH_NEWLINES = _Pictures("\n\t")
_ONE_LINE = _Pictures("")
_WITHIN_EMOJI = _Pictures("\u200d\ufe0f")


def visible(text: str, *, newlines: bool = True) -> str:
    """`text` with everything that a terminal would obey or not show made visible.

    Control characters become their pictures (`␛`), others a code in brackets
    (`⟨U+202E⟩`). More than `MAX_MARKS` combining marks in a row become
    `⟨+12 marks⟩`, and a mark on nothing sits on `◌`. Without `newlines`,
    newlines and tabs become pictures as well. Linear in the length of `text`.
    """
    table = _WITH_NEWLINES if newlines else _ONE_LINE
    if text.isascii():
        return text if text.isprintable() else text.translate(table)
    if "\ufe0f" in text or "\u200d" in text:
        pieces = _EMOJI.split(text)
        pieces[::2] = [piece.translate(table) for piece in pieces[::2]]
        pieces[1::2] = [piece.translate(_WITHIN_EMOJI) for piece in pieces[1::2]]
        text = "".join(pieces)
    else:
        text = text.translate(table)
    return _marks().sub(_limited, text)


def rich_text(text: str, style: str | Style = "") -> Text:
    """`text` made visible, for rich and textual; markup in it is literal."""
    return Text(visible(text), style=style)


def _shown(char: str) -> str:
    category = unicodedata.category(char)
    if category not in _HIDDEN and not _INVISIBLE.match(char):
        return char
    if char < " " or char == "\x7f":
        return picture(char)
    return f"⟨U+{ord(char):04X}⟩"


def _limited(match: re.Match[str]) -> str:
    marks = match[0]
    place = match.start()
    base = "◌" if place == 0 or match.string[place - 1].isspace() else ""
    if len(marks) <= MAX_MARKS:
        return base + marks
    return f"{base}{marks[:MAX_MARKS]}⟨+{len(marks) - MAX_MARKS} marks⟩"


@cache
def _marks() -> re.Pattern[str]:
    """Combining marks in a row. Made at first use, as it asks Unicode's table about each."""
    low = "".join(filter(_is_mark, map(chr, range(0x300, 0x10000))))
    high = "".join(filter(_is_mark, map(chr, range(0x10000, 0x20000))))
    # Apart, as sets within the first 65,536 characters are bitmaps and the others lists.
    return re.compile(f"(?:[{low}]|(?=[\U00010000-\U0001ffff])[{high}])+")


def _is_mark(char: str) -> bool:
    return unicodedata.category(char)[0] == "M"


def can_redraw(console: Console) -> bool:
    """True where a bar is drawn again in its place: on a terminal, in a notebook with ipywidgets.

    In a notebook without them each change would leave a warning among the cell's outputs.
    """
    if console.is_jupyter:
        return find_spec("ipywidgets") is not None
    return console.is_terminal


def tell(lines: Iterable[str]) -> None:
    """Print lines on stderr, such as what is trained on."""
    console = Console(stderr=True)
    for line in lines:
        console.print(rich_text(line), soft_wrap=True, highlight=False)


def code_span(text: str) -> str:
    """Foreign text as a code span of Markdown, whatever it holds."""
    line = " ".join(text.split()) or "–"
    ticks = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " * (len(ticks) > 1)
    return f"{ticks}{pad}{line}{pad}{ticks}"
