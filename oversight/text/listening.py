"""The public words of an answer while it is still being written, for a live display."""

from __future__ import annotations

import re

from oversight.text.thought_marks import (
    CLOSING,
    FLAGS,
    LONGEST_MARK,
    SAME,
    closes,
    is_blank,
    marks,
)
from oversight.text.thoughts import BARE_BORDER, SPACED_CHANNEL, divide

_MARK_START = re.compile(r"[<\[◁＜［&\\`~]")
_UNFINISHED = re.compile(
    r"(?:<\|(?:channel|start|open)\|>(?:(?!<\|(?:message|sep)\|>).)*|<\|channel>\w*"
    r"|(?:[`*_]{1,3})?(?:[<\[◁＜［]|\\<|&(?:l(?:t;?)?)?)[^>\]▷＞］]*"
    r"|[`*_\\]{1,3}|(?:\A|\n)[ \t]*[`~]{3}[^\n]*)\Z",
    re.DOTALL,
)
"""The end of a text that may become a mark."""
_BEGINNINGS = (
    *("assistantanalysis", "assistantcommentary", "assistantfinal", "analysis", "commentary"),
    *("final", "here is my thought process:", "here's my thought process:"),
    *("here’s my thought process:", "here are my reasoning steps:"),
)
_ENDS_MARKED = re.compile(rf"(?:{CLOSING})[`*_\s]*\Z", FLAGS)


def _first_unclosed(text: str) -> int:
    """Where the first opening mark stands that no closing one goes with; the end if none does.

    Whether it is a mark, or a word about marks, may depend on what follows.
    """
    opened: list[int] = []
    for mark in marks(text):
        if not closes(mark):
            opened += [] if mark["empty"] else [mark.start()]
        elif opened:
            opened.pop()
    return opened[0] if opened else len(text)


class Listener:
    """Follows an answer while it grows and gives its public words, for a live display.

    Nothing is shown that may still turn out to be a thought. Where it is not known whether the
    prompt opened one, that is the whole answer until its end.
    """

    def __init__(self, opened: bool | None) -> None:
        self._opened = opened
        self._heard = ""
        self._shown = ""
        self._is_plain = False
        """No mark has been seen, nor the beginning of one."""

    def add(self, piece: str) -> str:
        """The words that may be shown now that `piece` was written."""
        self._heard += piece
        if self._opened is None:
            return ""
        if self._is_plain and not _MARK_START.search(piece):
            return self._show(self._heard)
        settled = self._settled()
        found = divide(settled, self._opened)
        self._is_plain = found.text == self._heard
        return self._show(found.text)

    def end(self, said: str) -> str:
        """The words still to be shown of an answer that says `said`."""
        return self._show(said)

    def _settled(self) -> str:
        """The answer up to where a mark may have begun that is not complete yet."""
        head = self._heard.lstrip().lower()
        if any(beginning.startswith(head) for beginning in _BEGINNINGS):
            return ""
        if SPACED_CHANNEL.match(self._heard) and not BARE_BORDER.search(self._heard):
            return ""
        start = max(0, len(self._heard) - LONGEST_MARK)
        found = _UNFINISHED.search(self._heard, start)
        text = self._heard[: found.start()] if found else self._heard
        text = text[: _first_unclosed(text)].rstrip("`*_")
        is_stray = _ENDS_MARKED.search(text.translate(SAME)) is not None  # until words follow
        return "" if is_stray or is_blank(text) or text.strip() == "assistant" else text

    def _show(self, said: str) -> str:
        said = said.strip()
        if not said.startswith(self._shown):
            return ""
        piece, self._shown = said[len(self._shown) :], said
        return piece
