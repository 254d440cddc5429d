"""Quotes: what a speaker claims to stand in the source, checked, and marked so that it shows.

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
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from oversight.errors import PromptError
from oversight.text.folding import ASCII_WORD, INVISIBLE, WORD, fold
from oversight.text.matching import SourceIndex, core, index
from oversight.text.prompts import Safe
from oversight.text.untrusted import data
from oversight.types import Quote, QuoteStatus, Source

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
    mark that the speaker wrote is not a tag any more (see `untrusted`).

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
