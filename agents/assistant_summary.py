"""Assistant summary: a model that sums up both sides of a debate for a judge, and its cruxes."""

from __future__ import annotations

from oversight.agents._assisting import (
    CRUXES,
    SUMMARY,
    Assisting,
    AssistingSettings,
)
from oversight.types import Agent, Engine, Help, Role

ROLES = frozenset({Role.ASSISTANT})


class Config(AssistingSettings):
    """Settings of the assistant."""


def build(config: Config, engine: Engine | None) -> Agent:
    """A summary for a judge, by `engine`.

    Raises:
        ConfigError: No engine is given.
    """
    return Assisting("assistant_summary", config, engine, ASKS)


ASKS = {
    Help.SUMMARY: SUMMARY,
    Help.CRUXES: CRUXES,
}
