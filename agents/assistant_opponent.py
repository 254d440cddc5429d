"""Assistant opponent: a model that argues against what the judge believes at present."""

from __future__ import annotations

from oversight.agents._assisting import (
    AGAINST,
    Assisting,
    AssistingSettings,
)
from oversight.types import Agent, Engine, Help, Role

ROLES = frozenset({Role.ASSISTANT})


class Config(AssistingSettings):
    """Settings of the assistant."""


def build(config: Config, engine: Engine | None) -> Agent:
    """An opponent of the judge's belief, that thinks with `engine`.

    Raises:
        ConfigError: No engine is given.
    """
    return Assisting("assistant_opponent", config, engine, ASKS)


ASKS = {
    Help.AGAINST: AGAINST,
}
