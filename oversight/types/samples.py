"""Prompts, samples and beliefs: the input of a model, its output token for token, its reading."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, partial
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from oversight.ids import canonical_json, text_id

is_none: Callable[[object], bool] = partial(operator.is_, None)
"""True of None: for fields that are not written down unless they are set. Asked of every such
field of every record that is written, so it is none of Python's own functions."""


class Record(BaseModel):
    """Base of all stored records: immutable, and unknown keys are an error."""

    # Numbers that are not finite stay what they are in JSON: as null they could not be read back.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with changes; ids cached from the old content do not come along."""
        copied = super().model_copy(update=update, deep=deep)
        values, fields = copied.__dict__, self.__pydantic_fields__
        if len(values) > len(fields):
            for name in values.keys() - fields.keys():
                del values[name]
        return copied


class SharedRecord(Record):
    """A record that stands unchanged in many others: its JSON texts are made once."""

    @cached_property
    def canonical(self) -> str:
        """Its canonical JSON text, by which it is part of an id."""
        return canonical_json(self.model_dump(mode="json"))

    @cached_property
    def body(self) -> str:
        """Its JSON text as the store keeps it; numbers and characters are all kept exact."""
        return FREE_JSON.encode(self.model_dump())


FREE_JSON = json.JSONEncoder(separators=(",", ":"))


class Message(Record):
    """One chat message; its content is the concatenation of its parts.

    Parts are the pieces that a prompt grew by. Prompts of one debate share
    their first parts, which the store keeps once.
    """

    role: Literal["system", "user", "assistant"]
    parts: tuple[str, ...]

    @property
    def content(self) -> str:
        return "".join(self.parts)


class Prompt(Record):
    """Prompt that a model was given, as chat messages."""

    messages: tuple[Message, ...] = Field(min_length=1)

    @cached_property
    def id(self) -> str:
        return text_id(*(text for m in self.messages for text in (m.role, m.content)))

    def chat(self) -> list[dict[str, str]]:
        """The form that chat templates and chat servers take."""
        return [{"role": message.role, "content": message.content} for message in self.messages]


class FinishReason(StrEnum):
    """Reasons for the end of an answer."""

    STOP = "stop"
    LENGTH = "length"
    CONTENT_FILTER = "content_filter"
    """The server's filter withheld it, or cut it off."""
    REFUSAL = "refusal"
    """The model declined, in the field that its server has for that."""
    TOOL_CALLS = "tool_calls"
    """The model called a tool, though it was given none."""
    CANCELLED = "cancelled"


class NoAnswer(StrEnum):
    """Reasons for an answer that is none."""

    CONTENT_FILTER = "content_filter"
    """Withheld, or cut off in the middle."""
    REFUSAL = "refusal"
    TOOL_CALLS = "tool_calls"
    """A tool was called, at once or behind some words."""
    THOUGHT_CUT = "thought_cut"
    """A thought was cut off at the limit of tokens before the answer began."""
    THOUGHT_ONLY = "thought_only"
    """A thought ended, and no answer followed it."""
    LENGTH = "length"
    """Cut off at the limit of tokens, before a word was written."""
    EMPTY = "empty"


class Usage(Record):
    """Token counts of one call."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None
    """Prompt tokens that were served from a cache, where the engine says so."""


class Purpose(StrEnum):
    """Purpose that a sample was drawn for."""

    SPEECH = "speech"
    REASONING = "reasoning"
    BELIEF = "belief"
    QUESTION = "question"
    ASSISTANCE = "assistance"
    UNANSWERED = "unanswered"
    """Any of these, where nothing was said, or half an answer, and the call was made again."""


class Sample(Record):
    """Output of an engine for one call, with the sampler's own log-probabilities."""

    purpose: Purpose
    engine: str
    model: str
    prompt_id: str
    """Id of the stored prompt; the store gives back its messages and token ids."""
    text: str
    """The answer as it was written, thoughts that stand in it included."""
    reasoning: str = Field(default="", exclude_if=operator.not_)
    """The thought that a server gave apart from the text."""
    opened: bool = Field(default=False, exclude_if=operator.not_)
    """The prompt opened a thought, which the text goes on with."""
    token_ids: tuple[int, ...]
    """All that was sampled, thoughts included; empty where the engine gives no ids."""
    logprobs: tuple[float, ...] | None = None
    """Natural log-probabilities of `token_ids`, as the engine gave them."""
    # Not written down where they are not known: samples of before stay what they were.
    logprobs_temperature: float | None = Field(default=None, exclude_if=is_none)
    """The T for which `logprobs` are log softmax(logits / T); None where no such number is known
    (`Completion.logprobs_temperature`), as of samples that were stored before it was kept."""
    temperature: float | None = Field(default=None, exclude_if=is_none)
    """Temperature that the tokens were drawn at, 0 if greedy; None of samples stored before."""
    top_p: float | None = Field(default=None, exclude_if=is_none)
    """Of the distribution they were drawn from; None of samples stored before."""
    finish_reason: FinishReason
    usage: Usage = Usage()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """A prompt as it was sent, with the ids that the engine read it as."""

    prompt: Prompt
    token_ids: tuple[int, ...] = ()


class JudgeKind(StrEnum):
    MODEL = "model"
    LEXICAL = "lexical"
    HUMAN = "human"


PEOPLE = "people"
"""Stands for a judge's name where all persons who judged are counted together."""


class Verdict(StrEnum):
    """Readings of a belief. INVALID: the judge's answer could not be read at all."""

    DECIDED = "decided"
    TIE = "tie"
    ABSTAIN = "abstain"
    INVALID = "invalid"


class BeliefMethod(StrEnum):
    LOGPROBS = "logprobs"
    PARSED = "parsed"
    LEXICAL = "lexical"
    HUMAN = "human"
    AVERAGED = "averaged"


class Belief(Record):
    """A judge's distribution over the options at one moment."""

    verdict: Verdict
    method: BeliefMethod
    probs: tuple[float, ...] | None = None
    """Probability of each option, in the question's own order, summing to 1; None if unreadable."""
    mass: float | None = None
    """Probability that the judge's model gave to any option before normalising, where known."""
    raw: str = ""
    """The judge's answer as it was written."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        readable = self.verdict in (Verdict.DECIDED, Verdict.TIE)
        if readable and self.probs is None:
            raise ValueError(f"a {self.verdict} belief needs probs")
        if self.probs is not None:
            if any(not 0.0 <= p <= 1.0 for p in self.probs):
                raise ValueError(f"probs={self.probs!r} are not probabilities")
            if abs(sum(self.probs) - 1.0) > 1e-6:
                raise ValueError(f"probs={self.probs!r} do not sum to 1")
        return self

    @property
    def choice(self) -> int | None:
        """Index of the option believed most, or None unless decided."""
        if self.verdict is not Verdict.DECIDED or self.probs is None:
            return None
        return max(range(len(self.probs)), key=self.probs.__getitem__)


class EngineSpec(Record):
    """An engine by name, with its settings as given."""

    engine: str
    settings: dict[str, JsonValue] = Field(default_factory=dict)


class AgentSpec(SharedRecord):
    """An agent by name, with its settings and the engine it thinks with."""

    agent: str
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    engine: EngineSpec | None = None
