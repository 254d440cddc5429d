"""The nodes that graphs are made of. Each does one act and makes it durable before it returns.

A node that finds its act already in the store does nothing: that is how a
debate that was cut off goes on from the turn that was in flight.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePath
from typing import Any, Literal, TypedDict

from langgraph.graph import END
from langgraph.types import Command

from oversight import protocols, registry
from oversight.agents.speaking import notes_of
from oversight.engines import all_at_once
from oversight.errors import ProtocolError
from oversight.graphs.planning import check_fit, check_question, draw_orders, plan_one
from oversight.graphs.runtime import (
    RunningDebate,
    Runtime,
    SpeechBegins,
    Words,
    ask_judgment,
    ask_person,
    is_person,
)
from oversight.graphs.views import public, turn_of, view_of
from oversight.ids import seed_from
from oversight.types import (
    Act,
    Debate,
    Draft,
    Judgment,
    Orders,
    Outcome,
    OutcomeStatus,
    PromptRecord,
    Question,
    Role,
    ScheduledStep,
    Seat,
    Slot,
    Turn,
    View,
)

NextAct = Literal["speak", "respond", "critique", "revise", "ask", "believe", "decide", "finish"]
"""The nodes that a step may lead to."""


class DebateInput(TypedDict, total=False):
    """Input of a graph: a debate already planned, or what to plan one from."""

    debate_id: str
    question: dict[str, Any]
    """A `Question` as plain JSON."""
    protocol: str | dict[str, Any]
    """Name of a protocol, or one as plain data; default: the one of the graph's own name."""
    seed: int
    in_one_step: bool
    """Do all acts up to a person's in one step of the graph: for thousands of debates that nobody
    looks at step by step."""


class DebateState(DebateInput, total=False):
    """State that a graph carries from node to node."""

    step: int
    """Index of the next step in the protocol's schedule."""
    result: dict[str, Any]
    """At the end: number of turns; where something is decided, verdict and probabilities by
    option."""


NODE_OF_ACT: dict[Act, NextAct] = {
    Act.SPEAK: "speak",
    Act.RESPOND: "respond",
    Act.CRITIQUE: "critique",
    Act.REVISE: "revise",
    Act.ASK: "ask",
    Act.BELIEVE: "believe",
}
"""Acts of a schedule and the nodes that do them: a node of its own for each, so that a picture of
the graph shows them, though one method does all speeches and one all that the judge does."""

ACTS_OF_JUDGE = frozenset({Act.ASK, Act.BELIEVE})


class Nodes:
    """The nodes over one runtime: every public method is one, of one or several acts."""

    def __init__(self, runtime: Runtime, default_protocol: str) -> None:
        self.runtime = runtime
        self.default_protocol = default_protocol
        self._has_persons = any(map(is_person, runtime.cast.agents.values()))

    # --- nodes ---

    async def open(self, state: DebateState) -> Command[NextAct]:
        """Begin the debate, or find the step at which it was left."""
        running = await self._enter(state)
        ended = any(turn.ends for turn in running.turns)
        step = _first_undone(running)
        goto = _act(running, step, ended)
        if state.get("in_one_step"):
            return await self._go_on(running, step, goto)
        return Command(update={"debate_id": running.debate.id, "step": step}, goto=goto)

    async def run(self, running: RunningDebate) -> bool:
        """Do all acts of a debate in flight, without LangGraph around them, up to its end.

        For thousands of debates that nobody looks at step by step: the store is what they are
        resumed from, and a graph with its channels, tasks and checkpoints would have nothing to
        keep. Returns False where the debate is now at a person's act, which is the graph's.
        """
        step = _first_undone(running)
        goto = _act(running, step, any(turn.ends for turn in running.turns))
        return bool((await self._go_on(running, step, goto)).goto == END)

    async def speak(self, state: DebateState) -> Command[NextAct]:
        """Speeches, responses, critiques or revisions of all slots of the step, at once; none
        sees the others."""
        running = await self.runtime.running(state["debate_id"])
        step = running.schedule[state["step"]]
        open_slots = _open_slots(running, step)
        # Programs first, whose words are then recorded: the node is entered again for each person.
        persons = [slot for slot in open_slots if self._is_held_by_person(running, slot)]
        speeches = [self._speech(running, step, slot) for slot in open_slots if slot not in persons]
        parts = await all_at_once(speeches)
        turns = [turn for part, _ in parts for turn in part]
        prompts = tuple(prompt for _, part in parts for prompt in part)
        if turns:
            await self.runtime.record(running, turns, prompts)
        for slot in persons[:1]:
            await self._person_acts(running, step, slot)
        return _again(running, step) if len(persons) > 1 else _next(running, step)

    async def judge(self, state: DebateState) -> Command[NextAct]:
        """The judge's question or remark, or its belief, with which it may end the debate."""
        running = await self.runtime.running(state["debate_id"])
        step = running.schedule[state["step"]]
        open_slots = _open_slots(running, step)
        if open_slots and is_person(self.runtime.agent(Role.JUDGE)):
            await self._person_acts(running, step, open_slots[0])
            return _again(running, step) if open_slots[1:] else _next(running, step)
        for slot in open_slots:
            self.runtime.tell(
                SpeechBegins(running.debate.id, Seat.JUDGE, Role.JUDGE, slot.act, step.round)
            )
            view = _view(running, slot, Role.JUDGE, step)
            turn, prompts = await self._act(Role.JUDGE, running, self._streamed(view))
            await self.runtime.record(running, [turn], prompts)
        return _next(running, step)

    async def decide(self, state: DebateState) -> DebateState:
        """The final judgment, in both orders where the protocol says so, and the end."""
        running = await self.runtime.running(state["debate_id"])
        drawn = running.debate.orders
        if is_person(self.runtime.agent(Role.JUDGE)):
            # One order: a person cannot read a debate anew the other way round.
            if not running.judgments:
                judgment = ask_judgment(_last_view(running, drawn))
                await self.runtime.record_judgment(running, judgment, ())
        else:
            orders = [(drawn, False)]
            if running.debate.protocol.swap:
                listing = not running.debate.protocol.speakers
                orders.append((drawn.swapped(listing=listing), True))
            works = [
                self._judge(running, shown, swapped)
                for shown, swapped in orders
                if not running.judged(swapped=swapped)
            ]
            # A judgment that has been paid for is kept, also where that in the other order fails.
            done = await asyncio.gather(*works, return_exceptions=True)
            for failure in (each for each in done if isinstance(each, BaseException)):
                raise failure
        return await self._end(running)

    async def finish(self, state: DebateState) -> DebateState:
        """The end, where there is nothing to decide."""
        return await self._end(await self.runtime.running(state["debate_id"]))

    # --- how ---

    async def _go_on(self, running: RunningDebate, step: int, goto: Any) -> Command[Any]:
        """Do node after node as the graph would, up to one that waits for a person, or the end.

        A person's node is left to the graph, as its interrupt has to stand in a step of its own.
        """
        while True:
            state: DebateState = {"debate_id": running.debate.id, "step": step}
            if self._waits_for_person(running, step, goto):
                return Command(update=state, goto=goto)
            if goto in ("decide", "finish"):
                end = await (self.decide if goto == "decide" else self.finish)(state)
                return Command(update={**state, **end}, goto=END)
            by_judge = running.schedule[step].slots[0].act in ACTS_OF_JUDGE
            done: Command[Any] = await (self.judge if by_judge else self.speak)(state)
            step, goto = step + 1, done.goto

    def _waits_for_person(self, running: RunningDebate, step: int, goto: NextAct) -> bool:
        if goto == "finish" or not self._has_persons:
            return False
        if goto == "decide":
            return not running.judgments and is_person(self.runtime.agent(Role.JUDGE))
        open_slots = _open_slots(running, running.schedule[step])
        return any(self._is_held_by_person(running, slot) for slot in open_slots)

    async def _enter(self, state: DebateState) -> RunningDebate:
        if "debate_id" in state:
            return await self.runtime.running(state["debate_id"])
        if "question" not in state:
            raise ProtocolError("the graph was given neither a debate_id nor a question")
        question = Question.model_validate(state["question"])
        debate = await asyncio.to_thread(self._plan, question, state)
        return await self.runtime.enter(debate, question)

    def _plan(self, question: Question, state: DebateState) -> Debate:
        given = state.get("protocol", self.default_protocol)
        if isinstance(given, str):
            if registry.is_own(given):  # who asks may be anyone: no code of theirs is run
                raise ProtocolError(
                    f"protocol {given!r}: a request cannot name code; send the protocol itself"
                )
            protocol = protocols.load(given)
        else:
            protocol = protocols.parse(given, name=str(given.get("name", "given")), where="input")
        specs = self.runtime.cast.specs
        check_fit(protocol, specs)
        check_question(protocol, question)
        seed = state.get("seed", 0)
        return plan_one(question, protocol, specs, draw_orders(question, seed), seed)

    async def _end(self, running: RunningDebate) -> DebateState:
        """Write down that the debate is complete, and leave it."""
        if not running.complete:
            outcome = Outcome(
                debate_id=running.debate.id,
                status=OutcomeStatus.COMPLETE,
                seconds=sum(turn.seconds for turn in running.turns),
                ended_at=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            await self.runtime.close(running, outcome)
        self.runtime.leave(running.debate.id)
        return {"result": _result(running)}

    def _is_held_by_person(self, running: RunningDebate, slot: Slot) -> bool:
        return is_person(self.runtime.agent(running.debate.protocol.role_of(slot)))

    async def _person_acts(self, running: RunningDebate, step: ScheduledStep, slot: Slot) -> None:
        """Wait for what a person does in the slot."""
        view = _view(running, slot, running.debate.protocol.role_of(slot), step)
        draft, seconds = ask_person(view)
        await self.runtime.record(running, [turn_of(view, draft, running.question, seconds)], ())

    async def _speech(
        self, running: RunningDebate, step: ScheduledStep, slot: Slot
    ) -> tuple[list[Turn], tuple[PromptRecord, ...]]:
        """A slot's turns: one that stands, and the siblings it was chosen from."""
        role = running.debate.protocol.role_of(slot)
        self.runtime.tell(SpeechBegins(running.debate.id, slot.seat, role, slot.act, step.round))
        view = _view(running, slot, role, step)
        act = partial(self._act, role)
        if slot.candidates == 1:
            turn, prompts = await act(running, self._streamed(view))
            return [turn], prompts
        first = await act(running, _candidate(view, 0))
        view = replace(view, notes=notes_of(first[0]))
        others = (act(running, _candidate(view, index)) for index in range(1, slot.candidates))
        pairs = [first, *await all_at_once(others)]
        turns = await self._choose(running, [turn for turn, _ in pairs])
        return turns, tuple({p.prompt.id: p for _, ps in pairs for p in ps}.values())

    async def _act(
        self, role: Role, running: RunningDebate, view: View
    ) -> tuple[Turn, tuple[PromptRecord, ...]]:
        begin = time.perf_counter()
        draft = await self.runtime.agent(role).act(view)
        return turn_of(view, draft, running.question, time.perf_counter() - begin), draft.prompts

    def _streamed(self, view: View) -> View:
        if not self.runtime.live:
            return view
        tell, debate_id, seat = self.runtime.tell, view.debate_id, view.seat
        return replace(view, emit=lambda text: tell(Words(debate_id, seat, text)))

    async def _choose(self, running: RunningDebate, turns: list[Turn]) -> list[Turn]:
        """Candidates with their scores, the best of them chosen; among equals the first."""
        scores = await all_at_once(self._score(running, turn) for turn in turns)
        known = [-1.0 if score is None else score for score in scores]
        best = max(range(len(turns)), key=known.__getitem__)
        return [
            turn.model_copy(update={"score": score, "chosen": index == best})
            for index, (turn, score) in enumerate(zip(turns, scores, strict=True))
        ]

    async def _score(self, running: RunningDebate, turn: Turn) -> float | None:
        """Probability of the speaker's own option if this candidate were spoken; of a response,
        how good the chooser finds it."""
        debate = running.debate
        role = debate.protocol.choose_by
        act = Act.BELIEVE if turn.argues else Act.SCORE
        turns, step = running.public_turns, turn.step
        view = view_of(
            debate, running.question, turns, Seat.JUDGE, role, act, step, round=turn.round
        )
        draft = await self.runtime.agent(role).act(replace(view, turns=(*view.turns, public(turn))))
        if act is Act.SCORE:
            return draft.score
        if draft.belief is None or draft.belief.probs is None:
            return None
        return draft.belief.probs[debate.orders.defended_by(turn.seat)]

    async def _judge(self, running: RunningDebate, orders: Orders, swapped: bool) -> None:
        view = _last_view(running, orders)
        agent = self.runtime.agent(Role.JUDGE)
        draft = await agent.act(view)
        if draft.belief is None:
            raise ProtocolError(f"judge {agent.name!r} gave no belief when asked to decide")
        judgment = Judgment(
            debate_id=running.debate.id,
            judge=judge_name(agent.name, draft),
            kind=agent.kind,
            orders=orders,
            swapped=swapped,
            trajectory=() if swapped else _trajectory(running),
            final=draft.belief,
            rationale=draft.rationale,
            samples=draft.samples,
        )
        await self.runtime.record_judgment(running, judgment, draft.prompts)


def _view(running: RunningDebate, slot: Slot, role: Role, step: ScheduledStep) -> View:
    """The view of the seat that acts in a slot."""
    return view_of(
        running.debate,
        running.question,
        running.public_turns,
        slot.seat,
        role,
        slot.act,
        step.index,
        round=step.round,
        may_end=slot.may_end,
        free_stance=slot.free_stance,
    )


def _last_view(running: RunningDebate, orders: Orders) -> View:
    """View of the judge at the end."""
    return view_of(
        running.debate,
        running.question,
        running.public_turns,
        Seat.JUDGE,
        Role.JUDGE,
        Act.DECIDE,
        len(running.schedule),
        orders=orders,
        round=running.debate.protocol.rounds,
    )


def _open_slots(running: RunningDebate, step: ScheduledStep) -> list[Slot]:
    return [slot for slot in step.slots if not running.acted(step.index, slot.seat)]


def _next(running: RunningDebate, step: ScheduledStep) -> Command[NextAct]:
    """On to the step that follows, unless the judge ended the debate with this one."""
    ended = any(turn.ends for turn in running.turns if turn.step == step.index)
    following = step.index + 1
    return Command(update={"step": following}, goto=_act(running, following, ended))


def _again(running: RunningDebate, step: ScheduledStep) -> Command[NextAct]:
    """The same step once more, as a person's seat in it is still open."""
    return Command(update={"step": step.index}, goto=_act(running, step.index, False))


def _act(running: RunningDebate, step: int, ended: bool) -> NextAct:
    """Name of the node for that step: an act of the schedule, or the end."""
    if ended or step >= len(running.schedule):
        return "finish" if running.debate.protocol.is_open else "decide"
    act = running.schedule[step].slots[0].act
    return NODE_OF_ACT[act]


def _first_undone(running: RunningDebate) -> int:
    for step in running.schedule:
        if _open_slots(running, step):
            return step.index
    return len(running.schedule)


def _candidate(view: View, index: int) -> View:
    seed = seed_from("turn", view.debate_id, view.step, view.seat, index)
    return replace(view, candidate=index, seed=seed)


def judge_name(agent: str, draft: Draft) -> str:
    """The agent, and the model that it judged with if it asked one: `judge (Qwen2.5-7B)`."""
    models = sorted({PurePath(sample.model).name for sample in draft.samples})
    return f"{agent} ({', '.join(models)})" if models else agent


def _trajectory(running: RunningDebate) -> tuple[tuple[int, Any], ...]:
    return tuple(
        (turn.step, turn.belief)
        for turn in running.turns
        if turn.act is Act.BELIEVE and turn.belief is not None
    )


def _result(running: RunningDebate) -> dict[str, Any]:
    """The end of a debate in a few JSON-plain fields."""
    if running.debate.protocol.is_open:
        return {"debate_id": running.debate.id, "num_turns": len(running.public_turns)}
    final = running.judgments[0].final
    return {
        "debate_id": running.debate.id,
        "verdict": final.verdict.value,
        "probs": list(final.probs) if final.probs is not None else None,
        "choice": final.choice,
        "num_turns": len(running.public_turns),
    }
