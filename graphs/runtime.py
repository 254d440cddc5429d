"""The runtime of debates: the store, the agents, the debates in flight, and people waited for.

LangGraph's state holds a debate's id; the `RunningDebate` behind that id holds the
turns, and is read back from the store when a debate is taken up again.

A node that reaches a seat held by `human` stops in LangGraph's `interrupt` with a request of
JSON-plain fields, and goes on with what `Command(resume=…)` gives it. Nothing that has an effect
stands above the interrupt, and a node holds one at most: it is entered again from its top.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from oversight.config import describe
from oversight.errors import ProtocolError
from oversight.graphs.planning import Cast
from oversight.graphs.views import public
from oversight.store import Store
from oversight.types import (
    Act,
    Agent,
    Belief,
    Debate,
    Draft,
    JudgeKind,
    Judgment,
    Outcome,
    OutcomeStatus,
    PromptRecord,
    Question,
    Record,
    Role,
    ScheduledStep,
    Seat,
    Turn,
    View,
)


@dataclass(frozen=True, slots=True)
class SpeechBegins:
    """A seat starts to act; its words follow as `Words`."""

    debate_id: str
    seat: Seat
    role: Role
    act: Act
    round: int


@dataclass(frozen=True, slots=True)
class Words:
    """A piece of a public speech as it is written. Foreign text: sanitise before showing."""

    debate_id: str
    seat: Seat
    text: str


@dataclass(frozen=True, slots=True)
class TurnRecorded:
    """A turn that stands is in the store."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Judged:
    """A judgment is in the store."""

    judgment: Judgment


Event = SpeechBegins | Words | TurnRecorded | Judged
Listener = Callable[[Event], None]


@dataclass(slots=True)
class RunningDebate:
    """One debate in flight."""

    debate: Debate
    question: Question
    schedule: tuple[ScheduledStep, ...]
    turns: list[Turn] = field(default_factory=list)
    judgments: list[Judgment] = field(default_factory=list)
    public_turns: list[Turn] = field(default_factory=list)
    """The chosen turns without what is private."""
    complete: bool = False

    def record(self, turns: list[Turn]) -> None:
        """Take in turns that are durable."""
        self.turns += turns
        self.public_turns += [public(turn) for turn in turns if turn.chosen]

    def acted(self, step: int, seat: Seat) -> bool:
        """True if that seat's part in that step stands already."""
        return any(turn.step == step and turn.seat is seat for turn in self.turns)

    def judged(self, *, swapped: bool) -> bool:
        """True if that judgment stands already."""
        return any(judgment.swapped is swapped for judgment in self.judgments)


class Runtime:
    """One store and one cast, and the debates in flight between them."""

    def __init__(
        self,
        store: Store,
        cast: Cast,
        listener: Listener | None = None,
        *,
        live: bool = False,
    ) -> None:
        """Put the parts together.

        Args:
            store: Where everything is recorded.
            cast: The agents.
            listener: Told what happens, in order.
            live: Also stream speeches to the listener word by word.
        """
        self.store = store
        self.cast = cast
        self.live = live and listener is not None
        self._listener = listener
        self._running: dict[str, RunningDebate] = {}

    def agent(self, role: Role) -> Agent:
        """The agent that plays `role`."""
        return self.cast.agents[role]

    def tell(self, event: Event) -> None:
        """Pass an event on to the listener, if there is one."""
        if self._listener is not None:
            self._listener(event)

    async def enter(
        self, debate: Debate, question: Question, *, is_new: bool = False
    ) -> RunningDebate:
        """Begin a debate, or go on with what an earlier attempt left in the store; where it
        `is_new`, the store is known to have nothing of it."""
        if is_new or await asyncio.to_thread(self.store.debate, debate.id) is None:
            await self.store.append(question, debate)
            running = RunningDebate(debate, question, debate.protocol.schedule())
        else:
            running = await self._recalled(debate.id)
        self._running[debate.id] = running
        return running

    async def running(self, debate_id: str) -> RunningDebate:
        """A debate in flight, read back from the store if need be."""
        if debate_id not in self._running:
            self._running[debate_id] = await self._recalled(debate_id)
        return self._running[debate_id]

    def leave(self, debate_id: str) -> None:
        """Forget a debate that has ended; the store keeps it."""
        self._running.pop(debate_id, None)

    async def _recalled(self, debate_id: str) -> RunningDebate:
        """Records of a debate in the store, read in a thread: the event loop waits for no disk."""
        transcript = await asyncio.to_thread(self.store.transcript, debate_id)
        debate = transcript.debate
        running = RunningDebate(debate, transcript.question, debate.protocol.schedule())
        running.record(list(transcript.turns))
        running.judgments += transcript.judgments
        outcome = transcript.outcome
        running.complete = outcome is not None and outcome.status is OutcomeStatus.COMPLETE
        return running

    async def record(
        self, running: RunningDebate, turns: list[Turn], prompts: tuple[PromptRecord, ...]
    ) -> None:
        """Make turns durable with their prompts, in one transaction, then part of the debate."""
        await self.store.append(*prompts, *turns)
        running.record(turns)
        for turn in turns:
            if turn.chosen:
                self.tell(TurnRecorded(turn))

    async def record_judgment(
        self, running: RunningDebate, judgment: Judgment, prompts: tuple[PromptRecord, ...]
    ) -> None:
        """Make a judgment durable with its prompts, then part of the debate."""
        await self.store.append(*prompts, judgment)
        running.judgments.append(judgment)
        self.tell(Judged(judgment))

    async def close(self, running: RunningDebate, outcome: Outcome) -> None:
        """Write down how a debate ended."""
        await self.store.append(outcome)
        running.complete = outcome.status is OutcomeStatus.COMPLETE


RecordT = TypeVar("RecordT", bound=Record)

INTERRUPT = "__interrupt__"
"""Key of a graph's result that an interrupted run has."""


class PersonsAct(Record):
    """Act of a person on a seat, as the answer to a request."""

    text: str = ""
    belief: Belief | None = None
    ends: bool = False
    """End the debate here; only where the slot allows it."""
    seconds: float = Field(default=0.0, ge=0.0)
    """Of active attention."""


def is_person(agent: Agent) -> bool:
    """True if a person holds the seat: then the graph waits instead of asking the agent."""
    return agent.kind is JudgeKind.HUMAN


def request_of(view: View) -> dict[str, Any]:
    """Request to a person; everything else is in the store under the debate's id."""
    return {
        "debate_id": view.debate_id,
        "step": view.step,
        "round": view.round,
        "seat": view.seat.value,
        "act": view.act.value,
        "may_end": view.may_end,
    }


def ask_person(view: View) -> tuple[Draft, float]:
    """Wait for a person's act; returns it as a draft, and the seconds that it took.

    Raises:
        ProtocolError: The graph was resumed with something else.
    """
    answer = _answer_to(view)
    act = _checked(PersonsAct, answer, view)
    if view.act is Act.BELIEVE and act.belief is None:
        raise ProtocolError(f"debate {view.debate_id}: the person's act has no belief")
    return Draft(text=act.text, belief=act.belief, ends=act.ends), act.seconds


def ask_judgment(view: View) -> Judgment:
    """Wait for a person's final judgment.

    Raises:
        ProtocolError: The graph was resumed with something else.
    """
    judgment = _checked(Judgment, _answer_to(view), view)
    if judgment.debate_id != view.debate_id or judgment.kind is not JudgeKind.HUMAN:
        raise ProtocolError(f"debate {view.debate_id}: resumed with a judgment that is not its own")
    return judgment


def _answer_to(view: View) -> Any:
    """The answer that the graph is resumed with; without one it stops here."""
    from langgraph.types import interrupt  # screens that only read a debate start without it

    return interrupt(request_of(view))


def _checked(model: type[RecordT], answer: Any, view: View) -> RecordT:
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        reason = describe(error, model)
        raise ProtocolError(
            f"debate {view.debate_id}, step {view.step}: resumed with what is no "
            f"{model.__name__}: {reason}"
        ) from None
