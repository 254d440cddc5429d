"""Lexical judge: a belief from the words of the transcript alone, without a language model.

Evidence for an option is what was quoted for it and verified, and, much
weaker, what was merely said; each piece counts by how much of the question and
of the option it contains. Where verified quotes of both sides speak of the
same thing at different times, the later one supersedes the earlier. Where the
judge may see the source it looks up the evidence for every option by itself.
The order of the listing, and the order in which the sides are shown, do not
enter at all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from oversight.agents._chronology import later
from oversight.agents._passages import Query, index, query, terms
from oversight.agents.judging import decide, settled
from oversight.agents.retrieval import ranking
from oversight.agents.speaking import speaker_name
from oversight.config.settings import Settings
from oversight.errors import ProtocolError
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

ROLES = frozenset({Role.JUDGE, Role.SCORER})

OPTION_WEIGHT = 2.0
"""Weight of a term of an option, where one of the question has 1."""

NUM_LOOKED_UP = 3
"""Passages that an expert looks up for each option."""

MAX_PASSAGE_WORDS = 40


class Config(Settings):
    """Settings of the lexical judge."""

    sharpness: float = Field(default=3.0, gt=0.0, le=100.0)
    """Log-odds between an option with the best evidence and one with none."""
    verified_weight: float = Field(default=0.8, ge=0.0, lt=1.0)
    near_weight: float = Field(default=0.3, ge=0.0, lt=1.0)
    said_weight: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Weight of words that are not found in the source: speech, and quotes that did not verify."""
    superseded: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of its weight that a verified quote keeps once a later one contradicts it."""
    end_at: float = Field(default=0.95, gt=0.5, le=1.0)
    """Belief in one option at which a judge that may end the debate does so."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A piece of text that speaks for one option."""

    option: int
    text: str
    weight: float
    verified: bool
    terms: frozenset[str]


class Lexical:
    """Weighs verified quotes by the words they share with the question and the options."""

    name = "lexical"
    kind = JudgeKind.LEXICAL

    def __init__(self, config: Config) -> None:
        self.config = config

    async def act(self, view: View) -> Draft:
        """A belief, or a question to the side whose evidence is weaker.

        Raises:
            ProtocolError: The view asks for a speech.
        """
        if view.act is Act.SPEAK:
            raise ProtocolError(
                f"agent {self.name!r} does not speak for a side; "
                f"give the seat {view.seat.value!r} to a debater or consultant"
            )
        scores = self.scores(view)
        if view.act is Act.ASK:
            text = question(view, scores)
            if view.emit is not None:
                view.emit(text)
            return Draft(text=text)
        belief = believe(scores, self.config.sharpness)
        return Draft(belief=belief, ends=view.may_end and settled(belief, self.config.end_at))

    def scores(self, view: View) -> list[float]:
        """Weight of the evidence for each option, 0 to 1, in the question's own order."""
        asked = terms(view.question)
        queries = [query(asked, view.options, i, OPTION_WEIGHT) for i in range(len(view.options))]
        evidence = self._evidence(view, queries)
        idf = _idf(view, evidence)
        standing = [self._standing(piece, evidence, frozenset(asked)) for piece in evidence]
        values = [_values(wanted.weights, idf) for wanted in queries]
        doubts = [1.0] * len(queries)
        # Sorted, so that the order of the turns cannot even enter through rounding.
        for weight, piece in sorted(zip(standing, evidence, strict=True), key=lambda p: p[1].text):
            share = math.fsum(v for term, v in values[piece.option].items() if term in piece.terms)
            doubts[piece.option] *= 1.0 - weight * share
        return [round(1.0 - doubt, 9) for doubt in doubts]

    def _evidence(self, view: View, queries: Sequence[Query]) -> list[Evidence]:
        """All pieces, each once for each option."""
        speeches = [turn for turn in view.turns if turn.act is Act.SPEAK]
        pieces = [piece for turn in speeches for piece in self._spoken(turn, view, queries)]
        if view.source is not None:
            passages = index(view.source.text, MAX_PASSAGE_WORDS)
            for i, wanted in enumerate(queries):
                for score, passage in ranking(passages, wanted)[:NUM_LOOKED_UP]:
                    if score > 0.0:
                        pieces.append(self._piece(i, passages.texts[passage], QuoteStatus.VERIFIED))
        by_words = {(piece.option, " ".join(piece.text.split())): piece for piece in pieces}
        return list(by_words.values())

    def _spoken(self, turn: Turn, view: View, queries: Sequence[Query]) -> list[Evidence]:
        side = view.orders.defended_by(turn.seat)
        pieces = [
            self._piece(
                _supported(quote, side, queries), quote.source_text or quote.text, quote.status
            )
            for quote in turn.quotes
        ]
        return [*pieces, self._piece(side, _unquoted(turn), QuoteStatus.UNVERIFIED)]

    def _piece(self, option: int, text: str, status: QuoteStatus) -> Evidence:
        weights = {
            QuoteStatus.VERIFIED: self.config.verified_weight,
            QuoteStatus.NEAR: self.config.near_weight,
        }
        weight = weights.get(status, self.config.said_weight)
        return Evidence(
            option, text, weight, status is QuoteStatus.VERIFIED, frozenset(terms(text))
        )

    def _standing(
        self, piece: Evidence, all_pieces: Sequence[Evidence], asked: frozenset[str]
    ) -> float:
        """The piece's weight, less if a later one about the same thing supersedes it."""
        superseded = any(
            other.option != piece.option
            and _same_subject(piece, other, asked)
            and later(other.text, piece.text) > 0
            for other in all_pieces
        )
        return piece.weight * (self.config.superseded if superseded else 1.0)


def build(config: Config, engine: Engine | None) -> Agent:
    """A lexical judge; it leaves `engine` unused."""
    return Lexical(config)


def believe(scores: Sequence[float], sharpness: float) -> Belief:
    """The belief that grows with the scores; equal scores are a tie."""
    odds = [math.exp(sharpness * (score - max(scores))) for score in scores]
    total = math.fsum(odds)
    raw = ", ".join(f"{score:.3f}" for score in scores)
    return decide([o / total for o in odds], BeliefMethod.LEXICAL, f"evidence: {raw}", None)


def question(view: View, scores: Sequence[float]) -> str:
    """A request for a quote to the side whose evidence is weaker, or to all if there is none."""
    seats = {turn.seat: turn.role for turn in view.turns if turn.act is Act.SPEAK}
    defended = {seat: view.orders.defended_by(seat) for seat in seats}
    weakest = min((scores[option] for option in defended.values()), default=0.0)
    addressed = [seat for seat in sorted(seats) if scores[defended[seat]] == weakest]
    if len(addressed) != 1 or len(seats) == 0:
        return "Quote the passage of the source that supports your answer best."
    [seat] = addressed
    name = speaker_name(seat, seats[seat])
    return f"{name}, quote the passage of the source that shows: {view.options[defended[seat]]}"


def _supported(quote: Quote, side: int, queries: Sequence[Query]) -> int:
    """The option that a quote speaks for: the speaker's, unless it names only another one."""
    words = frozenset(terms(quote.source_text or quote.text))
    named = [i for i, wanted in enumerate(queries) if words & wanted.distinctive]
    if quote.status is QuoteStatus.VERIFIED and len(named) == 1:
        return named[0]
    return side


def _unquoted(turn: Turn) -> str:
    """The words of a speech outside its quotes."""
    edges = [
        0,
        *(edge for quote in turn.quotes for edge in (quote.start, quote.end)),
        len(turn.text),
    ]
    return " ".join(turn.text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))


def _same_subject(first: Evidence, second: Evidence, asked: frozenset[str]) -> bool:
    """Whether two verified pieces touch the question in the same terms."""
    common = first.terms & asked
    return first.verified and second.verified and bool(common) and common == second.terms & asked


def _idf(view: View, evidence: Sequence[Evidence]) -> dict[str, float]:
    """Inverse document frequency of terms, over the source if seen, else over the evidence."""
    if view.source is not None:
        return index(view.source.text, MAX_PASSAGE_WORDS).idf
    counts = Counter(term for piece in evidence for term in piece.terms)
    return {term: math.log((1 + len(evidence)) / (1 + n)) + 1.0 for term, n in counts.items()}


def _values(weights: Mapping[str, float], idf: Mapping[str, float]) -> dict[str, float]:
    """A query's terms with their shares, by weight times idf; unseen terms are the rarest."""
    rarest = max(idf.values(), default=1.0)
    value = {term: weight * idf.get(term, rarest) for term, weight in weights.items()}
    total = math.fsum(value.values())
    return {term: part / total for term, part in value.items()}
