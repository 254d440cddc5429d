"""Runaway answers: too long, or going round in a circle; and answers that break a JSON schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from pydantic import Field, JsonValue

from oversight.config import Settings
from oversight.errors import ConfigError, MissingDependencyError
from oversight.guard.checks.base import (
    FoundStretch,
    GuardedExchange,
    Passage,
    Reading,
    Score,
    Surroundings,
    WholeCheck,
)

NAMES = {
    "repetition": "The same characters again and again.",
    "json_schema": "An answer that is no JSON, or not of a schema.",
}


class Config(Settings):
    """Longest text."""

    max_chars: int = Field(ge=1)
    """Characters after which the text is cut."""


class LengthCheck:
    """Finds what stands behind the longest length."""

    reading = Reading.RAW
    reach = 1

    def __init__(self, max_chars: int) -> None:
        self._max_chars = max_chars

    def search(self, passage: Passage, start: int) -> FoundStretch | None:
        """The first characters beyond the length."""
        at = max(start, self._max_chars - passage.base)
        if at >= len(passage.text):
            return None
        return FoundStretch(at, at + 1, f"more than {self._max_chars} characters")


def build(config: Config, around: Surroundings) -> LengthCheck:
    """The check of a longest length."""
    return LengthCheck(config.max_chars)


# --- repetition ---

_SEED = 8
"""Characters by which a place is found again."""
_MAX_TRIES = 8
"""Places where it is found again that are tried as periods, the nearest first."""


class RepetitionConfig(Settings):
    """Longest run of the same characters again and again."""

    max_chars: int = Field(default=240, ge=64, le=4096)
    """Length of a run that is one too many."""
    max_period: int = Field(default=80, ge=1, le=1024)
    """Longest unit that is repeated, in characters."""


class RepetitionCheck:
    """Finds runs in which every character is that of one period before."""

    reading = Reading.RAW

    def __init__(self, max_chars: int, max_period: int) -> None:
        self.reach = max_chars
        self._size, self._period = max_chars, max_period
        # Every run of that size has such a place early enough to see a whole period behind it.
        self._stride = max(1, max_chars - max_period - _SEED)

    def search(self, passage: Passage, start: int) -> FoundStretch | None:
        """The first run from `start` on, as long as it takes to be one."""
        text, best = passage.text, None
        first = -(-(passage.base + start) // self._stride) * self._stride - passage.base
        for anchor in range(first, len(text) - _SEED, self._stride):
            if best is not None and anchor >= best + self._size:
                break
            found = self._run_at(text, anchor, start)
            if found is not None and (best is None or found < best):
                best = found
        return None if best is None else FoundStretch(best, best + self._size, "a repetition")

    def _run_at(self, text: str, anchor: int, start: int) -> int | None:
        """The start of the first run that holds the place `anchor`."""
        seed, best = text[anchor : anchor + _SEED], None
        end = anchor + self._period + _SEED
        again, tries = text.find(seed, anchor + 1, end), _MAX_TRIES
        while again >= 0 and tries:
            period = again - anchor
            low = anchor
            floor = max(start, anchor - self._size + 1)
            while low > floor and text[low - 1] == text[low - 1 + period]:
                low -= 1
            high = again + _SEED
            while high < min(len(text), low + self._size) and text[high] == text[high - period]:
                high += 1
            if high - low >= self._size and (best is None or low < best):
                best = low
                if low == floor:
                    break
            again, tries = text.find(seed, again + 1, end), tries - 1
        return best


# --- JSON schema ---


class SchemaConfig(Settings):
    """Form of an answer."""

    schema_: dict[str, JsonValue] = Field(alias="schema")
    """A JSON schema, in the answer's place; references lead to itself alone."""


class SchemaCheck(WholeCheck):
    """Finds an answer that is no JSON, or breaks the schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._validator = _validator(schema)

    async def examine(self, exchange: GuardedExchange) -> Score:
        """1 for an answer that breaks it, with the place and the reason."""
        try:
            given = json.loads(exchange.output or "", parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            return Score(1.0, f"no JSON: {error}")
        wrong = next(iter(self._validator.iter_errors(given)), None)
        if wrong is None:
            return Score(0.0)
        place = "".join(f".{part}" for part in wrong.instance_path) or "."
        return Score(1.0, f"{place}: {wrong.message[:200]}")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _validator(schema: Mapping[str, Any]) -> Any:
    """The validator of a schema, whose patterns are linear in time and which reads no other."""
    try:
        import jsonschema_rs
    except ImportError:
        raise MissingDependencyError(
            "the check json_schema needs jsonschema-rs: pip install 'oversight[guard]'"
        ) from None

    def refuse(uri: str) -> Any:
        raise ValueError(f"{uri} is another document, which is not read")

    try:
        return jsonschema_rs.validator_for(
            dict(schema), retriever=refuse, pattern_options=jsonschema_rs.RegexOptions()
        )
    except Exception as error:  # its own errors, and those of references that lead elsewhere
        said = " ".join(str(error).split())[:200]
        raise ConfigError(f"settings.schema is no JSON schema: {said}") from None


def named(name: str) -> SimpleNamespace:
    """The check of one of `NAMES`, with what a module of its own would hold."""

    def build_repetition(config: RepetitionConfig, around: Surroundings) -> RepetitionCheck:
        if config.max_chars < config.max_period + 2 * _SEED:
            raise ConfigError(
                f"settings.max_chars = {config.max_chars}: a run has to be longer than a period of "
                f"{config.max_period} and {2 * _SEED} characters"
            )
        return RepetitionCheck(config.max_chars, config.max_period)

    def build_schema(config: SchemaConfig, around: Surroundings) -> SchemaCheck:
        return SchemaCheck(config.schema_)

    if name == "repetition":
        return SimpleNamespace(__doc__=NAMES[name], Config=RepetitionConfig, build=build_repetition)
    return SimpleNamespace(__doc__=NAMES[name], Config=SchemaConfig, build=build_schema)
