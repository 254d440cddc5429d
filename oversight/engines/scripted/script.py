"""Scripts: where the scripted engine takes its answers from."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from pydantic import Field, field_validator

from oversight.config import Settings
from oversight.errors import ConfigError, EngineRefusedError
from oversight.types import FinishReason, Prompt, Request

SUM_TOLERANCE = 1e-6


def check_beliefs(beliefs: Mapping[str, float] | None) -> None:
    """Refuse what are no probabilities of exclusive answers.

    Raises:
        ValueError: One is not between 0 and 1, or they sum to more than 1.
    """
    values = list((beliefs or {}).values())
    if not all(0.0 <= value <= 1.0 for value in values):
        raise ValueError(f"{dict(beliefs or {})!r} holds a value that is not between 0 and 1")
    if sum(values) > 1.0 + SUM_TOLERANCE:
        raise ValueError(f"{dict(beliefs or {})!r} sums to more than 1")


class Rule(Settings):
    """An answer to every prompt in which a regular expression is found."""

    pattern: str
    answer: str = ""
    beliefs: dict[str, float] | None = None
    """As `Answer.beliefs`."""

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        return value

    @field_validator("beliefs")
    @classmethod
    def _check_beliefs(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        check_beliefs(value)
        return value


class Config(Settings):
    """A script in a file.

    The first rule that fits answers, then the next of `answers`; where no list
    of answers is given, `fallback`.
    """

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"latency_s", "tokens_per_chunk", "fail_calls", "keep_requests"}
    )

    model: str = Field(default="scripted", min_length=1)
    """The name it goes by, to tell scripts apart in what is recorded."""
    rules: tuple[Rule, ...] = ()
    answers: tuple[str, ...] = ()
    """Given out in order, one a request; running out of them is an error."""
    fallback: str = "This is a scripted answer."
    beliefs: dict[str, float] | None = None
    """For choices that the answer does not settle; None for uniform."""
    logprob: float = Field(default=-1.0, le=0.0, allow_inf_nan=False)
    """Of every token that is no choice."""
    logprobs: bool = True
    """True for an engine that gives log-probabilities."""
    choices: bool = True
    """True for an engine that keeps to choices."""
    latency_s: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """Time that each answer takes."""
    tokens_per_chunk: int = Field(default=4, ge=1)
    """Size of the pieces of a stream."""
    fail_calls: frozenset[int] = frozenset()
    """Numbers of the calls, counted from 1, that fail as if the server were gone."""
    keep_requests: int = Field(default=10_000, ge=0)
    """Number of the last requests that `ScriptedEngine.requests` holds."""

    @field_validator("beliefs")
    @classmethod
    def _check_beliefs(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        check_beliefs(value)
        return value


@dataclass(frozen=True, slots=True)
class ScriptedAnswer:
    """A script's answer to one request."""

    text: str = ""
    beliefs: Mapping[str, float] | None = None
    """Probability of each answer that may be chosen from, before the choice is enforced: what
    is missing to 1 went to other words. None: all on `text` if that is one of the choices, else
    as the settings say."""
    reasoning: str = ""
    """A thought given apart from the text, as some servers do."""
    finish_reason: FinishReason | None = None
    """The reason why the answer ended; None for its own end, or the limit of tokens."""

    def __post_init__(self) -> None:
        try:
            check_beliefs(self.beliefs)
        except ValueError as error:
            raise ConfigError(f"Answer.beliefs: {error}") from None


Said: TypeAlias = str | ScriptedAnswer | Awaitable[str | ScriptedAnswer]
Say: TypeAlias = Callable[[Request], Said]
Script: TypeAlias = Sequence[str | ScriptedAnswer] | Mapping[str, str | ScriptedAnswer] | Say


def sayer(script: Script | None, config: Config) -> Say:
    """The function that `script` stands for; without one, the settings are the script."""
    if script is None:
        return _from_settings(config)
    if callable(script):
        return script
    if isinstance(script, Mapping):
        return _by_rules(script.items(), _no_rule)
    if isinstance(script, str):
        raise ConfigError(
            f"script = {script!r}: one text is no script; give a list of answers, a mapping from "
            "regular expressions to answers, or a function"
        )
    return _in_order(script)


def where(request: Request) -> str:
    """Name of a request in messages."""
    return f"scripted engine, request {request.id!r}"


def _from_settings(config: Config) -> Say:
    rest: Say = _in_order(config.answers) if config.answers else lambda _: config.fallback
    if not config.rules:
        return rest
    rules = [(rule.pattern, ScriptedAnswer(rule.answer, rule.beliefs)) for rule in config.rules]
    return _by_rules(rules, rest)


def _in_order(answers: Sequence[str | ScriptedAnswer]) -> Say:
    remaining = iter(tuple(answers))

    def say(request: Request) -> str | ScriptedAnswer:
        for answer in remaining:
            return answer
        raise EngineRefusedError(
            f"{where(request)}: all {len(answers)} answers of the script have been given; "
            "add answers, or use rules, which do not run out"
        )

    return say


def _by_rules(rules: Iterable[tuple[str, str | ScriptedAnswer]], rest: Say) -> Say:
    try:
        compiled = [(re.compile(pattern), answer) for pattern, answer in rules]
    except re.error as error:
        raise ConfigError(f"script: {error.pattern!r} is no regular expression: {error}") from None

    def say(request: Request) -> Said:
        text = _searched(request.prompt)
        for pattern, answer in compiled:
            if pattern.search(text):
                return answer
        return rest(request)

    return say


def _searched(prompt: Prompt) -> str:
    return "\n\n".join(message.content for message in prompt.messages)


def _no_rule(request: Request) -> Said:
    end = _searched(request.prompt)[-80:]
    raise EngineRefusedError(
        f"{where(request)}: no rule of the script fits the prompt that ends in {end!r}; "
        "add one, such as '.' for whatever is left"
    )
