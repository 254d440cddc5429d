"""Settings of the scripted engine: a script that fits in a file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, field_validator

from oversight.config.settings import Settings

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
    """Whether to be an engine that gives log-probabilities."""
    choices: bool = True
    """Whether to be an engine that keeps to choices."""
    latency_s: float = Field(default=0.0, ge=0.0, allow_inf_nan=False)
    """How long each answer takes."""
    tokens_per_chunk: int = Field(default=4, ge=1)
    """Size of the pieces of a stream."""
    fail_calls: frozenset[int] = frozenset()
    """Numbers of the calls, counted from 1, that fail as if the server were gone."""
    keep_requests: int = Field(default=10_000, ge=0)
    """How many of the last requests `ScriptedEngine.requests` holds."""

    @field_validator("beliefs")
    @classmethod
    def _check_beliefs(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        check_beliefs(value)
        return value
