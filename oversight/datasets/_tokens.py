"""From Penn Treebank tokens back to running text, with the place of every token in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SURFACE = {
    "-LSB-": "[",
    "-RSB-": "]",
    "-LRB-": "(",
    "-RRB-": ")",
    "-LCB-": "{",
    "-RCB-": "}",
    "``": '"',
    "''": '"',
    "`": "'",
}
"""Text of tokens that stand for a character."""

CLOSING = {".", ",", ";", ":", "?", "!", "...", "%", "°", ")", "]", "}", "-RSB-", "-RRB-", "-RCB-"}
END_QUOTES = {"''", "'", "'''"}
CLITICS = {"n't", "'s", "'m", "'d", "'ll", "'re", "'ve"}
TIGHT_LEFT = frozenset(CLOSING | END_QUOTES | CLITICS | {clitic.upper() for clitic in CLITICS})
"""Tokens that join the word before them."""

TIGHT_RIGHT = frozenset(["``", "`", "$", "£", "#", "-LSB-", "-LRB-", "-LCB-", "(", "[", "{"])
"""Tokens that the next word joins."""

CLIPPED = frozenset([("gon", "na"), ("wan", "na"), ("got", "ta"), ("'t", "is"), ("'t", "was")])
"""Pairs that the tokeniser cut in two without leaving a mark."""


@dataclass(frozen=True, slots=True)
class TokenText:
    """Running text, and where each token stands in it."""

    text: str
    spans: tuple[tuple[int, int], ...]
    """For each token its characters in `text`, end exclusive."""

    def characters(self, start: int, end: int) -> tuple[int, int]:
        """Characters of the tokens from `start` to `end` (exclusive), as human quotes give them.

        Raises:
            IndexError: The span holds no token, or tokens that are not there.
        """
        if not 0 <= start < end <= len(self.spans):
            raise IndexError(f"span [{start}, {end}) of {len(self.spans)} tokens")
        return self.spans[start][0], self.spans[end - 1][1]


def detokenise(tokens: Sequence[str]) -> TokenText:
    """The text that `tokens` were cut from, as far as they tell: spaces and quote marks restored.

    Line breaks stand as tokens of their own and are kept.
    """
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    length = 0
    before = "\n"
    for token in tokens:
        surface = SURFACE.get(token, token)
        if _spaced(before, token):
            pieces.append(" ")
            length += 1
        pieces.append(surface)
        spans.append((length, length + len(surface)))
        length += len(surface)
        before = token
    return TokenText("".join(pieces), tuple(spans))


def _spaced(before: str, token: str) -> bool:
    if before.isspace() or token.isspace() or not token:
        return False
    if token in TIGHT_LEFT or before in TIGHT_RIGHT:
        return False
    return (before.lower(), token.lower()) not in CLIPPED
