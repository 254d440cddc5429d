"""Graceful refusals: what cannot be done, why in general, and what can be done instead.

The words stand in `refusals.toml` by language and reason, and a policy may bring its own. They are
given in the language of the user's last message where there are words in it, else in English.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydantic import Field

from oversight.config import Settings

DEFAULT = "en"


class RefusalWords(Settings):
    """Words of a refusal for one reason in one language."""

    what: str = Field(min_length=1)
    """Words on what cannot be done."""
    why: str = Field(min_length=1)
    """Reason in general: never which check found what."""
    instead: str = Field(min_length=1)
    """Words on what can be done instead."""


@cache
def _shipped() -> dict[str, tuple[str, dict[str, RefusalWords]]]:
    """By language: the words before a refusal in the middle of an answer, and those by reason."""
    data = tomllib.loads(Path(__file__).with_name("refusals.toml").read_text(encoding="utf-8"))
    return {
        language: (
            found.pop("partly"),
            {reason: RefusalWords.parse(words) for reason, words in found.items()},
        )
        for language, found in data.items()
    }


def reasons() -> tuple[str, ...]:
    """The reasons that there are words for."""
    return tuple(_shipped()[DEFAULT][1])


def languages() -> tuple[str, ...]:
    """The languages that there are words in."""
    return tuple(_shipped())


Own = Mapping[str, Mapping[str, RefusalWords]]
"""A policy's own words, by reason and language."""


def refusal(reason: str, language: str, own: Own | None = None, *, partly: bool = False) -> str:
    """The words of a refusal.

    Args:
        reason: One of `reasons`, or one that a policy brings words for.
        language: As `language_of` gives it.
        own: Words of a policy, which go before ours.
        partly: A part of the answer has been sent already.
    """
    before, ours = _shipped().get(language) or _shipped()[DEFAULT]
    theirs = (own or {}).get(reason, {})
    words = theirs.get(language) or ours.get(reason) or theirs.get(DEFAULT)
    words = words or _shipped()[DEFAULT][1].get(reason) or ours["general"]
    said = f"{words.what} {words.why} {words.instead}"
    return f"\n\n{before} {said}" if partly else said


_COMMON: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": "the and is are to of in what how you i my can for it do does this with",
        "de": "der die das und ist nicht ich wie was ein eine zu den mit für auf sie mir kann wo",
        "fr": "le la les et est je vous un une des du que qui pour dans comment pas où",
        "es": "el la los las y es no yo un una que de para en cómo como mi qué dónde",
    }.items()
}
_WORD = re.compile(r"[^\W\d_]+")


def language_of(text: str) -> str:
    """The language of a text, by its commonest words; English where they do not tell."""
    words = [word.lower() for word in _WORD.findall(text[:4000])]
    counts = {
        language: sum(word in common for word in words) for language, common in _COMMON.items()
    }
    best = max(counts, key=lambda each: (counts[each], each == DEFAULT))
    return best if counts[best] else DEFAULT
