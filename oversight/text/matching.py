"""Finding a quote's words in a source: exactly, or the stretch that comes nearest to them.

Both work on folds (see `folding`). An exact match is a substring on word
borders. A near one is found in two steps: the quote's longest words, and the pairs
that they begin, vote for where it may lie by the places where they stand in the
source, and an approximate string match finds the stretch
there that takes the fewest edits. A source has no index of where its words stand: most
quotes are exact, and most sources are asked for few others.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import filterfalse

from oversight.text.folding import WORD, Folded, fold, is_border


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


NEAR_SIMILARITY = 0.75
"""Similarity that a stretch of the source must reach to be shown as a near miss."""
MAX_NEAR_CHARS = 2000
"""Longer quotes that do not match exactly are not searched for near misses."""

_EDGE = " \"'.,;:!?()[]{}*_"
"""Punctuation of the speaker's own at either end of a quote, which the source need not have."""
_MAX_SCANNED = 2_000_000
"""Characters compared for one quote, over all places where its words stand but not on a border."""
_MAX_PLACES = 48
"""A word, or pair of words, that stands in more places than this says nothing about where."""
_MAX_TELLING = 24
"""Words of a quote that are looked up."""

_RUN = re.compile(r"[^\W_]+")
_RUNS_ALONE = bytes(code if chr(code).isalnum() else ord(" ") for code in range(128)) + bytes(128)
"""Of ASCII: what is no letter or digit as a space."""
_MAX_WIDENING = 64
"""Characters by which a near match is widened at most, to end on the border of a word."""


@dataclass(frozen=True, slots=True)
class NearMatch:
    """The stretch of a source that comes nearest to a quote."""

    start: int
    end: int
    similarity: float
    """One minus edits per character of the longer text, 0 to 1."""


def core(folded: str) -> str:
    """A quote's folded words without quotation marks and punctuation at its ends."""
    return folded.strip(_EDGE)


class SourceIndex:
    """A source, folded once, with what is needed to find quotes in it."""

    def __init__(self, text: str) -> None:
        self.original = text
        self.folded: Folded = fold(text)

    def exact(self, words: str) -> tuple[int, int] | None:
        """First span of the folded `words` on word borders, in the source's characters."""
        text = self.folded.text
        place = text.find(words) if words else -1
        tries = max(100, _MAX_SCANNED // max(len(words), 1))
        while place >= 0 and tries:
            span = self._bounded(place, place + len(words))
            if span is not None:
                return span
            place = text.find(words, place + 1)
            tries -= 1
        return None

    def _bounded(self, start: int, end: int) -> tuple[int, int] | None:
        if self._is_border(start, -1) and self._is_border(end, 1):
            return self.folded.span(start, end)
        return None

    def _is_border(self, place: int, direction: int) -> bool:
        """True if a stretch of the fold may begin (direction -1) or end (1) at `place`."""
        folded = self.folded
        if not 0 < place < len(folded.text):
            return True
        if folded.cuts(place):
            return False
        # Asked of the original, as the fold no longer tells a hyphen from other dashes.
        if direction < 0:
            return is_border(self.original, folded.span(place, place + 1)[0])
        return is_border(self.original, folded.span(place - 1, place)[1])

    def near(self, words: str) -> NearMatch | None:
        """The stretch nearest to folded `words`, if it reaches `NEAR_SIMILARITY`."""
        if not words or len(words) > MAX_NEAR_CHARS:
            return None
        diagonal = self._diagonal(words)
        if diagonal is None:
            return None
        slack = len(words) // 2 + 32
        low = max(0, diagonal - slack)
        window = self.folded.text[low : diagonal + len(words) + slack]
        edits, start, end = align(words, window)
        return self._judged(words, edits, low + start, low + end)

    def _judged(self, words: str, edits: int, start: int, end: int) -> NearMatch | None:
        """The stretch without spaces at its ends, widened to whole words, if it is near enough."""
        found = self.folded.text[start:end]
        end -= len(found) - len(found.rstrip(" "))
        start += len(found) - len(found.lstrip(" "))
        if start >= end:
            return None
        first, last = self._border(start, -1), self._border(end, 1)
        if first is None or last is None:
            return None
        edits += (start - first) + (last - end)
        similarity = 1 - edits / max(len(words), last - first)
        if similarity < NEAR_SIMILARITY:
            return None
        return NearMatch(*self.folded.span(first, last), similarity)

    def _border(self, place: int, direction: int) -> int | None:
        """The border of a word at `place` or next to it in one direction."""
        for _ in range(_MAX_WIDENING):
            if self._is_border(place, direction):
                return place
            place += direction
        return None

    def _diagonal(self, words: str) -> int | None:
        """Start of the quote in the folded source, by the votes of its longest words."""
        width = max(16, len(words) // 4)
        votes: dict[int, float] = defaultdict(float)
        for found, place in self._standing(caseless(words)):
            for other in found:
                bucket = (other - place) // width
                votes[bucket] += 1 / len(found)
                votes[bucket + 1] += 1 / len(found)
        if not votes:
            return None
        best = max(votes.values())
        return min(bucket for bucket, weight in votes.items() if weight == best) * width

    def _standing(self, quote: str) -> Iterator[tuple[list[int], int]]:
        """Places of the quote's longest words and of the pairs they begin, and theirs in it."""
        words = list(WORD.finditer(quote))
        longest = sorted(range(len(words)), key=lambda i: len(words[i][0]), reverse=True)
        for i in sorted(longest[:_MAX_TELLING]):
            start, end = words[i].span()
            if not self._may_hold(quote[start:end]):
                continue
            yield self._places(quote[start:end]), start
            if i + 1 < len(words):
                yield self._places(quote[start : words[i + 1].end()]), start

    def _places(self, key: str) -> list[int]:
        """Starts of a word or pair of words in the folded source; none if it is common."""
        text, places, end = self._caseless, [], 0
        while (place := text.find(key, end)) >= 0:
            end = place + len(key)
            if text[place - 1 : place].isalnum() or text[end : end + 1].isalnum():
                continue
            places.append(place)
            if len(places) > _MAX_PLACES:
                return []
        return places

    def _may_hold(self, word: str) -> bool:
        """True unless `word` surely stands nowhere in the folded source as a word of its own."""
        return word in self._words if word.isalnum() else word in self._caseless

    @cached_property
    def _words(self) -> Set[str]:
        """All runs of letters and digits, among others: without them each word of each quote is
        looked for in all the text."""
        if self._caseless.isascii():
            return set(self._caseless.encode().translate(_RUNS_ALONE).decode().split())
        words = set(self._caseless.split())
        words.update(_RUN.findall(" ".join(filterfalse(str.isalnum, words))))
        return words

    @cached_property
    def _caseless(self) -> str:
        return caseless(self.folded.text)


@lru_cache(maxsize=512)
def index(text: str) -> SourceIndex:
    """The index of a source's text, kept for the sources used last."""
    return SourceIndex(text)


def caseless(text: str) -> str:
    """`text` in lower case, character for character: places in it are places in `text`."""
    lower = text.lower()
    if len(lower) == len(text):
        return lower
    return "".join(char.lower() if len(char.lower()) == 1 else char for char in text)
