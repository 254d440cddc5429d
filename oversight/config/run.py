"""Settings of a run: which questions, protocols, agents and engines, and where to keep it all.

store = "debates.db"
protocols = ["debate", "consultancy"]

[dataset]
dataset = "world"
limit = 100
settings = { split = "held_out", difficulty = 2 }

[agents.debater]
agent = "debater"
engine = "local"          # a name of [engines]

[engines.local]
engine = "vllm"
settings = { model = "path/or/name" }
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from oversight.config.settings import Settings
from oversight.types import Role

SidesDesign = Literal["drawn", "both"]


class DatasetSettings(Settings):
    """Choice of the questions."""

    dataset: str
    """Name of a data set: `oversight datasets` lists them."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """The data set's own settings."""
    split: str | None = None
    """Only questions of this split. A data set that has a setting `split` is asked for it."""
    limit: int | None = Field(default=None, ge=1)
    """At most so many questions."""
    shuffle: bool = False
    """Take a seeded sample instead of the first questions. A smaller sample is part of a larger."""
    skip_bad: bool = False
    """Go on without the rows that cannot be used, counted and listed."""


class EngineSettings(Settings):
    """An engine under a name of its own, so that several roles can share it."""

    engine: str
    settings: dict[str, JsonValue] = Field(default_factory=dict)


class AgentSettings(Settings):
    """Agent, engine and settings that play a role."""

    agent: str
    engine: str | None = None
    """A name of the run's engines."""
    settings: dict[str, JsonValue] = Field(default_factory=dict)


EMBEDDED_AGENTS: dict[Role, AgentSettings] = {
    Role.DEBATER: AgentSettings(agent="retrieval"),
    Role.CONSULTANT: AgentSettings(agent="retrieval"),
    Role.CRITIC: AgentSettings(agent="retrieval"),
    Role.RESPONDER: AgentSettings(agent="retrieval"),
    Role.JUDGE: AgentSettings(agent="lexical"),
}
"""The default of every role: agents that need no language model."""


class RunSettings(Settings):
    """A run of debates over a data set."""

    dataset: DatasetSettings
    protocols: tuple[str, ...] = Field(default=("debate",), min_length=1)
    """Names of protocols, or paths of protocol files."""
    agents: dict[Role, AgentSettings] = Field(default_factory=dict)
    """Agents by role; roles that are not named are played by the embedded agents."""
    engines: dict[str, EngineSettings] = Field(default_factory=dict)
    store: str = "oversight.db"
    """Path of an SQLite file, or a postgresql:// URL."""
    seed: int = 0
    concurrency: int = Field(default=32, ge=1, le=10_000)
    """Number of debates in flight at once."""
    sides: SidesDesign = "drawn"
    """Assignment of options to seats: drawn for each question, or each assignment once."""

    swap: bool = False
    """Judge every debate a second time with the options and sides shown the other way round."""

    def cast(self) -> dict[Role, AgentSettings]:
        """Agents by role, defaults filled in."""
        return EMBEDDED_AGENTS | self.agents
