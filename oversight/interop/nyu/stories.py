"""Stories and speeches of the NYU files as text with quotes, and the way back to tokens.

The NYU files hold stories as tokens, which `datasets.nyu.detokenise` makes a text of. The way back
is a guess, right for 99 tokens of 100, and a list of splices for the rest; together they give the
very tokens, which a test holds for every story there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from oversight.datasets.nyu import TokenText, detokenise
from oversight.interop.base import Unusable
from oversight.interop.nyu.files import Segment, Span
from oversight.types import Quote, QuoteStatus, Source

_AUXILIARY = "ca|wo|do|is|was|does|did|could|should|would|are|were|has|had|have"
_TOKEN = re.compile(
    # Most words are decided by the first of these alone.
    r"\w+(?=[\s,;!?\"])|\n|[^\s\w.'-]"
    rf"|(?i:(?:{_AUXILIARY})(?=n't)|n't|'(?:s|m|d|ll|re|ve)\b)|\.\.\.|--+|[A-Za-z]\."
    r"|(?i:Mr|Mrs|Dr|Ms|St|Capt|Lt)\.|\d+(?:,\d{3})+|\w+(?:[-.]\w+)*|[^\s]",
)
_WRITTEN = {"(": "-LRB-", ")": "-RRB-", "[": "-LSB-", "]": "-RSB-"}
"""Tokens that stand for a character wherever it is."""

Splice = list[int | list[str]]
"""Index in the guess, number of its tokens there that are none, and the tokens in their place."""

_Placed = tuple[int, int, str]
"""Begin and end in the text, and the token."""


def differences(tokens: Sequence[str], told: TokenText) -> list[Splice] | None:
    """Splices that make the guess at `told.text` into `tokens`; None where no splices can.

    Args:
        tokens: The tokens of a story.
        told: The text that `detokenise` makes of them.
    """
    guess = _guess(told.text)
    actual = [(*span, token) for span, token in zip(told.spans, tokens, strict=True)]
    found = list(_splices(guess, actual))
    return found if _spliced(guess, found) == list(tokens) else None


def restored(text: str, splices: Iterable[Sequence[object]]) -> list[str]:
    """The tokens of a text, by the guess and the splices that belong to it.

    Raises:
        ValueError: What is given is no splice.
    """
    return _spliced(_guess(text), splices)


def _spliced(guess: Sequence[_Placed], splices: Iterable[Sequence[object]]) -> list[str]:
    tokens = [token for _, _, token in guess]
    made: list[str] = []
    done = 0
    for place, number, given in splices:
        if not (isinstance(place, int) and isinstance(number, int) and isinstance(given, list)):
            raise ValueError(f"no splice: {place!r}, {number!r}, {given!r}")
        made += [*tokens[done:place], *map(str, given)]
        done = place + number
    return made + tokens[done:]


def _guess(text: str) -> list[_Placed]:
    found = []
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        token = match[0]
        if end - start == 1:
            if token == '"':
                opens = start == 0 or text[start - 1].isspace()
                token = "``" if opens else "''"
            else:
                token = _WRITTEN.get(token, token)
        found.append((start, end, token))
    return found


def _splices(guess: Sequence[_Placed], actual: Sequence[_Placed]) -> Iterable[Splice]:
    """Stretches in which the two differ, up to where they agree again."""
    i = j = 0
    while i < len(guess) or j < len(actual):
        begun = (i, j)
        while i < len(guess) and j < len(actual) and guess[i] != actual[j]:
            behind = guess[i][:2] <= actual[j][:2]
            ahead = guess[i][:2] >= actual[j][:2]
            i, j = i + behind, j + ahead
        if i == len(guess) or j == len(actual):
            i, j = len(guess), len(actual)
        if (i, j) != begun:
            yield [begun[0], i - begun[0], [token for *_, token in actual[begun[1] : j]]]
        i, j = i + 1, j + 1


OPEN, CLOSE = "<quote>", "</quote>"


class StoryText(NamedTuple):
    """A story as a source, with what leads from its tokens to its text and back."""

    source: Source
    told: TokenText
    starts: dict[int, int]
    """Indices of the tokens by the character that they begin at."""
    ends: dict[int, int]
    """Indices behind the tokens by the character that they end at."""
    splices: list[Splice] | None

    def span_of(self, quote: Quote) -> list[int] | None:
        """The tokens of a quote."""
        if quote.source_start is None or quote.source_end is None:
            return None
        begin, end = self.starts.get(quote.source_start), self.ends.get(quote.source_end)
        return None if begin is None or end is None else [begin, end]

    def speech(self, content: tuple[Segment, ...], place: str) -> tuple[str, tuple[Quote, ...]]:
        """The text of a speech, and its quotes with their places in the text and in the story.

        Raises:
            Unusable: A span lies outside the story.
        """
        pieces: list[str] = []
        quotes: list[Quote] = []
        length = 0
        for number, segment in enumerate(content):
            if segment.words is not None:
                pieces.append(segment.words.text)
            elif segment.quote is not None:
                quote = self._quote(segment.quote, length + len(OPEN), f"{place}.{number}")
                quotes.append(quote)
                pieces.append(f"{OPEN}{quote.text}{CLOSE}")
            length += len(pieces[-1])
        return "".join(pieces), tuple(quotes)

    def _quote(self, given: Span, start: int, place: str) -> Quote:
        try:
            begin, end = self.told.characters(*given.span)
        except IndexError:
            num = len(self.told.spans)
            raise Unusable(
                f"{place}.Quote.span = {list(given.span)}: no span of the story's {num:,} tokens"
            ) from None
        words = self.source.text[begin:end]
        return Quote(
            start=start,
            end=start + len(words),
            text=words,
            status=QuoteStatus.VERIFIED,
            source_start=begin,
            source_end=end,
            source_text=words,
        )

    def segments(self, text: str, quotes: Iterable[Quote]) -> list[dict[str, Any]]:
        """The content of a speech as files have it."""
        found: list[dict[str, Any]] = []
        done = 0
        for quote in quotes:
            if words := text[done : quote.start - len(OPEN)]:
                found.append({"Text": {"text": words}})
            found.append({"Quote": {"span": self.span_of(quote)}})
            done = quote.end + len(CLOSE)
        if words := text[done:]:
            found.append({"Text": {"text": words}})
        return found


@lru_cache(maxsize=8)
def story_text(title: str, contents: tuple[str, ...]) -> StoryText:
    """The story of these tokens; debates over one story follow one another.

    Raises:
        Unusable: It has no words.
    """
    told = detokenise(contents)
    if not told.text.strip():
        raise Unusable("setup.sourceMaterial: the story is empty")
    return StoryText(
        Source(title=title, text=told.text),
        told,
        {start: index for index, (start, _) in enumerate(told.spans)},
        {end: index for index, (_, end) in enumerate(told.spans, 1)},
        differences(contents, told),
    )
