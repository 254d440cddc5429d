"""Word-by-word differences between two texts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

WORDS = re.compile(r"\s+|\w+(?:['’-]\w+)*|[^\w\s]")

Change = Literal["kept", "removed", "added"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of words that one change concerns."""

    change: Change
    text: str


def differences(before: str, after: str) -> tuple[Piece, ...]:
    """The pieces that lead from one text to the other, what is removed before what is added.

    Without the removed pieces they are `after`, without the added ones `before`, character for
    character.
    """
    old, new = WORDS.findall(before), WORDS.findall(after)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return tuple(_joined(_pieces(matcher, old, new)))


def _pieces(
    matcher: difflib.SequenceMatcher[str], old: list[str], new: list[str]
) -> Iterator[Piece]:
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            yield Piece("kept", "".join(old[i1:i2]))
            continue
        if i1 < i2:
            yield Piece("removed", "".join(old[i1:i2]))
        if j1 < j2:
            yield Piece("added", "".join(new[j1:j2]))


def _joined(pieces: Iterator[Piece]) -> Iterator[Piece]:
    """Pieces in which a blank alone between two changes belongs to both of them."""
    held: list[Piece] = []
    for piece in pieces:
        held.append(piece)
    index = 0
    while index < len(held):
        piece = held[index]
        removed, added = "", ""
        while piece.change != "kept" or (
            not piece.text.strip() and (removed or added) and index + 1 < len(held)
        ):
            removed += piece.text if piece.change != "added" else ""
            added += piece.text if piece.change != "removed" else ""
            index += 1
            if index == len(held):
                break
            piece = held[index]
        if removed:
            yield Piece("removed", removed)
        if added:
            yield Piece("added", added)
        if index < len(held):
            yield held[index]
            index += 1


def share_kept(before: str, after: str) -> float:
    """The share of words that two texts have in common, in order: 1 for equal texts, 0 for none."""
    old = [word for word in WORDS.findall(before) if not word.isspace()]
    new = [word for word in WORDS.findall(after) if not word.isspace()]
    if not old and not new:
        return 1.0
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return 2.0 * sum(block.size for block in matcher.get_matching_blocks()) / (len(old) + len(new))
