"""Settings of runs of debates: questions, agents, engines, what may be spent; prices of models.

What all settings have in common, and recipes, the files that they are read from, stand in
`settings`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from oversight.config.settings import (
    Settings,
    assignments,
    chosen,
    describe,
    in_words,
    load_recipe,
    override,
    parse_value,
    read_toml,
    settings_of,
    short_form,
)
from oversight.errors import ConfigError
from oversight.registry import nearest
from oversight.types import Role

__all__ = [
    "EMBEDDED_AGENTS",
    "AgentSettings",
    "CastSettings",
    "DatasetSettings",
    "EngineSettings",
    "ExperimentSettings",
    "ModelPrice",
    "PriceTable",
    "RunLabels",
    "RunSettings",
    "Settings",
    "SidesDesign",
    "SpendingSettings",
    "TransactionSettings",
    "assignments",
    "chosen",
    "describe",
    "in_words",
    "load_recipe",
    "override",
    "parse_value",
    "read_toml",
    "settings_of",
    "short_form",
]


class ModelPrice(Settings):
    """Prices of one model, for a million tokens."""

    prompt: float = Field(ge=0.0)
    completion: float = Field(ge=0.0)
    cached: float | None = Field(default=None, ge=0.0)
    """Of prompt tokens that are served from a cache; as other prompt tokens where not given."""


class PriceTable(Settings):
    """Prices of models by name, as a file of one's own gives them."""

    currency: str = Field(default="USD", min_length=1)
    models: dict[str, ModelPrice] = Field(min_length=1)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The table in a TOML file; a ConfigError if it cannot be read or a price is wrong."""
        return cls.parse(read_toml(path, "price table"), path.name, "price table")

    def cost(self, model: str, prompt: int, completion: int, cached: int = 0) -> float | None:
        """Price of so many tokens, `cached` among those of the prompt; None without a price."""
        price = self.models.get(model)
        if price is None:
            return None
        of_cached = price.prompt if price.cached is None else price.cached
        tokens = (prompt - cached) * price.prompt + cached * of_cached
        return (tokens + completion * price.completion) / 1e6


class SpendingSettings(Settings):
    """Bounds on what the models of a run may take, after which it stops and can go on later.

    Calls under way when a bound is reached are waited for.
    """

    max_tokens: int | None = Field(default=None, ge=1)
    """Tokens of prompts and answers, all models together."""
    max_cost: float | None = Field(default=None, gt=0.0)
    """Money, in the currency of the prices."""
    prices: Path | None = None
    """A TOML file of prices by model."""

    def price_table(self, models: Iterable[str]) -> PriceTable | None:
        """The prices, if there is a file of them.

        Args:
            models: Those that will be asked.

        Raises:
            ConfigError: A price is wrong, or one is missing that `max_cost` needs.
        """
        if self.prices is None:
            if self.max_cost is not None:
                raise ConfigError(
                    f"spending.max_cost = {self.max_cost:g} needs prices: name a file of them "
                    "(--prices prices.toml; docs/servers.md has one)"
                )
            return None
        table = PriceTable.read(self.prices)
        missing = [each for each in models if each not in table.models]
        if missing and self.max_cost is not None:
            raise ConfigError(
                f"{self.prices.name}: no price of {missing[0]!r}, which max_cost needs."
                f"{nearest(missing[0], table.models)}"
            )
        return table


RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
TAG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}")
MAX_TAG_CHARS = 200


class RunLabels(Settings):
    """The name and the tags of a run, which decide nothing about its results."""

    run: str | None = None
    """Name that the run is known by; the same name again goes on with it."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags by name, to choose and to compare runs by."""

    @field_validator("run")
    @classmethod
    def _check_name(cls, run: str | None) -> str | None:
        if run is not None and not RUN_NAME.fullmatch(run):
            raise ValueError("a run's name is letters, digits and . _ -, at most 100 of them")
        return run

    @field_validator("tags")
    @classmethod
    def _check_tags(cls, tags: dict[str, str]) -> dict[str, str]:
        for name, value in tags.items():
            if not TAG_NAME.fullmatch(name):
                raise ValueError(f"{name!r}: a tag's name is letters, digits and _ -, at most 50")
            if not value or len(value) > MAX_TAG_CHARS or not value.isprintable():
                raise ValueError(
                    f"{name} = {value!r}: a tag's value is text that can be printed, at most "
                    f"{MAX_TAG_CHARS} characters"
                )
        return tags


class ExperimentSettings(RunLabels):
    """Settings that every experiment in jobs has: a folder, processes, and a short form."""

    out: Path
    """Folder of everything."""
    jobs: int = Field(default=2, ge=1)
    """Processes, of one thread each."""
    quick: dict[str, JsonValue] = Field(default_factory=dict)
    """Dotted names and values that `--quick` sets."""


SidesDesign = Literal["drawn", "both"]


class DatasetSettings(Settings):
    """Choice of the questions."""

    dataset: str
    """Name of a data set (`oversight datasets` lists them), or the path of a .jsonl file."""
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

    @model_validator(mode="before")
    @classmethod
    def _of_a_file(cls, given: Any) -> Any:
        """Take the path of a .jsonl file for the data set that reads such files."""
        if not isinstance(given, dict) or not str(given.get("dataset", "")).endswith(".jsonl"):
            return given
        settings = given.get("settings") or {}
        if isinstance(settings, dict) and "path" in settings:
            raise ValueError("dataset is the path of a file, and settings.path names another")
        path = {"path": given["dataset"]}
        return {**given, "dataset": "jsonl", "settings": path | dict(settings)}


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


class TransactionSettings(Settings):
    """Sizes of the store's transactions, which concurrent writes share.

    Whoever writes waits for the commit in any case: what a turn was built on is durable, and a
    process that is killed has at most those calls to make again that it had not gone on from.
    """

    writes: int = Field(default=512, ge=1, le=100_000)
    """Writes at which a transaction is committed without waiting for more."""
    wait_s: float | None = Field(default=None, ge=0.0, le=10.0)
    """Seconds that a transaction waits for more; unset: 5 ms while many come, else not at all."""


class CastSettings(Settings):
    """Settings that name agents by role, of which a part can be set without the rest.

    A table of a role's name is short for the settings of its agent: `[debater] temperature = 0.3`
    is `[agents.debater.settings]`, and so is `debater.temperature=0.3`. Where no agent is named the
    role keeps its default, of which that one value is changed.
    """

    agents: dict[Role, AgentSettings] = Field(default_factory=dict)
    """Agents by role; roles that are not named are played by the embedded agents."""

    @classmethod
    def changed(cls, data: Mapping[str, Any], changes: Mapping[str, Any], where: str = "") -> Self:
        """Check `data` with `changes` by dotted name, either in the short form or in full."""
        try:
            base = cls._in_full(data)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}" if where else str(error)) from None
        return super().changed(base, {cls._name_in_full(k): v for k, v in changes.items()}, where)

    @model_validator(mode="before")
    @classmethod
    def _take_short_forms(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        data = cls._in_full(given)
        if not isinstance(data.get("agents"), dict):
            return data
        return {**data, "agents": {role: _named(role, it) for role, it in data["agents"].items()}}

    @classmethod
    def _short(cls) -> frozenset[str]:
        """Roles whose name is no setting of another meaning here."""
        return frozenset(role.value for role in Role) - frozenset(cls.model_fields)

    @classmethod
    def _name_in_full(cls, name: str) -> str:
        """A dotted name in its long form: `debater.x` is `agents.debater.settings.x`."""
        role, dot, rest = name.partition(".")
        return f"agents.{role}.settings.{rest}" if dot and role in cls._short() else name

    @classmethod
    def _in_full(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """The data with each table of a role's name moved to where its agent's settings stand."""
        short = {name: table for name, table in data.items() if name in cls._short()}
        found: dict[str, Any] = {name: each for name, each in data.items() if name not in short}
        for role, table in short.items():
            if not isinstance(table, dict):
                raise ValueError(
                    f"{role} = {table!r}: give a table of its agent's settings; the agent itself "
                    f"is agents.{role}.agent"
                )
            way: Any = found
            for part in ("agents", role, "settings"):
                way = way.get(part, {}) if isinstance(way, Mapping) else {}
            if twice := sorted(set(table) & set(way)):
                raise ValueError(
                    f"{role}.{twice[0]} is short for agents.{role}.settings.{twice[0]}, and both "
                    "are set: leave one out"
                )
            changes = {f"agents.{role}.settings.{name}": value for name, value in table.items()}
            found = override(found, changes)
        return found


def _named(role: Any, given: Any) -> Any:
    """The settings given for a role's agent, with its default agent where they name none."""
    default = EMBEDDED_AGENTS.get(role)
    if not isinstance(given, dict) or "agent" in given or role not in set(Role):
        return given
    # Agents that think with a model are called by their roles.
    return {"agent": default.agent if default and "engine" not in given else role, **given}


class RunSettings(RunLabels, CastSettings):
    """A run of debates over a data set."""

    dataset: DatasetSettings
    protocols: tuple[str, ...] = Field(default=("debate",), min_length=1)
    """Names of protocols, or paths of protocol files."""
    engines: dict[str, EngineSettings] = Field(default_factory=dict)
    store: str = "oversight.db"
    """Path of an SQLite file, or a postgresql:// URL."""
    transactions: TransactionSettings = TransactionSettings()
    """For batches of thousands of debates: larger transactions cost less."""
    seed: int = 0
    concurrency: int = Field(default=32, ge=1, le=10_000)
    """Number of debates in flight at once."""
    sides: SidesDesign = "drawn"
    """Assignment of options to seats: drawn for each question, or each assignment once."""

    spending: SpendingSettings = SpendingSettings()
    swap: bool = False
    """Judge every debate a second time with the options and sides shown the other way round."""

    def cast(self) -> dict[Role, AgentSettings]:
        """Agents by role, defaults filled in."""
        return EMBEDDED_AGENTS | self.agents
