"""Agents: one role a file, under the file's name and those in its `NAMES`."""

from __future__ import annotations

if __name__ != "oversight.agents":
    raise ImportError("import this package as oversight.agents, not as a top-level 'agents'")

import inspect
from typing import Any, cast

from oversight import registry
from oversight.config import Settings, settings_of
from oversight.errors import ConfigError, OversightError
from oversight.models import content_of
from oversight.types import Agent, AgentSpec, Engine, Help, Role

__all__ = ["build_agent", "identify", "kinds_of_help", "roles"]


def build_agent(spec: AgentSpec, engine: Engine | None = None, where: str = "agent") -> Agent:
    """The agent that `spec` describes; `where` is its dotted place, for messages.

    Raises:
        UnknownNameError: There is no agent of that name.
        ConfigError: A setting is wrong, or the agent needs an engine and gets none; or a user's own
            class gives no agent.
    """
    found = registry.load("agents", spec.agent)
    config = _config(found, spec, where)
    if registry.is_own(spec.agent):
        return _own_agent(found, config, engine, f"{where} = {spec.agent!r}")
    return cast(Agent, found.build(config, engine))


def _own_agent(found: type[Any], config: Settings, engine: Engine | None, setting: str) -> Agent:
    """The agent that a user's own class gives."""
    from oversight.registry import shown_error

    try:
        agent = found(config, engine)
    except OversightError:
        raise
    except Exception as error:  # its code may raise whatever there is
        raise ConfigError(
            f"{setting}: {found.__name__}(config, engine) failed ({shown_error(error, __file__)})"
        ) from error
    if not isinstance(agent, Agent) or not inspect.iscoroutinefunction(agent.act):
        raise ConfigError(
            f"{setting}: this is no agent; it needs a name (text), a kind (a JudgeKind) and "
            "`async def act(self, view)`, which returns a Draft"
        )
    return agent


def _config(found: Any, spec: AgentSpec, where: str) -> Settings:
    """The settings of a spec's agent, checked."""
    settings = settings_of(found, f"{where} = {spec.agent!r}")
    return settings.parse(spec.settings, where=f"{where}.settings")


def roles(name: str) -> frozenset[Role]:
    """The roles that the agent of that name can take.

    Raises:
        UnknownNameError: There is no agent of that name.
        ConfigError: A user's own, or one of another distribution, does not say which.
    """
    found = getattr(registry.load("agents", name), "ROLES", None)
    if found is None:
        raise ConfigError(f"agent {name!r}: its code has no ROLES, the roles it can take")
    if not isinstance(found, set | frozenset) or not found or not set(found) <= set(Role):
        raise ConfigError(
            f"agent = {name!r}: its ROLES is {found!r}; write ROLES = frozenset({{Role.DEBATER}}), "
            f"with some of {', '.join(Role)}"
        )
    return frozenset(found)


def kinds_of_help(spec: AgentSpec, where: str = "agent") -> tuple[Help, ...]:
    """Kinds of help that the assistant of `spec` gives, in the order of `Help`: those of its
    setting `kinds` or else of its table `ASKS`; all, if it has neither.

    Raises:
        UnknownNameError: There is no agent of that name.
        ConfigError: A setting is wrong.
    """
    found = registry.load("agents", spec.agent)
    config = _config(found, spec, where)
    able = getattr(config, "kinds", None) or getattr(found, "ASKS", None) or Help
    return tuple(each for each in Help if each in able)


def identify(spec: AgentSpec, where: str = "agent") -> AgentSpec:
    """`spec` with its defaults filled in and without what does not determine its words.

    This is what goes into a debate's id: spelling a default out changes nothing. A user's own agent
    is known by the content of its file, wherever that is.

    Raises:
        UnknownNameError: There is no agent, or no engine, of that name.
        ConfigError: A setting is wrong.
    """
    from oversight.engines import identify as identify_engine

    config = _config(registry.load("agents", spec.agent), spec, where)
    engine = identify_engine(spec.engine) if spec.engine is not None else None
    own = registry.is_own(spec.agent)
    agent = content_of(spec.agent, "function") if own else spec.agent
    return AgentSpec(agent=agent, settings=config.identity(), engine=engine)
