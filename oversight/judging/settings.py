"""Settings of judging and rating: the person, the items, and the terms of a study.

judge = "anna"
store = "debates.db"
name = "pilot"                  # of the study
overlap = 2                     # people an item
stepped = true                  # turn by turn, a belief after each round

[assistance]
critic = { agent = "assistant_critic", engine = "local" }
full = { agent = "assistant", engine = "local" }

[engines.local]
engine = "vllm"
settings = { model = "path/or/name" }

[assist]
draw = ["none", "critic"]       # which kind an item gets is drawn at random
"""

from __future__ import annotations

import getpass
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from oversight.config import AgentSettings, CastSettings, EngineSettings, RunLabels, Settings
from oversight.types import Role, Task

NO_ASSISTANCE = "none"

ScoreRule = Literal["log", "quadratic", "spherical"]


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "judge"


class AssistSettings(Settings):
    """The draw of assistance for items."""

    draw: tuple[str, ...] = ()
    """Kinds among which one is drawn for each item, `none` among them; a kind named twice is
    drawn twice as often. Empty: every item has the first kind of `[assistance]`."""


class SessionSettings(RunLabels):
    """Settings that sessions of judging and of rating share."""

    incidental: ClassVar[frozenset[str]] = frozenset(
        {"store", "judge", "keys", "theme", "port", "max_tabs", "run", "tags"}
    )

    store: str = "oversight.db"
    """Path of an SQLite file, or a postgresql:// URL."""
    judge: str = Field(default_factory=_user, min_length=1)
    """Your pseudonym, by which your judgments are known; your user name by default."""
    name: str = ""
    """Name of the study that judgments are made in."""
    seed: int = 0
    """Seed of the draws: orders, assistance, the pair that is asked about."""
    dataset: str | None = None
    """Only debates on questions of this data set."""
    protocol: str | None = None
    """Only debates of this protocol."""
    from_run: str | None = None
    """Only debates of this run."""
    overlap: int = Field(default=1, ge=1)
    """Number of people who are to judge an item."""
    shuffle_sides: bool = True
    """Draw for each judge and item which side's words stand first; false keeps the debate's own."""
    require_rationale: bool = False
    idle_s: float = Field(default=30.0, gt=0.0)
    """Without a key or a movement for so long, attention is not counted on."""
    keys: dict[str, str] = Field(default_factory=dict)
    """Keys in place of the usual ones, by the names that `--keys` lists."""
    theme: Literal["dark", "light"] = "dark"
    port: int = Field(default=8765, ge=0, le=65535)
    """Port of `--web`, on loopback."""
    max_tabs: int = Field(default=16, ge=1)
    """Most browser tabs of `--web` at once; each is a process of about 100 MB."""


class JudgingSettings(SessionSettings):
    """A session of judging."""

    stepped: bool = True
    """Reveal recorded debates round by round; false shows them whole."""
    feedback: bool = True
    """Show after sending which answer is right, and the score; false keeps it hidden for good."""
    reveal_models: bool = False
    """Show after sending which models spoke."""
    score: ScoreRule = "log"
    price_per_round: float = Field(default=0.0, ge=0.0)
    """Taken off the score for each round of the debate that was read."""
    assistance: dict[str, AgentSettings] = Field(default_factory=dict)
    """Assistants by kind: a name of your own, and who it is."""
    assist: AssistSettings = Field(default_factory=AssistSettings)
    engines: dict[str, EngineSettings] = Field(default_factory=dict)
    """Engines of the assistants, and of live debates whose models they serve."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if NO_ASSISTANCE in self.assistance:
            raise ValueError(f"assistance.{NO_ASSISTANCE}: this name says that there is none")
        for kind in self.assist.draw:
            if kind != NO_ASSISTANCE and kind not in self.assistance:
                known = ", ".join([NO_ASSISTANCE, *self.assistance])
                raise ValueError(f"assist.draw names {kind!r}, which is not described: {known}")
        for kind, agent in self.assistance.items():
            if agent.engine is not None and agent.engine not in self.engines:
                known = ", ".join(self.engines) or "none"
                raise ValueError(
                    f"assistance.{kind}.engine = {agent.engine!r} is not among [engines]: {known}"
                )
        return self


DEFAULT_CONSTITUTION = "honest_debate"


class RatingSettings(SessionSettings, CastSettings):
    """A session of rating, of a person or of a model: of a study, both rate the same items."""

    constitution: str | None = None
    """The name of a constitution, or a .toml file of your own. The task principles asks for each
    of its principles (default: honest_debate); a model is asked for pairs and revisions under one
    that is drawn (default: under none)."""
    pairs: Literal["one", "all"] = "one"
    """In the task pairs, ask about one pair of a turn's candidates, or about every pair
    of different texts, each once."""
    agents: dict[Role, AgentSettings] = Field(default_factory=dict)
    """Agent of a model that rates (`--rater`), under the name `rater`."""
    raters: dict[str, AgentSettings] = Field(default_factory=dict)
    """Several models in place of `agents.rater`, by names of your own: each rates every item."""
    engines: dict[str, EngineSettings] = Field(default_factory=dict)
    """Engines of models that rate, by names of your own."""
    num_principles: int | None = Field(default=None, ge=1)
    """Number of principles that are drawn for each item where a model rates. By default one, under
    which it is asked; in the task principles all."""
    orders: Literal["both", "drawn"] = "both"
    """Ask a model with responses and answers listed in both orders, or in one that is drawn."""
    concurrency: int = Field(default=32, ge=1, le=10_000)
    """Most ratings of a model that are in flight at once."""

    def constitution_of(self, task: str) -> str | None:
        """The name or file of the constitution that a task is done by, if any."""
        if self.constitution is None and task == Task.PRINCIPLES:
            return DEFAULT_CONSTITUTION
        return self.constitution

    def one_by_one(self) -> dict[str, Self]:
        """The settings of each model that rates, as if it were the only one, by its name."""
        if not self.raters:
            return {"": self}
        return {
            name: self.model_copy(update={"agents": {Role.RATER: each}, "raters": {}})
            for name, each in self.raters.items()
        }

    @model_validator(mode="after")
    def _check_agents(self) -> Self:
        for role in self.agents:
            if role is not Role.RATER:
                raise ValueError(f"agents.{role.value}: only a rater rates (agents.rater)")
        if self.agents and self.raters:
            raise ValueError("agents.rater is one model that rates, raters are several: name one")
        return self
