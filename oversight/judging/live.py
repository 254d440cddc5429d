"""A debate that goes on while it is judged: its graph, and the person it waits for.

The graph stops in an interrupt at each seat that a person holds. Its checkpoints live in this
process only: what lasts is in the store, from which the graph finds its way back to the same
interrupt, tomorrow and in another terminal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from oversight import registry
from oversight.agents import build_agent
from oversight.config import AgentSettings, EngineSettings
from oversight.engines import identify
from oversight.errors import OversightError
from oversight.graphs.planning import Cast, cast
from oversight.graphs.runtime import (
    INTERRUPT,
    Event,
    Listener,
    PersonsAct,
    Runtime,
    SpeechBegins,
    TurnRecorded,
    Words,
)
from oversight.judging.desk import Desk
from oversight.judging.items import DebateItem
from oversight.judging.settings import JudgingSettings
from oversight.redaction import redacted
from oversight.store import Store
from oversight.types import (
    Act,
    AgentSpec,
    Debate,
    DebateActed,
    EngineSpec,
    JudgeKind,
    Judgment,
    Role,
    Seat,
    Transcript,
    TurnsRevealed,
)


def is_spoken_out(transcript: Transcript) -> bool:
    """True if only people have something left to do in the debate."""
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
class AwaitedAct:
    """The act of a person that the graph waits for."""

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

    async def go(self) -> AwaitedAct | None:
        """Go on from where the debate stands, until a person is needed; None when it is over.

        Raises:
            OversightError: An agent or the store failed; what was recorded stands, and `go`
                tries again from there.
        """
        self._attempts += 1
        self._runtime.leave(self._debate.id)
        return self._wanted(await self._graph.ainvoke({"debate_id": self._debate.id}, self._config))

    async def answer(self, answer: PersonsAct | Judgment) -> AwaitedAct | None:
        """Give the graph the act that it waits for; returns the next one, or None when it is over.

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

    def _wanted(self, state: dict[str, Any]) -> AwaitedAct | None:
        if INTERRUPT not in state:
            return None
        [found] = state[INTERRUPT]
        asked: dict[str, Any] = found.value
        return AwaitedAct(
            step=int(asked["step"]),
            round=int(asked["round"]),
            seat=Seat(asked["seat"]),
            act=Act(asked["act"]),
            may_end=bool(asked["may_end"]),
        )


@dataclass
class UnfinishedTurn:
    """A turn that is being written."""

    seat: Seat
    role: Role
    act: Act
    round: int
    text: str = ""

    @property
    def key(self) -> str:
        """The key of its column."""
        return key_while_written(self.seat, self.act, self.round)


def key_while_written(seat: Seat, act: Act, round: int) -> str:
    """The key of a turn's column before it has an id."""
    return f"writing-{seat}-{act}-{round}"


class LiveRunner:
    """Runs an item's debate as far as it goes without the judge."""

    def __init__(self, desk: Desk, item: DebateItem, on_change: Callable[[], None]) -> None:
        """Beside a screen that `on_change` is told to draw anew."""
        self.desk = desk
        self.item = item
        self.wanted: AwaitedAct | None = None
        """The act that the debate waits for, if any."""
        self.is_going = False
        self.trouble = ""
        self.writing: dict[Seat, UnfinishedTurn] = {}
        """Turns that are being written."""
        self.has_news = False
        """Something was heard since this was last set to False."""
        self._on_change = on_change
        self._debate: LiveDebate | None = None
        self._task: asyncio.Task[None] | None = None

    def waits_for(self, *acts: Act) -> bool:
        """True if the debate waits for one of these acts of the judge."""
        return self.wanted is not None and self.wanted.act in acts

    @property
    def is_others(self) -> bool:
        """True if it waits for another person: nobody both speaks and judges in one debate."""
        held = self.item.acts.work.seat
        return self.wanted is not None and held is not None and held != self.wanted.seat.value

    def start(self) -> None:
        """Let the debate go on from where it stands, unless it goes on already."""
        if self.item.live and self.wanted is None and not self.is_going:
            self._run(None)

    def answer(self, answer: PersonsAct) -> None:
        """Give the debate the act that it waits for."""
        wanted = self.wanted
        assert wanted is not None
        self.item.acts.add(
            DebateActed(
                step=wanted.step,
                seat=wanted.seat.value,
                act=wanted.act,
                text=answer.text,
                probs=None if answer.belief is None else answer.belief.probs or (),
                ends=answer.ends,
                unseen=self.item.unseen(stepped=self.desk.settings.stepped),
            )
        )
        self.wanted = None
        self._run(answer)

    @property
    def judged(self) -> LiveDebate | None:
        """The debate, if it waits for the final judgment."""
        return self._debate if self.item.live else None

    async def aclose(self) -> None:
        """Stop the debate in this process; everything recorded stands."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._debate is not None:
            await self._debate.aclose()

    def _run(self, answer: PersonsAct | None) -> None:
        self.is_going, self.trouble = True, ""
        self._task = asyncio.create_task(self._go(answer))

    async def _go(self, answer: PersonsAct | None) -> None:
        try:
            debate = await self._opened()
            self.wanted = await (debate.go() if answer is None else debate.answer(answer))
        except OversightError as error:
            self.trouble = str(error)
        except Exception as error:  # an agent's fault must not take the judge's screen down
            self.trouble = redacted(f"unexpected {type(error).__name__}: {error}")
        else:
            self.item.live = self.wanted is not None
        self.writing.clear()
        self.is_going = False
        self._on_change()

    async def _opened(self) -> LiveDebate:
        if self._debate is None:
            transcript = self.item.transcript
            silent = is_spoken_out(transcript)
            # In a thread: an engine in this process may load a model, and the screen goes on.
            cast = await asyncio.to_thread(
                cast_of, transcript.debate, self.desk.settings, silent=silent
            )
            self._debate = LiveDebate(self.desk.store, transcript.debate, cast, self._hear)
        return self._debate

    def _hear(self, event: Event) -> None:
        match event:
            case SpeechBegins() if event.seat is not Seat.JUDGE:
                self.writing[event.seat] = UnfinishedTurn(
                    event.seat, event.role, event.act, event.round
                )
            case Words() if event.seat in self.writing:
                self.writing[event.seat].text += event.text
            case TurnRecorded():
                self.writing.pop(event.turn.seat, None)
                transcript = self.item.transcript
                self.item.transcript = replace(transcript, turns=(*transcript.turns, event.turn))
                if event.turn.step > self.item.acts.work.revealed:
                    self.item.acts.add(TurnsRevealed(step=event.turn.step))
        self.has_news = True
