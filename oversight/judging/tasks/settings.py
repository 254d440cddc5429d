"""What a session of rating is: whose, on which task, over which items.

judge = "anna"
store = "debates.db"
name = "pilot"                  # of the study
overlap = 2                     # people an item
constitution = "honest_debate"  # of the task principles: a name, or a file
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from oversight.config.run import AgentSettings, EngineSettings
from oversight.judging.settings import SessionSettings
from oversight.types import Role, Task

DEFAULT_CONSTITUTION = "honest_debate"


class RatingSettings(SessionSettings):
    """A session of rating, of a person or of a model: of a study, both rate the same items."""

    constitution: str | None = None
    """The name of a constitution, or a .toml file of your own. The task principles asks for each
    of its principles (default: honest_debate); a model is asked for pairs and revisions under one
    that is drawn (default: under none)."""
    pairs: Literal["one", "all"] = "one"
    """Of the task pairs: ask about one pair of a turn's candidates, or about every pair."""
    agents: dict[Role, AgentSettings] = Field(default_factory=dict)
    """Of a model that rates (`--rater`): `rater`, who it is."""
    engines: dict[str, EngineSettings] = Field(default_factory=dict)
    """Of a model that rates: the engines."""
    num_principles: int | None = Field(default=None, ge=1)
    """Of a model: how many principles are drawn for each item. By default one, under which it is
    asked; of the task principles all."""
    orders: Literal["both", "drawn"] = "both"
    """Of a model: ask in both orders of what is compared and listed, or in one that is drawn."""
    concurrency: int = Field(default=32, ge=1, le=10_000)
    """Of a model: how many ratings are in flight at once."""

    def constitution_of(self, task: Task) -> str | None:
        """The name or file of the constitution that a task is done by, if any."""
        if self.constitution is None and task is Task.PRINCIPLES:
            return DEFAULT_CONSTITUTION
        return self.constitution

    @model_validator(mode="after")
    def _check_agents(self) -> Self:
        for role in self.agents:
            if role is not Role.RATER:
                raise ValueError(f"agents.{role.value}: only a rater rates (agents.rater)")
        return self
