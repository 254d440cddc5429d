"""Shapes of the NYU debate files, as far as they are read, and their stories and speeches as text.

What else stands in the files is kept as it is. The names are those of the files' program
(https://github.com/julianmichael/debate, debate/src).

Stories stand there as tokens, which `datasets.nyu.detokenise` makes a text of. The way back is a
guess, right for 99 tokens of 100, and a list of splices for the rest; together they give the very
tokens, which a test holds for every story there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from oversight.datasets.nyu import TokenText, detokenise
from oversight.interop.base import UnusableItem
from oversight.types import Quote, QuoteStatus, Source

TOLERANCE = 1e-6
"""Distance from one that the sum of a belief may have."""


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Closed(_Shape):
    """A shape of which every key is understood: another one is another version."""

    model_config = ConfigDict(extra="forbid")


class OwnWords(_Closed):
    """Text of a speaker's own."""

    text: str


class Span(_Closed):
    """Tokens of the story, end exclusive."""

    span: tuple[int, int]


class SpeechSegment(_Closed):
    """A piece of a speech: words, or a quote."""

    words: OwnWords | None = Field(default=None, alias="Text")
    quote: Span | None = Field(default=None, alias="Quote")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.words is None) == (self.quote is None):
            raise ValueError("a segment is either a Text or a Quote")
        return self


class RecordedSpeech(_Shape):
    """Words of one person, or of a model, at a time in milliseconds since 1970."""

    speaker: str
    timestamp: int
    content: tuple[SpeechSegment, ...]


Side = Literal["0", "1"]
"""Index of the answer that is argued for."""


class Speeches(_Closed):
    """Speeches of one round."""

    speeches: dict[Side, RecordedSpeech]


class JudgeWords(_Closed):
    """A judge's belief, and what they say with it."""

    distribution: tuple[float, ...]
    feedback: RecordedSpeech
    ends: bool = Field(alias="endDebate")

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = list(self.distribution)
        if any(not 0.0 <= p <= 1.0 for p in given):
            raise ValueError(f"distribution = {given}: these are no probabilities")
        if abs(sum(given) - 1.0) > TOLERANCE:
            raise ValueError(f"distribution = {given}: it sums to {sum(given):.6g}, not to 1")
        return self


class Votes(_Closed):
    """Votes of both sides on ending here."""

    votes: dict[Side, bool]


class OfflineWork(_Shape):
    """A judgment given afterwards: at the end alone (`timed`), or speech by speech (`stepped`)."""

    mode: Literal["timed", "stepped"]
    started: int = Field(alias="startTimeMillis")
    judgments: tuple[JudgeWords, ...]


class OfflineRound(_Closed):
    """Judgments given afterwards, by the judge's name."""

    judgments: dict[str, OfflineWork]


Kind = Literal[
    "JudgeFeedback",
    "SimultaneousSpeeches",
    "SequentialSpeeches",
    "NegotiateEnd",
    "OfflineJudgments",
]


class Round(_Closed):
    """One of these."""

    judge: JudgeWords | None = Field(default=None, alias="JudgeFeedback")
    simultaneous: Speeches | None = Field(default=None, alias="SimultaneousSpeeches")
    sequential: Speeches | None = Field(default=None, alias="SequentialSpeeches")
    negotiation: Votes | None = Field(default=None, alias="NegotiateEnd")
    offline: OfflineRound | None = Field(default=None, alias="OfflineJudgments")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"a round is of one kind, here are {len(self.model_fields_set)}")
        return self

    @property
    def kind(self) -> Kind:
        """The kind of round, by its key in the file."""
        [name] = self.model_fields_set
        kind: Any = type(self).model_fields[name].alias
        return kind  # type: ignore[no-any-return]

    @property
    def speeches(self) -> dict[int, RecordedSpeech]:
        """Speeches of the debaters by the index of their answer; none of a judge's round."""
        spoken = self.simultaneous or self.sequential
        return {int(side): each for side, each in spoken.speeches.items()} if spoken else {}


class ClosingRules(_Shape):
    """Rounds after the repeated ones."""

    cycles: int = Field(alias="maxRepeatCycles")
    rounds: tuple[dict[str, Any], ...]


class Rules(_Shape):
    """Kinds of rounds in their order, each under its name with its limits."""

    opening: tuple[dict[str, Any], ...] = Field(alias="fixedOpening")
    repeated: tuple[dict[str, Any], ...] = Field(alias="repeatingStructure")
    closing: ClosingRules | None = Field(default=None, alias="fixedClosing")


class StoryTokens(_Shape):
    """A story as tokens, among them line breaks."""

    article_id: str = Field(default="", alias="articleId")
    title: str
    contents: tuple[str, ...] = Field(min_length=1)


class Material(_Closed):
    """The story, of QuALITY or of one's own."""

    quality: StoryTokens | None = Field(default=None, alias="QuALITYSourceMaterial")
    custom: StoryTokens | None = Field(default=None, alias="CustomSourceMaterial")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.quality is None) == (self.custom is None):
            raise ValueError("one of QuALITYSourceMaterial and CustomSourceMaterial is needed")
        return self

    @property
    def story(self) -> StoryTokens:
        """The one that is given."""
        found = self.quality or self.custom
        assert found is not None
        return found


class Setup(_Shape):
    """The question, its answers, the rules and the people."""

    rules: Rules
    material: Material = Field(alias="sourceMaterial")
    question: str
    answers: tuple[str, ...]
    correct: int = Field(alias="correctAnswerIndex")
    roles: dict[str, str] = {}


class DebateFile(_Shape):
    """One file."""

    setup: Setup
    rounds: tuple[Round, ...]
    feedback: dict[str, dict[str, JsonValue]] = {}


class Setting(_Shape):
    """The arm of the study that a debate belongs to."""

    is_human: bool = Field(alias="isHuman")
    is_debate: bool = Field(alias="isDebate")


class Metadata(_Shape):
    """A line of the metadata, as far as it is read."""

    name: str
    setting: Setting
    status: dict[str, dict[str, Any]]
    in_paper: bool | None = Field(default=None, alias="includedInPaper")

    @property
    def state(self) -> str:
        """`Complete`, `InProgress` or `WaitingToBegin`."""
        return next(iter(self.status), "")

    @property
    def ended_ms(self) -> int | None:
        """Time of the end of a complete debate, in milliseconds since 1970."""
        result = self.status.get("Complete", {}).get("result", {})
        found = result.get("timestamp") if isinstance(result, dict) else None
        return found if isinstance(found, int) else None


# --- stories and speeches as text ---------------------------------------------------------

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

    def speech(
        self, content: tuple[SpeechSegment, ...], place: str
    ) -> tuple[str, tuple[Quote, ...]]:
        """The text of a speech, and its quotes with their places in the text and in the story.

        Raises:
            UnusableItem: A span lies outside the story.
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
            raise UnusableItem(
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
        UnusableItem: It has no words.
    """
    told = detokenise(contents)
    if not told.text.strip():
        raise UnusableItem("setup.sourceMaterial: the story is empty")
    return StoryText(
        Source(title=title, text=told.text),
        told,
        {start: index for index, (start, _) in enumerate(told.spans)},
        {end: index for index, (_, end) in enumerate(told.spans, 1)},
        differences(contents, told),
    )
