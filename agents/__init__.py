"""Agents: one role a file, under the file's name and those in its `NAMES`."""

from __future__ import annotations

if __name__ != "oversight.agents":
    raise ImportError("import this package as oversight.agents, not as a top-level 'agents'")

from typing import cast

from oversight import registry
from oversight.config import Settings
from oversight.types import Agent, AgentSpec, Engine, Help, Role

__all__ = ["build_agent", "identify", "kinds_of_help", "roles"]


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
    """
    return cast("frozenset[Role]", registry.load("agents", name).ROLES)


def kinds_of_help(spec: AgentSpec, where: str = "agent") -> tuple[Help, ...]:
    """Kinds of help that the assistant of `spec` gives, in the order of `Help`: those of its
    setting `kinds` or else of its table `ASKS`; all, if it has neither.

    Raises:
        UnknownNameError: There is no agent of that name.
        ConfigError: A setting is wrong.
    """
    module = registry.load("agents", spec.agent)
    config = module.Config.parse(spec.settings, where=f"{where}.settings")
    able = getattr(config, "kinds", None) or getattr(module, "ASKS", None) or Help
    return tuple(each for each in Help if each in able)


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
