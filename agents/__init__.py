"""Agents: one role a file. The file's name is the registered name."""

from __future__ import annotations

if __name__ != "oversight.agents":
    raise ImportError("import this package as oversight.agents, not as a top-level 'agents'")

from typing import cast

from oversight import registry
from oversight.config import Settings
from oversight.errors import ConfigError
from oversight.types import Agent, AgentSpec, Engine, Role

__all__ = ["build_agent", "identify", "roles"]


def build_agent(spec: AgentSpec, engine: Engine | None = None, where: str = "agent") -> Agent:
    """The agent that `spec` describes; `where` is its dotted place, for messages.

    Raises:
        UnknownNameError: There is no agent of that name.
        ConfigError: A setting is wrong, or the agent needs an engine and gets none.
    """
    module = registry.load("agents", spec.agent)
    config = module.Config.parse(spec.settings, where=f"{where}.settings")
    return cast(Agent, module.build(config, engine))


def roles(name: str) -> frozenset[Role]:
    """The roles that the agent of that name can take.

    Raises:
        UnknownNameError: There is no agent of that name.
        ConfigError: It is of another distribution and does not say its roles.
    """
    module = registry.load("agents", name)
    if not hasattr(module, "ROLES"):
        raise ConfigError(
            f"agent {name!r}: {module.__name__!r} has no ROLES, the roles it can take"
        )
    return cast("frozenset[Role]", module.ROLES)


def identify(spec: AgentSpec, where: str = "agent") -> AgentSpec:
    """`spec` with its defaults filled in and without what does not determine its words.

    This is what goes into a debate's id: spelling a default out changes nothing.

    Raises:
        UnknownNameError: There is no agent, or no engine, of that name.
        ConfigError: A setting is wrong.
    """
    from oversight.engines.base import identify as identify_engine

    config: Settings = registry.load("agents", spec.agent).Config.parse(
        spec.settings, where=f"{where}.settings"
    )
    engine = identify_engine(spec.engine) if spec.engine is not None else None
    return AgentSpec(agent=spec.agent, settings=config.identity(), engine=engine)
