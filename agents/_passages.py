"""A source cut into passages that can be quoted, and their similarity to a query by TF-IDF."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from oversight.text.folding import WORD
from oversight.text.quotes import MIN_QUOTE_CHARS, MIN_QUOTE_WORDS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MIN_WORDS = 5
"""Shorter sentences are joined with a neighbour: quoted alone they would say nothing."""

Span = tuple[int, int]

# --- cutting ---

_ABBREVIATIONS = (
    "Mr Mrs Ms Dr St Prof Capt Col Gen Lt Sgt Rev Hon Jr Sr vs etc Inc Ltd Co No Vol Fig"
)
_INITIAL_OR_ABBREVIATION = re.compile(
    rf"(?:\b(?:{'|'.join(_ABBREVIATIONS.split())})|\b[A-Z]|\b(?:[A-Za-z]\.)+[A-Za-z])\.$"
)
_SENTENCE_END = re.compile(r"""[.!?…]+["'”’»)\]]*(?:\s+''(?=\s))?(?=\s|\Z)|\n[^\S\n]*(?=\n)""")
_CHUNK = re.compile(r"\S+")
_QUOTE_TAG = re.compile(r"<\s*/?\s*\w*quote", re.IGNORECASE)


def passages(text: str, max_words: int) -> tuple[Span, ...]:
    """Spans of `text`, in order, that begin and end at word borders (end exclusive).

    One sentence each where that has between `MIN_WORDS` and `max_words` words:
    shorter ones are joined with the next, longer ones cut into even pieces.
    Passages that cannot be quoted are left out: those with a quote tag in them, or too
    few words to verify.
    """
    joined = _joined(text, _sentences(text))
    pieces = [piece for span in joined for piece in _cut(text, span, max_words)]
    return tuple(piece for piece in pieces if _is_quotable(text[slice(*piece)]))


def _is_quotable(passage: str) -> bool:
    words = WORD.findall(passage)
    is_long = len(words) >= MIN_QUOTE_WORDS and sum(map(len, words)) >= MIN_QUOTE_CHARS
    return is_long and not _QUOTE_TAG.search(passage)


def _sentences(text: str) -> list[Span]:
    borders = {match.end() for match in _SENTENCE_END.finditer(text) if not _inside(text, match)}
    if not _is_hard_wrapped(text):
        borders |= {match.end() for match in re.finditer("\n", text)}
    edges = [0, *sorted(borders), len(text)]
    spans = (_trimmed(text, a, b) for a, b in pairwise(edges))
    return [span for span in spans if span[0] < span[1]]


def _inside(text: str, match: re.Match[str]) -> bool:
    """True if the sentence goes on: after an abbreviation, an initial, or in lower case."""
    if match[0].startswith("\n"):
        return False
    tail = text[max(0, match.end() - 12) : match.end()]
    follows = text[match.end() : match.end() + 20].lstrip()
    return _INITIAL_OR_ABBREVIATION.search(tail) is not None or bool(follows[:1].islower())


def _is_hard_wrapped(text: str) -> bool:
    """True if single line breaks stand inside sentences: then they are no borders."""
    after: list[str] = re.findall(r"\S[^\S\n]*\n[^\S\n]*(\S)", text)
    num_continued = sum(char.islower() for char in after)
    return num_continued > 0.3 * len(after)


def _trimmed(text: str, start: int, end: int) -> Span:
    body = text[start:end]
    return start + len(body) - len(body.lstrip()), end - len(body) + len(body.rstrip())


def _joined(text: str, spans: list[Span]) -> list[Span]:
    """Spans of at least `MIN_WORDS` words, if the text has as many."""
    out: list[Span] = []
    pending: int | None = None
    for start, end in spans:
        first, pending = start if pending is None else pending, None
        if len(WORD.findall(text, first, end)) < MIN_WORDS:
            pending = first
        else:
            out.append((first, end))
    if pending is not None and spans:
        first = out.pop()[0] if out else pending
        out.append((first, spans[-1][1]))
    return out


def _cut(text: str, span: Span, max_words: int) -> list[Span]:
    words = [match.span() for match in _CHUNK.finditer(text, *span)]
    num_pieces = -(-len(words) // max_words)
    size = -(-len(words) // max(num_pieces, 1))
    return [
        (words[i][0], words[min(i + size, len(words)) - 1][1]) for i in range(0, len(words), size)
    ]


# --- terms ---

_TERM = re.compile(r"\d+(?::\d\d)+|[^\W_]+(?:['’][^\W_]+)*")

_STOP_WORDS = """
    a about after again all also am an and any are as at be because been before being but by can
    could did do does doing don down during each few for from had has have having he her here hers
    him his how i if in into is it its just like may me might more most must my no nor not now of
    off on once only or other our out over own shall she should so some such than that the their
    them then there these they this those through to too under until up upon us very was we were
    what when where which while who whom whose why will with would you your s t"""
STOP_WORDS = frozenset(_STOP_WORDS.split())


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """A word without its commonest English endings, so that forms of it meet."""
    word = word.removesuffix("'s").removesuffix("’s")
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        word = word[:-1]
    if word.endswith("ied") and len(word) > 4:
        return word[:-3] + "y"
    for ending in ("ing", "ed"):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            word = word[: -len(ending)]
            return word[:-1] if word[-1] == word[-2] and word[-1] not in "lsz" else word
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def terms(text: str) -> list[str]:
    """The words of `text` that carry meaning, stemmed, in order and with repetitions."""
    words = (match.replace("’", "'") for match in _TERM.findall(text.lower()))
    return [stem(word) for word in words if word not in STOP_WORDS]


def features(text: str) -> list[str]:
    """The terms of `text` and every pair of neighbours among them."""
    words = terms(text)
    return words + [f"{first} {second}" for first, second in pairwise(words)]


# --- similarity ---


class PassageIndex:
    """The passages of one source as TF-IDF rows."""

    def __init__(self, text: str, max_words: int) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.spans = passages(text, max_words)
        self.texts = tuple(text[start:end] for start, end in self.spans)
        found = [features(passage) for passage in self.texts]
        self.idf: dict[str, float] = {}
        self._matrix: Any = None
        if any(found):
            vectorizer = TfidfVectorizer(analyzer=list, binary=True, norm=None)
            self._matrix = vectorizer.fit_transform(found)
            self._column = vectorizer.vocabulary_
            self.idf = {term: float(vectorizer.idf_[i]) for term, i in self._column.items()}

    def coverage(self, query: Mapping[str, float]) -> npt.NDArray[np.float64]:
        """For each passage the share of the query that it contains, by weight times idf.

        Features that stand nowhere in the source are left out of the query.
        """
        import numpy as np

        known = {term: weight for term, weight in query.items() if term in self.idf}
        if not known:
            return np.zeros(len(self.spans))
        vector = np.zeros(len(self._column))
        for term, weight in known.items():
            vector[self._column[term]] = weight
        total = sum(weight * self.idf[term] for term, weight in known.items())
        return np.asarray(self._matrix @ vector) / total


@lru_cache(maxsize=128)  # a story of 6,000 words takes 0.7 MB
def index(text: str, max_words: int) -> PassageIndex:
    """The index of a source; made once."""
    return PassageIndex(text, max_words)


# --- queries ---


@dataclass(frozen=True, slots=True)
class Query:
    """Features that support one option: its own and those of the question, weighted."""

    weights: Mapping[str, float]
    distinctive: frozenset[str]
    """Features of this option that no other option and not the question has."""


def query(
    question: Iterable[str], options: tuple[str, ...], side: int, option_weight: float
) -> Query:
    """The query for the option `side`, its own features weighted `option_weight` times."""
    asked = frozenset(question)
    each = [frozenset(features(option)) for option in options]
    others = frozenset[str]().union(*(each[:side] + each[side + 1 :]))
    distinctive = each[side] - others - asked or each[side] - others or each[side]
    weights = dict.fromkeys(sorted(asked - others | each[side]), 1.0)
    weights |= dict.fromkeys(sorted(distinctive), option_weight)
    return Query(weights, distinctive)
