"""From settings to agents that can act: engines opened once, shared by the roles that name them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from oversight import registry
from oversight.agents import build_agent, identify, roles
from oversight.config import AgentSettings, EngineSettings
from oversight.engines.base import check_engine, open_engine
from oversight.engines.base import identify as identify_engine
from oversight.errors import ConfigError
from oversight.types import Agent, AgentSpec, Debate, Engine, EngineSpec, Role

THINK_WITH_MODEL = frozenset({"debater", "consultant", "critic", "responder", "judge"})
"""Agents that --model is for."""


@dataclass(frozen=True)
class Cast:
    """The agents of a run, what identifies them, and the engines that they think with."""

    agents: Mapping[Role, Agent]
    specs: Mapping[Role, AgentSpec]
    """As they go into a debate's id: defaults filled in, addresses and time-outs left out."""
    engines: Mapping[str, Engine]
    by_path: Mapping[Role, AgentSpec] = field(default_factory=dict)
    """`specs` as oversight identified them before: a model in a folder by the folder's path."""

    def earlier(self, debate: Debate) -> Debate:
        """The same debate as oversight identified it when models were known by their path."""
        agents = {role: self.by_path.get(role, spec) for role, spec in debate.agents.items()}
        return debate.model_copy(update={"agents": agents})

    async def aclose(self) -> None:
        """Close all engines."""
        await asyncio.gather(*(engine.aclose() for engine in self.engines.values()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def cast(
    agents: Mapping[Role, AgentSettings],
    engines: Mapping[str, EngineSettings],
    open_: Callable[[EngineSpec], Engine] = open_engine,
) -> Cast:
    """Build every agent of `agents`, and every engine that one of them names.

    Args:
        agents: By role.
        engines: By the name that agents give.
        open_: Opens an engine; a batch job has others stand for them.

    Raises:
        ConfigError: An agent cannot play its role, or names an engine that is not described, or a
            setting is wrong: also of an engine that nobody names.
        UnknownNameError: There is no agent or engine of a name.
    """
    for name, described in engines.items():
        config = registry.load("engines", described.engine).Config
        config.parse(described.settings, where=f"engines.{name}.settings")
    specs: dict[Role, AgentSpec] = {}
    opened: dict[str, Engine] = {}
    built: dict[Role, Agent] = {}
    by_path: dict[Role, AgentSpec] = {}
    for role, settings in agents.items():
        spec = _spec(role, settings, engines)
        if settings.engine and settings.engine not in opened and spec.engine:
            opened[settings.engine] = open_(spec.engine)
        engine = opened[settings.engine] if settings.engine else None
        where = f"agents.{role.value}"
        built[role] = build_agent(spec, engine, where)
        specs[role] = identify(spec, where)
        if specs[role].engine and spec.engine:
            earlier = identify_engine(spec.engine, by_path=True)
            if earlier != specs[role].engine:
                by_path[role] = specs[role].model_copy(update={"engine": earlier})
    return Cast(built, specs, opened, by_path)


def check_engines(
    agents: Mapping[Role, AgentSettings], engines: Mapping[str, EngineSettings]
) -> None:
    """Refuse engines of `agents` that could answer no request, before the first debate begins.

    Raises:
        ConfigError: One names a model that is nowhere.
        MissingDependencyError: The program that one runs is not there.
    """
    for name in dict.fromkeys(each.engine for each in agents.values() if each.engine):
        described = engines[name]
        check_engine(EngineSpec(engine=described.engine, settings=described.settings))


def check_role(role: Role, agent: str) -> None:
    """Refuse an agent that cannot play a role.

    Raises:
        ConfigError: It cannot.
        UnknownNameError: There is no agent of that name.
    """
    able = roles(agent)
    if role not in able:
        raise ConfigError(
            f"agents.{role.value}.agent = {agent!r} cannot be a {role.value}; "
            f"it can be a {' or '.join(sorted(able))}"
        )


def _spec(role: Role, settings: AgentSettings, engines: Mapping[str, EngineSettings]) -> AgentSpec:
    check_role(role, settings.agent)
    engine = None
    if settings.engine is not None:
        if settings.engine not in engines:
            known = ", ".join(sorted(engines)) or "none"
            raise ConfigError(
                f"agents.{role.value}.engine = {settings.engine!r} is not described under "
                f"[engines]; described are: {known}"
            )
        described = engines[settings.engine]
        engine = EngineSpec(engine=described.engine, settings=described.settings)
    return AgentSpec(agent=settings.agent, settings=settings.settings, engine=engine)


def casting(
    *,
    debater: str | None = None,
    judge: str | None = None,
    engine: str | None = None,
    model: str | None = None,
) -> dict[str, Any]:
    """The settings of a run, by dotted name, that a few words about its agents stand for.

    Args:
        debater: The agent that debates, consults, responds and criticises, as far as it can.
        judge: The agent that judges.
        engine: The engine that runs `model`; unset, `transformers`.
        model: Of debaters and judge alike, where they think with a model: a folder or a hub name.

    Raises:
        ConfigError: There is an engine without a model.
    """
    if engine is not None and model is None:
        raise ConfigError(f"--engine {engine!r} needs --model; or describe it in a recipe")
    changes: dict[str, Any] = {}
    if model is not None:
        changes["engines.model.engine"] = engine or "transformers"
        changes["engines.model.settings.model"] = model
        debater, judge = debater or "debater", judge or "judge"
    for role, agent in {**_speakers(debater), "judge": judge}.items():
        if agent == "human":
            # Nothing of the program that a recipe seats there is a person's.
            changes[f"agents.{role}"] = {"agent": agent}
        elif agent is not None:
            changes[f"agents.{role}.agent"] = agent
        thinks = agent is not None and (agent in THINK_WITH_MODEL or registry.is_own(agent))
        if model is not None and thinks:
            changes[f"agents.{role}.engine"] = "model"
    return changes


def _speakers(debater: str | None) -> dict[str, str | None]:
    """Agents of the roles that --debater stands for.

    A critic or responder is one only if it can, a user's own agent any of them only if it can: it
    may be there for debates or for consultancies alone.
    """
    if debater == "debater":
        others = ("consultant", "critic", "responder")
        return {"debater": debater, **{role: role for role in others}}
    able = frozenset[Role]() if debater is None else roles(debater)
    if debater is not None and not registry.is_own(debater):
        able |= {Role.DEBATER, Role.CONSULTANT}  # refused as it is cast, where it cannot
    stands_for = (Role.DEBATER, Role.CONSULTANT, Role.CRITIC, Role.RESPONDER)
    return {role.value: debater if role in able else None for role in stands_for}
