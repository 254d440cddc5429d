"""Regular expressions of your own, in linear time; and lists of words in the text's folded form.

A pattern is RE2's, and bounded: `[a-z]{1,64}` and not `[a-z]+`. So the longest thing that it can
match is known, which is what a stream has to hold back.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from pydantic import Field

from oversight.config import Settings
from oversight.errors import ConfigError
from oversight.guard.checks.base import (
    FoundStretch,
    Passage,
    Reading,
    Surroundings,
    expressions,
    read_as,
)

NAMES = {
    "words": "Lists of words and phrases, whole words in whichever case, spelling or disguise."
}

MAX_REACH = 4096
"""Longest match that a pattern may have, in characters."""


class Config(Settings):
    """Patterns of one kind."""

    patterns: tuple[str, ...] = Field(min_length=1)
    """Regular expressions of RE2, each with a longest match."""
    reading: Reading = Reading.RAW
    """Form of the text that is searched: as it stands, folded, or letters and digits alone."""
    ignore_case: bool = False


class PatternCheck:
    """Finds what any of some expressions matches; the first place counts."""

    def __init__(
        self, patterns: Sequence[str], reading: Reading, what: str, *, ignore_case: bool = False
    ) -> None:
        self.reading = reading
        self.reach = max(map(longest_match, patterns))
        self._what = what
        joined = "|".join(f"(?:{each})" for each in patterns)
        self._expression = compiled(joined, ignore_case=ignore_case)

    def search(self, passage: Passage, start: int) -> FoundStretch | None:
        """The first match from `start` on."""
        hit = self._expression.search(passage.searched, start)
        return None if hit is None else FoundStretch(hit.start(), hit.end(), self._what)


def build(config: Config, around: Surroundings) -> PatternCheck:
    """The check of some patterns.

    Raises:
        ConfigError: One is no linear-time expression, or has no longest match.
    """
    for number, pattern in enumerate(config.patterns):
        check_pattern(pattern, f"settings.patterns.{number}")
    return PatternCheck(
        config.patterns, config.reading, "a pattern", ignore_case=config.ignore_case
    )


def compiled(pattern: str, *, ignore_case: bool = False) -> Any:
    """An expression of RE2, which says nothing on stderr about a wrong one.

    Raises:
        MissingDependencyError: google-re2 is not installed.
    """
    re2 = expressions()
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignore_case
    return re2.compile(pattern, options)


def check_pattern(pattern: str, setting: str) -> None:
    """Refuse a pattern that is not linear, matches nothing, or can match without an end.

    Raises:
        ConfigError: Names the setting and the pattern.
    """
    re2 = expressions()
    try:
        expression = compiled(pattern)
    except re2.error as error:
        said = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise ConfigError(
            f"{setting} = {pattern!r}: no expression of RE2 ({said}); look-around and references "
            "back are not linear in time: write it without them"
        ) from None
    if expression.search("") is not None:
        raise ConfigError(
            f"{setting} = {pattern!r} matches the empty text; let it need a character"
        )
    if longest_match(pattern, setting) > MAX_REACH:
        raise ConfigError(
            f"{setting} = {pattern!r} has no longest match, or one beyond {MAX_REACH} "
            "characters, and a stream would have to hold everything back: bound it, as in "
            "[a-z]{1,64} for [a-z]+"
        )


_CLASS = re.compile(r"\\[pP](?:\{\^?\w+\}|\w)")
"""A class of Unicode, which Python's parser does not know; one character long."""


def longest_match(pattern: str, setting: str = "pattern") -> int:
    """Characters of the longest match; beyond `MAX_REACH` where there is none.

    Raises:
        ConfigError: The pattern's length cannot be told.
    """
    parser = importlib.import_module("re._parser")
    plain = _CLASS.sub("x", pattern).replace(r"\z", r"\Z")
    try:
        if "{," in plain:  # up to so many for Python, these very characters for RE2
            raise re.error("{,n} means two things: write {0,n}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return int(parser.parse(plain).getwidth()[1])
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(
            f"{setting} = {pattern!r}: its longest match cannot be told ({error}); write it in the "
            "syntax that RE2 and Python share"
        ) from None


# --- words ---


class WordsConfig(Settings):
    """A list of words."""

    words: tuple[str, ...] = Field(min_length=1)
    """Words and phrases, found as whole words; case, accents, lookalikes and invisible characters
    make no difference."""


class WordsCheck:
    """Finds whole words of a list in the folded text."""

    reading = Reading.FOLDED

    def __init__(self, words: Sequence[str], what: str = "a word of the list") -> None:
        folded = {read_as(Reading.FOLDED, " ".join(word.split())) for word in words}
        # The longest first, so that "category" is not read as "cat" that goes on.
        forms = sorted(folded, key=lambda each: (-len(each), each))
        escaped = (r"\s".join(map(expressions().escape, form.split(" "))) for form in forms)
        self.reach = max(map(len, forms)) + 1
        self._what = what
        self._expression = compiled(
            rf"(?:^|[^\pL\pN])({'|'.join(escaped)})(?:[^\pL\pN]|\z)",
        )

    def search(self, passage: Passage, start: int) -> FoundStretch | None:
        """The first whole word from `start` on."""
        at = max(start - 1, 0)
        while (hit := self._expression.search(passage.searched, at)) is not None:
            found, end = hit.span(1)
            if found >= start:
                return FoundStretch(found, end, self._what)
            at = found
        return None


def named(name: str) -> SimpleNamespace:
    """The check of one of `NAMES`, with what a module of its own would hold."""

    def build_words(config: WordsConfig, around: Surroundings) -> WordsCheck:
        for number, word in enumerate(config.words):
            if not read_as(Reading.LETTERS, word):
                raise ConfigError(f"settings.words.{number} = {word!r} has no letter or digit")
        return WordsCheck(config.words)

    return SimpleNamespace(__doc__=NAMES[name], Config=WordsConfig, build=build_words)
