"""The contract of checks: on a text as it grows, or on a whole exchange.

A text check finds stretches of a text, each decided by so few characters that a stream need hold
back no more than these. A whole check is asked once, when all is there.
"""

from __future__ import annotations

import abc
import typing
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any, Protocol

from oversight import registry
from oversight.config import Settings
from oversight.errors import ConfigError, MissingDependencyError
from oversight.text.folding import COMBINING, INVISIBLE, LOOKALIKES
from oversight.types import Engine, EngineSpec


class Reading(StrEnum):
    """Forms in which a check reads a text; each is made character by character."""

    RAW = "raw"
    """As it stands."""
    FOLDED = "folded"
    """In small letters, without accents and invisible characters, lookalikes as what they pass
    for."""
    LETTERS = "letters"
    """Folded, and of that letters and digits alone."""


@dataclass(frozen=True, slots=True)
class FoundStretch:
    """Characters that a check found, in the reading that it asked for."""

    start: int
    end: int
    what: str
    tail: Callable[[str], bool] | None = None
    """True of a character that goes on with the stretch if it stands right behind it: so what has
    no longest length is found by its beginning, and found to its end."""


@dataclass(slots=True)
class Passage:
    """The part of a text that a check is shown, in its reading."""

    text: str
    base: int = 0
    """Characters of the whole reading before it."""
    _encoded: bytes | str | None = field(default=None, init=False)

    @property
    def searched(self) -> bytes | str:
        """The text for a search by re2, which is faster over bytes: their places are the text's
        own where all is ASCII."""
        if self._encoded is None:
            self._encoded = self.text.encode() if self.text.isascii() else self.text
        return self._encoded


@typing.runtime_checkable
class TextCheck(Protocol):
    """Finds stretches of a text, from left to right."""

    reading: Reading
    reach: int
    """A stretch that starts at i is decided by the characters from i - 1 to i + reach."""

    def search(self, passage: Passage, start: int) -> FoundStretch | None:
        """The first stretch that starts at `start` or after it, by places in `passage.text`."""
        ...


@dataclass(frozen=True, slots=True)
class GuardedExchange:
    """Request and answer, as a whole check sees them."""

    messages: Sequence[Mapping[str, Any]]
    """As the model was given them."""
    output: str | None = None
    """None before there is an answer."""
    system: str = ""
    """The policy's own system prompt."""

    @property
    def input(self) -> str:
        """Words of the client's messages, the last one last."""
        return "\n\n".join(text for each in self.messages for text in texts_of(each))

    @property
    def request(self) -> str:
        """The last message of the user."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                return "\n\n".join(texts_of(message))
        return ""


def texts_of(message: Mapping[str, Any]) -> list[str]:
    """The texts in a message's content, in order."""
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        return []
    parts = (each for each in content if isinstance(each, dict))
    return [each["text"] for each in parts if isinstance(each.get("text"), str)]


@dataclass(frozen=True, slots=True)
class Score:
    """The word of a whole check."""

    value: float
    """From 0, nothing found, to 1."""
    what: str = ""


class WholeCheck(abc.ABC):
    """Weighs a whole exchange; what is sent waits for it."""

    threshold: float = 0.5
    """Score from which on something is found."""

    @abc.abstractmethod
    async def examine(self, exchange: GuardedExchange) -> Score:
        """The score of an exchange.

        Raises:
            OversightError: It cannot be weighed; the policy says what follows.
        """

    async def prepare(self) -> None:  # noqa: B027 - most checks have nothing to load
        """Load what it needs, before anybody waits for it."""

    async def aclose(self) -> None:  # noqa: B027 - nor to give back
        """Give back what it holds."""


Check = TextCheck | WholeCheck


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Knowledge of the policy around a check, for those that need it."""

    system: str = ""
    """The system prompt, filled in."""
    canary: str = ""
    """A mark that stands in the system prompt and must never be sent."""
    open: Callable[[str], Engine] | None = None
    """Opens an engine of the guard by its name."""

    spec_of: Callable[[str], EngineSpec | None] | None = None
    """The description of a model of the guard by its name; None for one that a server runs."""

    def spec(self, name: str, where: str) -> EngineSpec | None:
        """The description of the model of that name, without opening it; None for a server's.

        Raises:
            ConfigError: There is no model of that name.
        """
        if self.spec_of is None:
            raise ConfigError(
                f"{where}.model = {name!r}: no models are described here; describe it under "
                f"[upstreams.{name}] of the guard's file"
            )
        return self.spec_of(name)

    def engine(self, name: str, where: str) -> Engine:
        """The engine of that name.

        Raises:
            ConfigError: There is none.
        """
        if self.open is None:
            raise ConfigError(
                f"{where}.engine = {name!r}: no engines are described here; describe it under "
                f"[engines.{name}] of the guard's file"
            )
        return self.open(name)


def build_check(name: str, settings: Mapping[str, Any], where: str, around: Surroundings) -> Check:
    """The check of a registered name, or of a user's own file, "file.py:Class".

    Args:
        name: As `oversight/guard/checks/` has it.
        settings: Its own settings.
        where: Dotted place of the settings, for messages.
        around: What it may need to know of the policy.

    Raises:
        ConfigError: A setting is wrong; names the dotted field and the value.
        UnknownNameError: There is no such check.
        MissingDependencyError: It needs a package that is not installed.
    """
    thing = registry.load("checks", name)
    config = registry_settings(thing, where).parse(settings, where=f"{where}.settings")
    try:
        found = thing.build(config, around)
    except ConfigError as error:
        said = str(error)
        raise ConfigError(said if said.startswith(where) else f"{where}.{said}") from error
    if not isinstance(found, TextCheck | WholeCheck):
        raise ConfigError(
            f"{where}.check = {name!r}: build gives no check; a text check has reading, reach and "
            "search, a whole check is a WholeCheck of oversight.guard.checks.base"
        )
    return found


def registry_settings(thing: Any, where: str) -> type[Settings]:
    """The class of a check's settings.

    Raises:
        ConfigError: It is no class of settings.
    """
    found = thing.Config
    if not (isinstance(found, type) and issubclass(found, Settings)):
        raise ConfigError(f"{where}.check: its Config is no class of oversight.config.Settings")
    return found


# --- readings ---


@lru_cache(maxsize=65_536)
def fold_character(char: str) -> str:
    """One character in the folded reading: nothing, itself, or what it passes for."""
    if _is_gone(char):
        return ""
    if "\ud800" <= char <= "\udfff":
        return "\ufffd"
    plain = (
        each for each in unicodedata.normalize("NFKD", char) if not unicodedata.combining(each)
    )
    return "".join(plain).casefold().translate(LOOKALIKES)


@lru_cache(maxsize=65_536)
def letters_of(char: str) -> str:
    """The letters and digits of one character, folded."""
    return "".join(filter(str.isalnum, fold_character(char)))


def whole_characters(char: str) -> str:
    """One character as it stands; half of a surrogate pair, which is none, is a replacement."""
    return "\ufffd" if "\ud800" <= char <= "\udfff" else char


def read_as(reading: Reading, text: str) -> str:
    """A whole text in one of the readings."""
    return "".join(map(CHARACTERS[reading], text))


CHARACTERS: Mapping[Reading, Callable[[str], str]] = {
    Reading.RAW: whole_characters,
    Reading.FOLDED: fold_character,
    Reading.LETTERS: letters_of,
}


def _ranges(spec: str) -> list[tuple[str, str]]:
    found, place = [], 0
    while place < len(spec):
        if spec[place + 1 : place + 2] == "-":
            found.append((spec[place], spec[place + 2]))
            place += 3
        else:
            found.append((spec[place], spec[place]))
            place += 1
    return found


_NO_TRACE = _ranges(INVISIBLE) + _ranges(COMBINING)


def _is_gone(char: str) -> bool:
    return char > "\x7f" and any(low <= char <= high for low, high in _NO_TRACE)


def expressions() -> Any:
    """The module re2: regular expressions in linear time.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import re2
    except ImportError:
        raise MissingDependencyError(
            "checks of text need google-re2, whose expressions no text can make slow: "
            "pip install 'oversight[guard]'"
        ) from None
    return re2
