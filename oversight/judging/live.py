"""A debate that goes on while it is judged: its graph, and the person it waits for.

The graph stops in an interrupt at each seat that a person holds. Its checkpoints live in this
process only: what lasts is in the store, from which the graph finds its way back to the same
interrupt, tomorrow and in another terminal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from oversight import registry
from oversight.agents import build_agent
from oversight.config import AgentSettings, EngineSettings
from oversight.engines.base import identify
from oversight.graphs.casting import Cast, cast
from oversight.graphs.persons import INTERRUPT, PersonsAct
from oversight.graphs.runtime import Listener, Runtime
from oversight.judging.settings import JudgingSettings
from oversight.store import Store
from oversight.types import (
    Act,
    AgentSpec,
    Debate,
    EngineSpec,
    JudgeKind,
    Judgment,
    Seat,
    Transcript,
)


def is_spoken_out(transcript: Transcript) -> bool:
    """Whether only people have something left to do in the debate."""
    protocol, turns = transcript.debate.protocol, transcript.turns
    done = {(turn.step, turn.seat) for turn in turns}
    left = [
        slot
        for step in protocol.schedule()
        for slot in step.slots
        if (step.index, slot.seat) not in done
    ]
    agents = transcript.debate.agents
    ended = any(turn.ends for turn in turns)
    return ended or all(agents[protocol.role_of(slot)].agent == "human" for slot in left)


@dataclass(frozen=True)
class Wanted:
    """What the graph waits for."""

    step: int
    round: int
    seat: Seat
    act: Act
    may_end: bool


def cast_of(debate: Debate, settings: JudgingSettings, *, silent: bool = False) -> Cast:
    """The debate's agents. Their engines are opened as the study describes them where it has one
    of the same model, as addresses and keys are no part of a debate; else by what is recorded.

    Args:
        debate: The debate.
        settings: The study, or session.
        silent: No program has to say anything any more: none is opened.

    Raises:
        OversightError: An engine cannot be opened.
    """
    if silent:
        person = build_agent(AgentSpec(agent=JudgeKind.HUMAN.value))
        return Cast(dict.fromkeys(debate.agents, person), debate.agents, {})
    agents: dict[Any, AgentSettings] = {}
    engines: dict[str, EngineSettings] = {}
    for role, spec in debate.agents.items():
        name = None
        if spec.engine is not None:
            name, engines_settings = _engine(spec.engine, settings)
            engines[name] = engines_settings
        agents[role] = AgentSettings(agent=spec.agent, settings=spec.settings, engine=name)
    return cast(agents, engines)


def _engine(spec: EngineSpec, settings: JudgingSettings) -> tuple[str, EngineSettings]:
    for name, described in settings.engines.items():
        known = EngineSpec(engine=described.engine, settings=described.settings)
        if described.engine == spec.engine and identify(known) == spec:
            return name, described
    name = f"recorded {spec.engine} {spec.settings.get('model', '')}"
    return name, EngineSettings(engine=spec.engine, settings=spec.settings)


class LiveDebate:
    """One live debate in this process."""

    def __init__(self, store: Store, debate: Debate, cast: Cast, listener: Listener) -> None:
        self._debate = debate
        self._store = store
        self._cast = cast
        runtime = Runtime(store, cast, listener, live=True)
        self._runtime = runtime
        self._graph = registry.load("graphs", debate.protocol.graph).build(runtime)
        self._graph.checkpointer = InMemorySaver()
        self._attempts = 0

    async def go(self) -> Wanted | None:
        """Go on from where the debate stands, until a person is needed; None when it is over.

        Raises:
            OversightError: An agent or the store failed; what was recorded stands, and `go`
                tries again from there.
        """
        self._attempts += 1
        self._runtime.leave(self._debate.id)
        return self._wanted(await self._graph.ainvoke({"debate_id": self._debate.id}, self._config))

    async def answer(self, answer: PersonsAct | Judgment) -> Wanted | None:
        """Give the graph what it waits for; what it waits for next, or None when it is over.

        Raises:
            OversightError: As with `go`.
        """
        resume: Command[Any] = Command(resume=answer.model_dump(mode="json"))
        return self._wanted(await self._graph.ainvoke(resume, self._config))

    async def aclose(self) -> None:
        """Close its engines."""
        self._runtime.leave(self._debate.id)
        await self._cast.aclose()

    @property
    def _config(self) -> dict[str, Any]:
        limit = len(self._debate.protocol.schedule()) + 10
        thread = f"{self._debate.id}-{self._attempts}"
        return {"configurable": {"thread_id": thread}, "recursion_limit": limit}

    def _wanted(self, state: dict[str, Any]) -> Wanted | None:
        if INTERRUPT not in state:
            return None
        [found] = state[INTERRUPT]
        asked: dict[str, Any] = found.value
        return Wanted(
            step=int(asked["step"]),
            round=int(asked["round"]),
            seat=Seat(asked["seat"]),
            act=Act(asked["act"]),
            may_end=bool(asked["may_end"]),
        )
