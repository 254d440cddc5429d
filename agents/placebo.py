"""Placebo: fluent and verified, and about something else: what a turn does by being there at all.

It names its option and quotes a passage of the source that shares no word with the option, and as
few as may be with the question. A judge who becomes more accurate by such turns profits from the
form of a debate and not from what is said.
"""

from __future__ import annotations

import random

from pydantic import Field

from oversight.agents._passages import features, index
from oversight.agents.speaking import check_speech, label_of
from oversight.config import Settings
from oversight.types import Act, Agent, Draft, Engine, JudgeKind, Role, View

ROLES = frozenset({Role.DEBATER, Role.CONSULTANT})


class Config(Settings):
    """Settings of the placebo speaker."""

    max_quote_words: int = Field(default=40, ge=8, le=200)
    """Longer sentences are cut into pieces of at most this many words."""


class Placebo:
    """Quotes what has nothing to do with its option."""

    name = "placebo"
    kind = JudgeKind.LEXICAL

    def __init__(self, config: Config) -> None:
        self.config = config

    async def act(self, view: View) -> Draft:
        """A speech for the view's side.

        Raises:
            ProtocolError: The view asks for something else.
        """
        check_speech(view, self.name, (Act.SPEAK, Act.REVISE))
        option = view.options[view.side or 0]
        text = f"{label_of(view.side or 0, view.orders.options)}: {option}."
        passage = self._passage(view)
        if passage is not None:
            text += f" <quote>{passage}</quote>"
        if view.emit is not None:
            view.emit(text)
        return Draft(text=text)

    def _passage(self, view: View) -> str | None:
        """One drawn of the passages that share least with the options and the question."""
        if view.source is None:
            return None
        passages = index(view.source.text, self.config.max_quote_words).texts
        asked = set(features(view.question))
        named = {word for option in view.options for word in features(option)}
        overlap = [
            (len(named & words), len(asked & words)) for words in map(set, map(features, passages))
        ]
        least = min(overlap, default=(0, 0))
        among = [text for text, found in zip(passages, overlap, strict=True) if found == least]
        return random.Random(view.seed).choice(among).removesuffix(".") if among else None


def build(config: Config, engine: Engine | None) -> Agent:
    """A placebo speaker; it leaves `engine` unused."""
    return Placebo(config)
