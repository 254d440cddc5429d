"""Assistant critic: a model that says, for a judge, what is wrong with a turn; nothing else."""

from __future__ import annotations

from oversight.agents._assisting import (
    CRITIQUE,
    Assisting,
    AssistingSettings,
)
from oversight.types import Agent, Engine, Help, Role

ROLES = frozenset({Role.ASSISTANT})


class Config(AssistingSettings):
    """Settings of the assistant."""


def build(config: Config, engine: Engine | None) -> Agent:
    """A critic for a judge, that thinks with `engine`.

    Raises:
        ConfigError: No engine is given.
    """
    return Assisting("assistant_critic", config, engine, ASKS)


ASKS = {
    Help.CRITIQUE: CRITIQUE,
}
