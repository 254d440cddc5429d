"""The runtime of debates: the store, the cast, and what is in memory of each debate in flight.

LangGraph's state holds a debate's id; the `Scene` behind that id holds the
turns, and is read back from the store when a debate is taken up again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from oversight.graphs.casting import Cast
from oversight.graphs.views import public
from oversight.store import Store
from oversight.types import (
    Act,
    Agent,
    Debate,
    Judgment,
    Outcome,
    OutcomeStatus,
    PromptRecord,
    Question,
    Role,
    ScheduledStep,
    Seat,
    Turn,
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
class Scene:
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


class Stage:
    """One store and one cast, and the debates in flight between them."""

    def __init__(
        self,
        store: Store,
        cast: Cast,
        listener: Listener | None = None,
        *,
        live: bool = False,
    ) -> None:
        """Set the stage.

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
        self._scenes: dict[str, Scene] = {}

    def agent(self, role: Role) -> Agent:
        """The agent that plays `role`."""
        return self.cast.agents[role]

    def tell(self, event: Event) -> None:
        """Pass an event on to the listener, if there is one."""
        if self._listener is not None:
            self._listener(event)

    async def enter(self, debate: Debate, question: Question) -> Scene:
        """Begin a debate, or go on with what an earlier attempt left in the store."""
        known = await asyncio.to_thread(self.store.debate, debate.id)
        if known is None:
            await self.store.append(question, debate)
            scene = Scene(debate, question, debate.protocol.schedule())
        else:
            scene = await self._recalled(debate.id)
        self._scenes[debate.id] = scene
        return scene

    async def scene(self, debate_id: str) -> Scene:
        """The scene of a debate in flight, read back from the store if need be."""
        if debate_id not in self._scenes:
            self._scenes[debate_id] = await self._recalled(debate_id)
        return self._scenes[debate_id]

    def leave(self, debate_id: str) -> None:
        """Forget a debate that has ended; the store keeps it."""
        self._scenes.pop(debate_id, None)

    async def _recalled(self, debate_id: str) -> Scene:
        """Records of a debate in the store, read in a thread: the event loop waits for no disk."""
        transcript = await asyncio.to_thread(self.store.transcript, debate_id)
        debate = transcript.debate
        scene = Scene(debate, transcript.question, debate.protocol.schedule())
        scene.record(list(transcript.turns))
        scene.judgments += transcript.judgments
        outcome = transcript.outcome
        scene.complete = outcome is not None and outcome.status is OutcomeStatus.COMPLETE
        return scene

    async def record(
        self, scene: Scene, turns: list[Turn], prompts: tuple[PromptRecord, ...]
    ) -> None:
        """Make turns durable with their prompts, in one transaction, then part of the scene."""
        await self.store.append(*prompts, *turns)
        scene.record(turns)
        for turn in turns:
            if turn.chosen:
                self.tell(TurnRecorded(turn))

    async def record_judgment(
        self, scene: Scene, judgment: Judgment, prompts: tuple[PromptRecord, ...]
    ) -> None:
        """Make a judgment durable with its prompts, then part of the scene."""
        await self.store.append(*prompts, judgment)
        scene.judgments.append(judgment)
        self.tell(Judged(judgment))

    async def close(self, scene: Scene, outcome: Outcome) -> None:
        """Write down how a debate ended."""
        await self.store.append(outcome)
        scene.complete = outcome.status is OutcomeStatus.COMPLETE
