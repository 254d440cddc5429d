"""Lexical judge: a belief from the words of the transcript alone, without a language model.

It weighs verified quotes and, much weaker, what was merely said. Where it may see the source it
looks up the evidence for every option by itself. The order of the listing, and the order in which
the sides are shown, do not enter at all.

A piece of evidence counts by three shares, multiplied: whether its words stand
in the source, how much of the option it names, and how much of the question it
touches beside the piece that touches most of it. Where verified pieces for
different options speak of the same subject at different times, the later one
supersedes the earlier: it is taken that a question asks how things stand in
the end. One piece alone carries no such hint.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from pydantic import Field

from oversight.agents._passages import Query, features, index, query
from oversight.agents.judging import check_judging, decide, settled
from oversight.agents.retrieval import ranking
from oversight.agents.speaking import speaker_name
from oversight.config import Settings
from oversight.types import (
    Act,
    Agent,
    Belief,
    BeliefMethod,
    Draft,
    Engine,
    JudgeKind,
    Quote,
    QuoteStatus,
    Role,
    Turn,
    View,
)

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NUMBERS = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
_ORDINALS = "first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth"
_VALUE = {
    word: number
    for words in (_NUMBERS, _ORDINALS)
    for number, word in enumerate(words.split("|"), start=1)
}
_UNITS = ("year", "month", "week", "day", "night", "hour", "round", "step", "time")

UNITS = ("date", *_UNITS, "clock")
"""From coarse to fine: a finer mark only decides where the coarser ones agree."""

_MONTH = r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_ISO_DATE = re.compile(r"\b(\d{4})-(\d\d)-(\d\d)\b")
_DAY_MONTH_YEAR = re.compile(
    rf"\b(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH},?\s+(\d{{4}})\b", re.I
)
_MONTH_DAY_YEAR = re.compile(rf"\b{_MONTH}\s+(\d{{1,2}})(?:st|nd|rd|th)?,?\s+(\d{{4}})\b", re.I)
_YEAR = re.compile(r"\b(1[0-9]{3}|20[0-9]{2})\b(?![:.,]\d)")
_CLOCK = re.compile(r"\b([01]?\d|2[0-4]):([0-5]\d)\b(?:\s*([ap])\.?m\b)?", re.I)
_COUNTED = re.compile(
    rf"\b({'|'.join(_UNITS)})\s+(\d{{1,6}}|{_NUMBERS})\b"
    rf"|\b(\d{{1,6}}(?=st|nd|rd|th)|{_ORDINALS})(?:st|nd|rd|th)?\s+({'|'.join(_UNITS)})\b",
    re.I,
)


@lru_cache(maxsize=8192)
def time_marks(text: str) -> dict[str, int]:
    """The latest mark of each unit in `text`: dates, years, "day 3", "third week", "09:40"."""
    marks: dict[str, int] = {}

    def note(unit: str, value: int) -> None:
        marks[unit] = max(value, marks.get(unit, value))

    for year, month, day in _dates(text):
        note("date", year * 10_000 + month * 100 + day)
    if "date" not in marks:
        for match in _YEAR.finditer(text):
            note("year", int(match[1]))
    for match in _COUNTED.finditer(text):
        unit, number = (match[1], match[2]) if match[1] else (match[4], match[3])
        note(unit.lower(), int(number) if number.isdecimal() else _VALUE[number.lower()])
    for match in _CLOCK.finditer(text):
        note("clock", _minutes(int(match[1]), int(match[2]), (match[3] or "").lower()))
    return marks


def _dates(text: str) -> list[tuple[int, int, int]]:
    found = [(int(y), int(m), int(d)) for y, m, d in _ISO_DATE.findall(text)]
    found += [(int(y), _month(m), int(d)) for d, m, y in _DAY_MONTH_YEAR.findall(text)]
    return found + [(int(y), _month(m), int(d)) for m, d, y in _MONTH_DAY_YEAR.findall(text)]


def _month(name: str) -> int:
    return _MONTHS.index(name.lower()) + 1


def _minutes(hour: int, minute: int, half: str) -> int:
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    return hour * 60 + minute


def later(first: str, second: str) -> int:
    """1 if `first` speaks of a later time than `second`, -1 if of an earlier one, else 0.

    0 also where one has a mark of a coarser unit that the other lacks: 09:40 on
    day 3 and 10:00 on some day cannot be compared.
    """
    ours, theirs = time_marks(first), time_marks(second)
    for unit in UNITS:
        if (unit in ours) != (unit in theirs):
            return 0
        if unit in ours and ours[unit] != theirs[unit]:
            return 1 if ours[unit] > theirs[unit] else -1
    return 0


OPTION_WEIGHT = 2.0
"""Weight of a feature that only one option has, where a shared one has 1."""

UNNAMED_SHARE = 0.2
"""Weight of a piece that does not name its option at all: its speaker says it bears on it."""

MIN_SUBJECT_SHARE = 1 / 3
"""Of the question's features: two pieces that share fewer are not about one subject."""

NUM_LOOKED_UP = 3
"""Passages that a judge who sees the source looks up for each option."""

MAX_PASSAGE_WORDS = 40

Features = frozenset[str]


class EvidenceSettings(Settings):
    """Weight of a piece of evidence."""

    verified_weight: float = Field(default=0.8, ge=0.0, lt=1.0)
    """Of a quote that stands in the source."""
    near_weight: float = Field(default=0.3, ge=0.0, lt=1.0)
    """Of a quote that nearly stands there."""
    said_weight: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Of words that are not found there: speech, and quotes that did not verify."""
    superseded: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of its weight that a verified quote keeps once a later one supersedes it."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A piece of text that speaks for one option."""

    option: int
    text: str
    status: QuoteStatus
    features: Features

    @property
    def is_verified(self) -> bool:
        """True if the text stands in the source."""
        return self.status is QuoteStatus.VERIFIED


def scores(view: View, settings: EvidenceSettings) -> list[float]:
    """Weight of the evidence for each option, from 0 to below 1, in the question's own order."""
    asked = features(view.question)
    queries = [query(asked, view.options, i, OPTION_WEIGHT) for i in range(len(view.options))]
    evidence = _gathered(view, queries)
    pieces = _weighed(evidence, frozenset(asked), settings)
    named = _naming(view.options, queries, _idf(view, evidence))
    doubts = [1.0] * len(queries)
    for piece, weight in pieces:
        share = math.fsum(
            part for word, part in named[piece.option].items() if word in piece.features
        )
        doubts[piece.option] *= 1.0 - weight * (UNNAMED_SHARE + (1.0 - UNNAMED_SHARE) * share)
    return [round(1.0 - doubt, 9) for doubt in doubts]


# --- gathering ---


def _gathered(view: View, queries: Sequence[Query]) -> list[Evidence]:
    """All pieces, each once for each option, in an order that the turns' own does not enter."""
    pieces = [piece for turn in view.turns for piece in _spoken(turn, view, queries)]
    if view.source is not None:
        passages = index(view.source.text, MAX_PASSAGE_WORDS)
        for option, wanted in enumerate(queries):
            best = [i for score, i in ranking(passages, wanted)[:NUM_LOOKED_UP] if score > 0.0]
            pieces += [_piece(option, passages.texts[i], QuoteStatus.VERIFIED) for i in best]
    distinct = {
        (piece.option, " ".join(piece.text.split()), piece.status): piece for piece in pieces
    }
    return [distinct[key] for key in sorted(distinct)]


def _spoken(turn: Turn, view: View, queries: Sequence[Query]) -> list[Evidence]:
    """The quotes of a speech, and its other words; of a critique what it quotes for one option."""
    if turn.act is Act.CRITIQUE:
        named = [(_named(quote, queries), quote) for quote in turn.quotes]
        return [_quoted(option, quote) for option, quote in named if option is not None]
    if not turn.argues:
        return []
    side = view.orders.defended_by(turn.seat)
    quotes = [_quoted(_supported(quote, side, queries), quote) for quote in turn.quotes]
    return [*quotes, _piece(side, _unquoted(turn), QuoteStatus.UNVERIFIED)]


def _piece(option: int, text: str, status: QuoteStatus) -> Evidence:
    return Evidence(option, text, status, frozenset(features(text)))


def _quoted(option: int, quote: Quote) -> Evidence:
    return _piece(option, quote.source_text or quote.text, quote.status)


def _supported(quote: Quote, side: int, queries: Sequence[Query]) -> int:
    """The option that a quote speaks for: its speaker's, unless it names only another one."""
    named = _named(quote, queries)
    return side if named is None else named


def _named(quote: Quote, queries: Sequence[Query]) -> int | None:
    """The one option that a verified quote names; None if it names none, or several."""
    words = frozenset(features(quote.source_text or quote.text))
    named = [i for i, wanted in enumerate(queries) if words & wanted.distinctive]
    return named[0] if quote.status is QuoteStatus.VERIFIED and len(named) == 1 else None


def _unquoted(turn: Turn) -> str:
    """The words of a speech outside its quotes."""
    edges = [0, *(edge for q in turn.quotes for edge in (q.start, q.end)), len(turn.text)]
    return " ".join(turn.text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))


# --- weighing ---


def _weighed(
    evidence: Sequence[Evidence], asked: Features, settings: EvidenceSettings
) -> list[tuple[Evidence, float]]:
    """Each piece with its weight by status, subject and time."""
    by_status = {
        QuoteStatus.VERIFIED: settings.verified_weight,
        QuoteStatus.NEAR: settings.near_weight,
    }
    most = max((len(piece.features & asked) for piece in evidence), default=0)
    outdated = _superseded(evidence, asked)
    weighed = []
    for piece in evidence:
        weight = by_status.get(piece.status, settings.said_weight)
        if most:
            weight *= (len(piece.features & asked) / most) ** 2
        if piece in outdated:
            weight *= settings.superseded
        weighed.append((piece, weight))
    return weighed


def _superseded(evidence: Sequence[Evidence], asked: Features) -> set[Evidence]:
    """Verified pieces that a later one for another option supersedes."""
    verified = [piece for piece in evidence if piece.is_verified]
    pairs = [pair for pair in combinations(verified, 2) if pair[0].option != pair[1].option]
    subject = _subject(pairs, asked)
    if not subject:
        return set()
    outdated = set()
    for first, second in pairs:
        if subject <= first.features and subject <= second.features:
            order = later(first.text, second.text)
            outdated |= {second} if order > 0 else {first} if order < 0 else set()
    return outdated


def _subject(pairs: Sequence[tuple[Evidence, Evidence]], asked: Features) -> Features:
    """Subject of the question, as pieces for different options tell of it: empty if unclear.

    The largest part of the question that both pieces of a pair contain. A word
    that only one of them has belongs to its wording, not to the subject.
    """
    shared = (first.features & second.features & asked for first, second in pairs)
    subject = max(shared, key=lambda words: (len(words), sorted(words)), default=Features())
    num_words = sum(" " not in word for word in asked)
    is_clear = sum(" " not in word for word in subject) >= MIN_SUBJECT_SHARE * num_words
    return subject if is_clear else Features()


def _naming(
    options: Sequence[str], queries: Sequence[Query], idf: Mapping[str, float]
) -> list[dict[str, float]]:
    """For each option its features with their shares, by weight and idf; unseen ones are rarest."""
    rarest = max(idf.values(), default=1.0)
    out = []
    for option, wanted in zip(options, queries, strict=True):
        value = {w: wanted.weights[w] * idf.get(w, rarest) for w in set(features(option))}
        total = math.fsum(value.values())
        out.append({word: part / total for word, part in value.items()})
    return out


def _idf(view: View, evidence: Sequence[Evidence]) -> dict[str, float]:
    """Inverse document frequency of features, over the source if seen, else over the evidence."""
    if view.source is not None:
        return index(view.source.text, MAX_PASSAGE_WORDS).idf
    counts = Counter(word for piece in evidence for word in piece.features)
    return {word: math.log((1 + len(evidence)) / (1 + n)) + 1.0 for word, n in counts.items()}


ROLES = frozenset({Role.JUDGE, Role.SCORER})


class Config(EvidenceSettings):
    """Settings of the lexical judge."""

    sharpness: float = Field(default=3.0, gt=0.0, le=100.0)
    """Log-odds between an option with the best evidence and one with none."""
    end_at: float = Field(default=0.95, gt=0.5, le=1.0)
    """Belief in one option at which a judge that may end the debate does so."""


class Lexical:
    """Weighs verified quotes by the words they share with the question and the options."""

    name = "lexical"
    kind = JudgeKind.LEXICAL

    def __init__(self, config: Config) -> None:
        self.config = config

    async def act(self, view: View) -> Draft:
        """A belief, or a question to the side whose evidence is weaker; no score of a response,
        as there is nothing that its words could be evidence for.

        Raises:
            ProtocolError: The view asks for a speech or a critique.
        """
        check_judging(view, self.name)
        if view.act is Act.SCORE:
            return Draft()
        evidence = scores(view, self.config)
        if view.act is Act.ASK:
            text = question(view, evidence)
            if view.emit is not None:
                view.emit(text)
            return Draft(text=text)
        belief = believe(evidence, self.config.sharpness)
        return Draft(belief=belief, ends=view.may_end and settled(belief, self.config.end_at))


def build(config: Config, engine: Engine | None) -> Agent:
    """A lexical judge; it leaves `engine` unused."""
    return Lexical(config)


def believe(evidence: Sequence[float], sharpness: float) -> Belief:
    """The belief that grows with the weight of the evidence; equal weights are a tie."""
    odds = [math.exp(sharpness * (weight - max(evidence))) for weight in evidence]
    total = math.fsum(odds)
    raw = "evidence: " + ", ".join(f"{weight:.3f}" for weight in evidence)
    return decide([part / total for part in odds], BeliefMethod.LEXICAL, raw, None)


def question(view: View, evidence: Sequence[float]) -> str:
    """A request for a quote: to the side whose evidence is weaker, or to all if none is."""
    defended = {
        (turn.seat, turn.role): view.orders.defended_by(turn.seat)
        for turn in view.turns
        if turn.argues
    }
    least = min((evidence[option] for option in defended.values()), default=0.0)
    weakest = [speaker for speaker, option in defended.items() if evidence[option] == least]
    if len(weakest) != 1:
        return ASK_ALL
    name = speaker_name(*weakest[0])
    return ASK_ONE.format(name=name, option=view.options[defended[weakest[0]]])


ASK_ALL = "Quote the passage of the source that supports your answer best."
ASK_ONE = "{name}, quote the passage of the source that shows: {option}"
