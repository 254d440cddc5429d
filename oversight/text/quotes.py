"""Quotes: the words that a speaker claims to stand in the source, found there, checked and marked.

A quote is `<quote>words</quote>`, in any case, over several lines, with
attributes ignored. An opening tag that is followed by another opening tag, or
by the end of the text, opens nothing: of nested tags the innermost pair is
the quote, and all words around it are kept as plain text.

- VERIFIED: the words stand in the source, up to folding (see `folding`), on
  the borders of words (see there); the first place counts. If the quote as
  a whole is not found, it is tried without the quotation marks and
  punctuation at its ends.
- NEAR: a stretch of the source is at least `NEAR_SIMILARITY` like it. It is
  shown as written, with the source's own words beside it.
- UNVERIFIED: neither, or there is no source.
- TOO_SHORT: too few words to be evidence of anything.

A quote that joins two places by an ellipsis is never verified unless the
source has that ellipsis: what was left out may turn the sense, and a whole
source could be passed on as one quote of its first and last words. Speakers
write two quotes.

A near match is found in two steps: the quote's longest words, and the pairs
that they begin, vote for where it may lie by the places where they stand in the
source, and an approximate string match finds the stretch
there that takes the fewest edits. A source has no index of where its words stand: most
quotes are exact, and most sources are asked for few others.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import filterfalse

from oversight.errors import PromptError
from oversight.text.folding import ASCII_WORD, INVISIBLE, WORD, Folded, fold, is_border
from oversight.text.prompts import Safe, data
from oversight.types import Quote, QuoteStatus, Source


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


MIN_QUOTE_WORDS = 3
MIN_QUOTE_CHARS = 8
"""Letters and digits that a quote must have, beside `MIN_QUOTE_WORDS`."""
MAX_NEAR_SEARCHES = 24
"""Near misses looked for in one turn; quotes after them are verified exactly or not at all."""

_TAG = re.compile(r"<\s*+(?P<close>/\s*+)?quote\b[^<>]*+>", re.IGNORECASE)
_BLANK = rf"[\s{INVISIBLE}]*+"
_LEADING = re.compile(_BLANK)
_TRAILING = re.compile(rf"[\s{INVISIBLE}]")


def find_quotes(text: str, source: Source | None) -> tuple[Quote, ...]:
    """The quotes in a turn's text, in order, each checked against `source`.

    Spans do not overlap, and `text[quote.start:quote.end] == quote.text`
    always; a verified or near quote has `source.text[quote.source_start:quote.source_end]
    == quote.source_text`. Takes any text, and never raises.
    """
    spans = list(_spans(text))
    if not spans:
        return ()
    known = index(source.text) if source is not None else None
    quotes = []
    searches = MAX_NEAR_SEARCHES
    for start, end in spans:
        quote = _checked(text[start:end], start, known, may_search=searches > 0)
        searches -= quote.status in (QuoteStatus.NEAR, QuoteStatus.UNVERIFIED)
        quotes.append(quote)
    return tuple(quotes)


def strip_quotes(text: str) -> str:
    """`text` without its quote tags; every word stays."""
    return _TAG.sub("", text)


def render_quotes(turn_text: str, quotes: Sequence[Quote]) -> Safe:
    """A turn as the others read it: verified, near and unverified quotes marked, the rest data.

    Verified words are shown as the source has them. No mark can be forged: a
    mark that the speaker wrote is not a tag any more (see `prompts`).

    Raises:
        PromptError: `quotes` do not belong to `turn_text`.
    """
    pieces = []
    done = 0
    for number, quote in enumerate(quotes):
        if quote.start < done or turn_text[quote.start : quote.end] != quote.text:
            raise PromptError(
                f"quotes[{number}] = {quote.text!r:.80} is not at {quote.start}:{quote.end} of the "
                f"turn's text, or out of order; give the quotes that were found in this text"
            )
        pieces.append(data(strip_quotes(turn_text[done : quote.start])))
        pieces.append(_marked(quote))
        done = quote.end
    pieces.append(data(strip_quotes(turn_text[done:])))
    return Safe("".join(pieces))


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Spans of the words of each quote: between an opening tag and a closing one right after."""
    opened: int | None = None
    for tag in _TAG.finditer(text):
        closes = tag["close"] is not None or (opened is not None and tag[0].endswith("/>"))
        if not closes:
            opened = tag.end()
        elif opened is not None:
            yield _trimmed(text, opened, tag.start())
            opened = None


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    found = _LEADING.match(text, start, end)
    start = found.end() if found else start
    while end > start and _TRAILING.match(text[end - 1]):
        end -= 1
    return start, end


def _checked(words: str, start: int, source: SourceIndex | None, *, may_search: bool) -> Quote:
    end = start + len(words)
    whole = fold(words).text
    inner = core(whole)
    if _is_too_short(inner):
        return Quote(start=start, end=end, text=words, status=QuoteStatus.TOO_SHORT)
    unverified = Quote(start=start, end=end, text=words, status=QuoteStatus.UNVERIFIED)
    if source is None:
        return unverified
    span = source.exact(whole)
    if span is None and inner != whole:
        span = source.exact(inner)
    if span is not None:
        return _found(unverified, source, QuoteStatus.VERIFIED, span)
    near = source.near(inner) if may_search else None
    if near is None:
        return unverified
    return _found(
        unverified, source, QuoteStatus.NEAR, (near.start, near.end), round(near.similarity, 4)
    )


def _is_too_short(folded: str) -> bool:
    found = (ASCII_WORD if folded.isascii() else WORD).findall(folded)
    return len(found) < MIN_QUOTE_WORDS or sum(map(len, found)) < MIN_QUOTE_CHARS


def _found(
    quote: Quote,
    source: SourceIndex,
    status: QuoteStatus,
    span: tuple[int, int],
    similarity: float | None = None,
) -> Quote:
    start, end = span
    return quote.model_copy(
        update={
            "status": status,
            "source_start": start,
            "source_end": end,
            "source_text": source.original[start:end],
            "similarity": similarity,
        }
    )


def _marked(quote: Quote) -> str:
    match quote.status:
        case QuoteStatus.VERIFIED:
            return f"<verified_quote>{data(quote.source_text or '')}</verified_quote>"
        case QuoteStatus.NEAR:
            opening = f'<near_quote similarity="{quote.similarity or 0:.2f}">'
            beside = f"<source_words>{data(quote.source_text or '')}</source_words>"
            return f"{opening}{data(quote.text)}</near_quote>{beside}"
        case QuoteStatus.UNVERIFIED:
            return f"<unverified_quote>{data(quote.text)}</unverified_quote>"
        case QuoteStatus.TOO_SHORT if quote.text:
            return f'<unverified_quote reason="too short">{data(quote.text)}</unverified_quote>'
        case _:
            return ""
