"""Approximate string matching: the stretch of a text that takes the fewest edits to a pattern.

G. Myers, "A fast bit-vector algorithm for approximate string matching based
on dynamic programming", JACM 46(3), 1999, in H. Hyyrö's formulation: a column
of the edit table is a pair of integers, of as many bits as the pattern has
characters, and one step of a dozen operations on them takes in one character.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable


def align(pattern: str, text: str) -> tuple[int, int, int]:
    """(edits, start, end) of the stretch of `text` nearest to `pattern`, in Levenshtein distance.

    Of several equally near it is the one that ends first, with what may be
    added to it at either end for the same edits. Time is len(text) steps over
    integers of len(pattern) bits.
    """
    edits, end = _nearest_end(pattern, text, anchored=False)
    _, length = _nearest_end(pattern[::-1], reversed(text[:end]), anchored=True)
    return edits, end - length, end


def _nearest_end(pattern: str, text: Iterable[str], *, anchored: bool) -> tuple[int, int]:
    """Least edits between `pattern` and a stretch of `text`, and where such a stretch ends.

    It begins anywhere and is the first, or, if `anchored`, it begins where
    `text` does and is the longest.
    """
    equal: dict[str, int] = defaultdict(int)
    for place, char in enumerate(pattern):
        equal[char] |= 1 << place
    mask = (1 << len(pattern)) - 1
    top = 1 << len(pattern) >> 1
    first_row = 1 if anchored else 0
    rises, falls = mask, 0  # down the column: where the table grows by one, and where it shrinks
    edits = best = len(pattern)
    best_end = 0
    for end, char in enumerate(text, start=1):
        same = equal.get(char, 0)
        across = (((same & rises) + rises) ^ rises) | same
        grows = falls | (mask & ~(across | rises))
        shrinks = rises & across
        if grows & top:
            edits += 1
        elif shrinks & top:
            edits -= 1
        if edits < best or (edits == best and (anchored or best_end == end - 1)):
            best, best_end = edits, end
        grows = (grows << 1) | first_row
        down = same | falls
        rises = mask & ((shrinks << 1) | ~(down | grows))
        falls = grows & down
    return best, best_end
