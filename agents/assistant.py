"""Assistant: a model at the side of a person who judges, asked for help of any kind."""

from __future__ import annotations

from oversight.agents._assisting import (
    AGAINST,
    CHECK,
    CRITIQUE,
    CRITIQUES,
    CRUXES,
    FREE,
    SUMMARY,
    UNANSWERED,
    Assisting,
    AssistingSettings,
)
from oversight.types import Agent, Engine, Help, Role

ROLES = frozenset({Role.ASSISTANT})


class Config(AssistingSettings):
    """Settings of the assistant."""


def build(config: Config, engine: Engine | None) -> Agent:
    """An assistant that thinks with `engine`.

    Raises:
        ConfigError: No engine is given.
    """
    return Assisting("assistant", config, engine, ASKS)


ASKS = {
    Help.SUMMARY: SUMMARY,
    Help.CRUXES: CRUXES,
    Help.CHECK: CHECK,
    Help.UNANSWERED: UNANSWERED,
    Help.AGAINST: AGAINST,
    Help.CRITIQUE: CRITIQUE,
    Help.CRITIQUES: CRITIQUES,
    Help.FREE: FREE,
}
