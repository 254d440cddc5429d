"""Assistant critics: a model that criticises both sides of a debate alike, for a judge."""

from __future__ import annotations

from oversight.agents._assisting import (
    CRITIQUES,
    Assisting,
    AssistingSettings,
)
from oversight.types import Agent, Engine, Help, Role

ROLES = frozenset({Role.ASSISTANT})


class Config(AssistingSettings):
    """Settings of the assistant."""


def build(config: Config, engine: Engine | None) -> Agent:
    """A critic of both sides for a judge, that thinks with `engine`.

    Raises:
        ConfigError: No engine is given.
    """
    return Assisting("assistant_critics", config, engine, ASKS)


ASKS = {
    Help.CRITIQUES: CRITIQUES,
}
