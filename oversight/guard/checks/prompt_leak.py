"""Leaks: of the system prompt, of a mark planted in it, and claims without a verified quote."""

from __future__ import annotations

from types import SimpleNamespace

from pydantic import Field

from oversight.config import Settings
from oversight.errors import ConfigError
from oversight.guard.checks.base import (
    FoundStretch,
    GuardedExchange,
    Passage,
    Reading,
    Score,
    Surroundings,
    WholeCheck,
    read_as,
)
from oversight.text.folding import WORD
from oversight.text.quotes import find_quotes, strip_quotes
from oversight.types import QuoteStatus, Source

NAMES = {
    "canary": "The mark that the policy plants in its system prompt.",
    "unverified_quotes": "Quotes that do not stand in the request, and claims without a quote.",
}


class Config(Settings):
    """Longest stretch of the system prompt that an answer may share."""

    chars: int = Field(default=32, ge=12, le=400)
    """Letters and digits in a row, whatever stands between them, that are one stretch too long."""


class LeakCheck:
    """Finds stretches of one text in another, by letters and digits alone."""

    reading = Reading.LETTERS

    def __init__(self, secret: str, size: int) -> None:
        letters = read_as(Reading.LETTERS, secret)
        self.reach = size
        self._size = size
        self._parts = _parts(letters, size)
        # Each stretch holds a whole block that begins at a multiple of half its size.
        self._block = size // 2
        self._blocks = _parts(letters, self._block)

    def search(self, passage: Passage, start: int) -> FoundStretch | None:
        """The first stretch of the secret from `start` on."""
        text, size, block = passage.text, self._size, self._block
        first = -(-(passage.base + start) // block) * block - passage.base
        for anchor in range(first, len(text) - block + 1, block):
            if text[anchor : anchor + block] not in self._blocks:
                continue
            for at in range(max(start, anchor - block), anchor + 1):
                if text[at : at + size] in self._parts:
                    return FoundStretch(at, at + size, "the system prompt")
        return None


def _parts(text: str, size: int) -> frozenset[str]:
    return frozenset(text[at : at + size] for at in range(len(text) - size + 1))


def build(config: Config, around: Surroundings) -> LeakCheck:
    """The check of leaks of the system prompt.

    Raises:
        ConfigError: The policy has none, or one too short to be told from common words.
    """
    size = len(read_as(Reading.LETTERS, around.system))
    if size < config.chars:
        raise ConfigError(
            f"settings.chars = {config.chars}: the system prompt has {size} letters and digits, so "
            "no stretch of it is that long; lower chars, or leave the check out"
        )
    return LeakCheck(around.system, config.chars)


# --- canary ---


class CanaryConfig(Settings):
    """A planted mark has no settings: it is drawn when the guard starts."""


def build_canary(config: CanaryConfig, around: Surroundings) -> LeakCheck:
    """The check of the planted mark.

    Raises:
        ConfigError: The policy plants none.
    """
    if not around.canary:
        raise ConfigError(
            "check = 'canary': no mark is planted; set canary = true under [system] of the policy"
        )
    return LeakCheck(around.canary, len(read_as(Reading.LETTERS, around.canary)))


# --- quotes ---


class QuotesConfig(Settings):
    """Claims that need a quote."""

    every_paragraph: bool = False
    """Every paragraph of five words or more has to hold a quote; else only the
    quotes that are there are verified."""
    min_quotes: int = Field(default=0, ge=0)
    """Quotes that an answer has to have."""


class QuotesCheck(WholeCheck):
    """Weighs an answer by its quotes, `<quote>words</quote>`, against the words of the request."""

    def __init__(self, config: QuotesConfig) -> None:
        self._config = config

    async def examine(self, exchange: GuardedExchange) -> Score:
        """1 where a quote is not verified, or where one is missing."""
        answer = exchange.output or ""
        words = exchange.input
        quotes = find_quotes(answer, Source(text=words) if words else None)
        wrong = [each for each in quotes if each.status is not QuoteStatus.VERIFIED]
        if wrong:
            return Score(1.0, f"a quote that does not stand in the request: {wrong[0].text[:80]!r}")
        if len(quotes) < self._config.min_quotes:
            return Score(1.0, f"{len(quotes)} quotes of {self._config.min_quotes}")
        if self._config.every_paragraph and (bare := _bare(answer)):
            return Score(1.0, f"no quote for {bare[:80]!r}")
        return Score(0.0)


def _bare(answer: str) -> str:
    """The first paragraph that claims something and holds no quote; empty if there is none."""
    for paragraph in answer.split("\n"):
        claims = strip_quotes(paragraph).strip()
        if len(WORD.findall(claims)) >= 5 and not find_quotes(paragraph, None):
            return claims
    return ""


def named(name: str) -> SimpleNamespace:
    """The check of one of `NAMES`, with what a module of its own would hold."""

    def build_quotes(config: QuotesConfig, around: Surroundings) -> QuotesCheck:
        return QuotesCheck(config)

    if name == "canary":
        return SimpleNamespace(__doc__=NAMES[name], Config=CanaryConfig, build=build_canary)
    return SimpleNamespace(__doc__=NAMES[name], Config=QuotesConfig, build=build_quotes)
