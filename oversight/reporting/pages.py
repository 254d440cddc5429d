"""Contents of the pages as plain data, for HTML and terminal alike; calls of models, comparisons.

A call has the prompt exactly as it was sent and the answer exactly as it came. Texts stand here as
they were written; whatever shows them makes them safe.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from oversight.errors import StoreError
from oversight.store import Store
from oversight.text.revisions import Piece, differences
from oversight.types import Sample, Transcript

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class MarkedStretch:
    """A stretch of a turn's text or of a source."""

    text: str
    status: str = ""
    """Of a quote's words: its status."""
    quotes: tuple[int, ...] = ()
    """Numbers of the quotes that these words belong to."""
    begins: tuple[int, ...] = ()
    """Of a source: the quotes whose words begin here."""


@dataclass(frozen=True, slots=True)
class QuoteNote:
    """A quote with what was found for it."""

    number: int
    """Counted over the whole transcript, from 1."""
    status: str
    text: str
    turn: int
    """Number of its turn."""
    source_text: str = ""
    similarity: float | None = None
    pieces: tuple[Piece, ...] = ()
    """Of a near miss: word by word, from the source's words to the speaker's."""
    is_located: bool = False


@dataclass(frozen=True, slots=True)
class CallNote:
    """A call of a model, in a line."""

    key: str
    """The id by which its own page is found."""
    purpose: str
    model: str
    engine: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    seconds: float
    has_logprobs: bool


@dataclass(frozen=True, slots=True)
class BeliefShown:
    """A belief over the options."""

    verdict: str
    method: str
    probs: tuple[tuple[str, float, bool], ...]
    """(option, probability, whether it is the right one), as the options are listed."""
    mass: float | None
    raw: str


@dataclass(frozen=True, slots=True)
class TurnShown:
    """A turn as it stood before the judge, with what only the records hold."""

    number: int
    """Place in reading order, from 1."""
    id: str
    seat: str
    who: str
    """Seat and role, in words."""
    act: str
    step: int
    round: int
    defends: str
    """Text of the option that its seat defends."""
    side: str
    """`honest`, `dishonest`, or empty."""
    segments: tuple[MarkedStretch, ...]
    num_words: int
    reasoning: str
    quotes: tuple[QuoteNote, ...]
    belief: BeliefShown | None
    notes: tuple[str, ...]
    """Everything else that is recorded of it, in words."""
    principles: tuple[str, ...]
    calls: tuple[CallNote, ...]
    candidates: tuple[TurnShown, ...]
    """Siblings that were not chosen."""
    score: float | None
    text: str
    """The whole text, as it was written."""
    acts: tuple[ActShown, ...] = ()
    """Acts of people that are about it or a quote in it."""


@dataclass(frozen=True, slots=True)
class JudgmentShown:
    """A judgment with its rationale."""

    id: str
    judge: str
    kind: str
    is_swapped: bool
    revision: int
    belief: BeliefShown
    right: bool | None
    choice: str
    rationale: str
    notes: tuple[str, ...]
    leaned_on: tuple[int, ...]
    """Numbers of quotes."""
    calls: tuple[CallNote, ...]
    acts: tuple[ActShown, ...] = ()
    """Acts of people that led to it."""


@dataclass(frozen=True, slots=True)
class RatingShown:
    """Feedback of a person or a model on turns."""

    id: str
    task: str
    rater: str
    kind: str
    turns: tuple[int, ...]
    """Numbers of the turns, 0 for one that is not in the transcript's reading order."""
    answers: tuple[tuple[str, str], ...]
    rationale: str
    notes: tuple[str, ...]
    calls: tuple[CallNote, ...]
    acts: tuple[ActShown, ...] = ()
    """Acts of people that led to it."""


@dataclass(frozen=True, slots=True)
class ActPlace:
    """A place on the page that an act is about."""

    anchor: str
    words: str
    turn: str = ""
    """Id of the turn that it is or stands in."""


@dataclass(frozen=True, slots=True)
class ActShown:
    """One act of a person."""

    number: int
    """In the order of time, from 1."""
    at: str
    who: str
    what: str
    detail: str
    about: tuple[ActPlace, ...]
    """Turns, a quote, a judgment or a rating; the question where it is about the whole."""


@dataclass(frozen=True, slots=True)
class BeliefLine:
    """The way of one judge's belief."""

    judge: str
    points: tuple[tuple[float, float], ...]
    """(place among the turns, probability of the option that the drawing is about)."""


@dataclass(frozen=True, slots=True)
class BeliefChart:
    """Beliefs in one option, over the turns."""

    option: str
    is_right: bool
    lines: tuple[BeliefLine, ...]
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True, slots=True)
class ChangeShown:
    """An answer, its critique and its revision, word by word."""

    number: int
    principles: tuple[str, ...]
    critique: str
    pieces: tuple[Piece, ...]
    """Empty where nothing was revised, or the texts are too long to compare."""
    before: str
    after: str
    outcome: str


@dataclass(frozen=True, slots=True)
class TranscriptPage:
    """All of a transcript."""

    id: str
    question_id: str
    dataset: str
    split: str
    question: str
    history: tuple[tuple[str, str], ...]
    options: tuple[tuple[str, str, bool, str], ...]
    """(letter as listed, text, right, who defends it)."""
    source_title: str
    source: tuple[MarkedStretch, ...]
    source_words: int
    protocol: str
    protocol_says: str
    agents: tuple[tuple[str, str, str], ...]
    """(role, agent and model, settings as JSON)."""
    orders: str
    seed: int
    status: str
    error: str
    ended: str
    turns: tuple[TurnShown, ...]
    judgments: tuple[JudgmentShown, ...]
    verdicts: tuple[tuple[str, str, bool | None], ...]
    """(judge, ruling in words, right), both orders averaged."""
    ratings: tuple[RatingShown, ...]
    acts: tuple[ActShown, ...]
    chart: BeliefChart | None
    changes: tuple[ChangeShown, ...]
    is_open: bool


@dataclass(frozen=True, slots=True)
class TokenShown:
    """One sampled token."""

    id: int
    text: str
    """Its characters, where the model's tokenizer is at hand; else empty."""
    logprob: float | None


@dataclass(frozen=True, slots=True)
class CallPage:
    """One call: the prompt exactly as it was sent, and the answer exactly as it came."""

    debate_id: str
    question: str
    anchor: str
    """Of the turn, judgment or rating that it was made for, on the transcript's page."""
    title: str
    note: CallNote
    messages: tuple[tuple[str, str], ...]
    missing: str
    """Why there is no prompt; empty where there is one."""
    num_prompt_ids: int
    raw: str
    reasoning: str
    tokens: tuple[TokenShown, ...]
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ComparedText:
    """Two texts word by word."""

    pieces: tuple[Piece, ...] = ()
    """From the left one to the right one; empty if they are alike or too long for it."""
    said: str = ""
    """The outcome in words, where there are no pieces."""

    @property
    def is_close(self) -> bool:
        """True if at least half of the letters stand in both."""
        kept = sum(len(piece.text) for piece in self.pieces if piece.change == "kept")
        return 2 * kept >= sum(len(piece.text) for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class ComparePage:
    """Two transcripts side by side, turn against turn and judgment against judgment."""

    left: TranscriptPage
    right: TranscriptPage
    turns: tuple[tuple[TurnShown | None, TurnShown | None, ComparedText], ...]
    judgments: tuple[tuple[JudgmentShown | None, JudgmentShown | None, ComparedText], ...]
    differing: tuple[tuple[str, str, str], ...]
    """(what, left, right) of what was set up differently."""


def calls_of(owner: str, samples: Sequence[Sample]) -> tuple[CallNote, ...]:
    """The calls of a turn, a judgment or a rating, in a line each."""
    return tuple(
        CallNote(
            key=f"{owner}.{place}",
            purpose=sample.purpose.value,
            model=sample.model,
            engine=sample.engine,
            prompt_tokens=sample.usage.prompt_tokens,
            completion_tokens=sample.usage.completion_tokens,
            finish_reason=sample.finish_reason.value,
            seconds=sample.seconds,
            has_logprobs=sample.logprobs is not None,
        )
        for place, sample in enumerate(samples)
    )


def samples_of(transcript: Transcript) -> Iterator[tuple[str, str, str, Sample]]:
    """(key, anchor, title, sample) of each call that a transcript keeps."""
    for turn in transcript.turns:
        title = f"{turn.role.value} {turn.seat.value.upper()}, {turn.act.value}"
        for place, sample in enumerate(turn.samples):
            yield f"{turn.id}.{place}", f"turn-{turn.id}", title, sample
    for judgment in transcript.judgments:
        for place, sample in enumerate(judgment.samples):
            anchor = f"judgment-{judgment.id}"
            yield f"{judgment.id}.{place}", anchor, f"judgment of {judgment.judge}", sample
    for rating in transcript.ratings:
        for place, sample in enumerate(rating.samples):
            title = f"rating of {rating.judge}, {rating.task}"
            yield f"{rating.id}.{place}", f"rating-{rating.id}", title, sample


def call_page(store: Store, debate_id: str, key: str) -> CallPage:
    """The page of one call.

    Raises:
        StoreError: There is no such debate or call.
    """
    transcript = store.transcript(debate_id)
    for found, anchor, title, sample in samples_of(transcript):
        if found == key:
            return call_of(store, transcript, key, anchor, title, sample)
    raise StoreError(f"debate {debate_id} has no call {key!r}")


def call_of(
    store: Store, transcript: Transcript, key: str, anchor: str, title: str, sample: Sample
) -> CallPage:
    """The page of a call that is at hand."""
    messages: tuple[tuple[str, str], ...] = ()
    missing, num_ids = "", 0
    try:
        record = store.prompt(sample.prompt_id, num_tokens=sample.usage.prompt_tokens)
        messages = tuple((each.role, each.content) for each in record.prompt.messages)
        num_ids = len(record.token_ids)
    except StoreError as error:
        missing = str(error)
    owner, _, place = key.rpartition(".")
    facts = {
        "temperature": sample.temperature,
        "top-p": sample.top_p,
        "log-probabilities at temperature": sample.logprobs_temperature,
        "cached tokens": sample.usage.cached_tokens,
        "prompt": sample.prompt_id,
    }
    logprobs = sample.logprobs or (None,) * len(sample.token_ids)
    texts = _token_texts(sample.model, sample.token_ids)
    return CallPage(
        debate_id=transcript.debate.id,
        question=transcript.question.text,
        anchor=anchor,
        title=title,
        note=calls_of(owner, (sample,))[0] if not int(place) else _at(owner, sample, int(place)),
        messages=messages,
        missing=missing,
        num_prompt_ids=num_ids,
        raw=sample.text,
        reasoning=sample.reasoning,
        tokens=tuple(map(TokenShown, sample.token_ids, texts, logprobs)),
        facts=tuple((name, str(value)) for name, value in facts.items() if value is not None),
    )


def _at(owner: str, sample: Sample, place: int) -> CallNote:
    return calls_of(owner, (sample,) * (place + 1))[place]


def _token_texts(model: str, ids: Sequence[int]) -> list[str]:
    tokenizer = _tokenizer(model)
    if tokenizer is None:
        return [""] * len(ids)
    return [tokenizer.decode([id_], skip_special_tokens=False) for id_ in ids]


@lru_cache(maxsize=8)
def _tokenizer(model: str) -> Tokenizer | None:
    """The tokenizer of a model in a folder or in the package, which needs no model library."""
    from oversight import models

    try:
        folder = Path(models.resolve(model))
        file = folder / "tokenizer.json"
        if not file.is_file():
            return None
        from tokenizers import Tokenizer

        return Tokenizer.from_file(str(file))
    except Exception:  # any fault of a foreign file: tokens are shown by their numbers
        return None


def probability(logprob: float) -> str:
    """A log-probability as a share."""
    p = math.exp(min(0.0, logprob))
    return f"{100 * p:.1f} %" if p >= 0.001 or not p else f"{100 * p:.1g} %"


# --- two transcripts side by side ---

MAX_COMPARED_WORDS = 4_000
"""Longer texts are not compared word by word: that takes time with the square of their length."""


def compared(before: str, after: str) -> tuple[Piece, ...]:
    """Word-by-word differences; nothing of texts that are too long for that."""
    if max(len(before), len(after)) > 8 * MAX_COMPARED_WORDS:
        return ()
    num_words = max(len(before.split()), len(after.split()))
    return () if num_words > MAX_COMPARED_WORDS else differences(before, after)


def compare_page(left: TranscriptPage, right: TranscriptPage) -> ComparePage:
    """Both transcripts: turns paired by step, seat and act, judgments by judge and order."""
    comparing = _Comparing()
    seats = {"a": 0, "b": 1, "judge": 2}
    turns = [
        {(t.step, seats.get(t.seat, 3), t.act): t for t in side.turns} for side in (left, right)
    ]
    judged = [
        {(j.judge, j.is_swapped, j.revision): j for j in side.judgments} for side in (left, right)
    ]
    facts = (
        ("question", left.question, right.question),
        ("protocol", left.protocol, right.protocol),
        *(
            (role, dict(_agents(left)).get(role, "–"), dict(_agents(right)).get(role, "–"))
            for role in dict(_agents(left)) | dict(_agents(right))
        ),
        ("orders", left.orders, right.orders),
        ("seed", str(left.seed), str(right.seed)),
    )
    return ComparePage(
        left=left,
        right=right,
        turns=tuple(
            (one, two, comparing.of(one.text if one else None, two.text if two else None))
            for key in sorted({*turns[0], *turns[1]})
            for one, two in [(turns[0].get(key), turns[1].get(key))]
        ),
        judgments=tuple(
            (one, two, comparing.of(one.rationale if one else None, two.rationale if two else None))
            for key in sorted({*judged[0], *judged[1]})
            for one, two in [(judged[0].get(key), judged[1].get(key))]
        ),
        differing=tuple(fact for fact in facts if fact[1] != fact[2]),
    )


class _Comparing:
    """Compares texts as long as a page has not taken too much time with it."""

    def __init__(self) -> None:
        self._left = MAX_COMPARED_WORDS

    def of(self, left: str | None, right: str | None) -> ComparedText:
        """Both word by word; nothing where one is missing."""
        if left is None or right is None or not (left.strip() or right.strip()):
            return ComparedText()
        if left == right:
            return ComparedText(said="Word for word the same.")
        num_words = max(len(left.split()), len(right.split()))
        pieces = compared(left, right) if num_words <= self._left else ()
        if not pieces:
            return ComparedText(said="Too long to compare word by word on this page.")
        self._left -= num_words
        return ComparedText(pieces)


def _agents(page: TranscriptPage) -> Iterator[tuple[str, str]]:
    for role, name, settings in page.agents:
        yield role, f"{name} {' '.join(settings.split())}"
