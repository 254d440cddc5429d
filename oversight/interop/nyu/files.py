"""Shapes of the NYU debate files, as far as they are read; what else stands in them is kept as it
is.

The names are those of the files' program (https://github.com/julianmichael/debate, debate/src).
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

TOLERANCE = 1e-6
"""Distance from one that the sum of a belief may have."""


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Closed(_Shape):
    """A shape of which every key is understood: another one is another version."""

    model_config = ConfigDict(extra="forbid")


class Words(_Closed):
    """Text of a speaker's own."""

    text: str


class Span(_Closed):
    """Tokens of the story, end exclusive."""

    span: tuple[int, int]


class Segment(_Closed):
    """A piece of a speech: words, or a quote."""

    words: Words | None = Field(default=None, alias="Text")
    quote: Span | None = Field(default=None, alias="Quote")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.words is None) == (self.quote is None):
            raise ValueError("a segment is either a Text or a Quote")
        return self


class Speech(_Shape):
    """Words of one person, or of a model, at a time in milliseconds since 1970."""

    speaker: str
    timestamp: int
    content: tuple[Segment, ...]


Side = Literal["0", "1"]
"""Index of the answer that is argued for."""


class Speeches(_Closed):
    """Speeches of one round."""

    speeches: dict[Side, Speech]


class JudgeWords(_Closed):
    """A judge's belief, and what they say with it."""

    distribution: tuple[float, ...]
    feedback: Speech
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
    def speeches(self) -> dict[int, Speech]:
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


class Story(_Shape):
    """A story as tokens, among them line breaks."""

    article_id: str = Field(default="", alias="articleId")
    title: str
    contents: tuple[str, ...] = Field(min_length=1)


class Material(_Closed):
    """The story, of QuALITY or of one's own."""

    quality: Story | None = Field(default=None, alias="QuALITYSourceMaterial")
    custom: Story | None = Field(default=None, alias="CustomSourceMaterial")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.quality is None) == (self.custom is None):
            raise ValueError("one of QuALITYSourceMaterial and CustomSourceMaterial is needed")
        return self

    @property
    def story(self) -> Story:
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
