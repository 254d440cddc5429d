"""Agents that say what a test tells them to, and a runtime for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from oversight import protocols, registry
from oversight.graphs.planning import Cast, draw_orders, plan_one
from oversight.graphs.runtime import Listener, Runtime
from oversight.store import Store
from oversight.types import (
    AgentSpec,
    Belief,
    BeliefMethod,
    Draft,
    JudgeKind,
    Option,
    OversightProtocol,
    Question,
    Role,
    Source,
    Transcript,
    Verdict,
    View,
)

SOURCE = "Ada carried the lamp to the attic at nine. At ten Bo carried the lamp to the cellar."


class Told:
    """An agent that answers with a function of the view, and remembers every view."""

    kind = JudgeKind.MODEL

    def __init__(self, name: str, say: Callable[[View], Any]) -> None:
        self.name = name
        self.views: list[View] = []
        self._say = say

    async def act(self, view: View) -> Draft:
        self.views.append(view)
        said = self._say(view)
        if isinstance(said, Exception):
            raise said
        return said if isinstance(said, Draft) else Draft(text=said)


def belief(p_first: float | None) -> Belief:
    """A belief in the first of two options; None is INVALID."""
    if p_first is None:
        return Belief(verdict=Verdict.INVALID, method=BeliefMethod.PARSED, raw="??")
    verdict = Verdict.TIE if p_first == 0.5 else Verdict.DECIDED
    return Belief(verdict=verdict, method=BeliefMethod.PARSED, probs=(p_first, 1 - p_first))


class Theatre:
    """A store, told agents, and one call that runs a debate over them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.speaker = Told("speaker", lambda view: f"{view.seat} in step {view.step}")
        self.critic = Told("critic", lambda view: f"critic in step {view.step}")
        self.judge = Told("judge", lambda view: Draft(belief=belief(0.7), text=""))
        self.scorer = Told("scorer", lambda view: Draft(belief=belief(0.5)))
        self.listener: Listener | None = None

    def cast(self) -> Cast:
        agents = {
            Role.DEBATER: self.speaker,
            Role.CONSULTANT: self.speaker,
            Role.CRITIC: self.critic,
            Role.RESPONDER: self.speaker,
            Role.JUDGE: self.judge,
            Role.SCORER: self.scorer,
        }
        return Cast(agents, {role: AgentSpec(agent=a.name) for role, a in agents.items()}, {})

    def runtime(self) -> Runtime:
        return Runtime(self.store, self.cast(), self.listener, live=True)

    async def run(
        self, protocol: OversightProtocol | str, question: Question, seed: int = 0
    ) -> Transcript:
        """One debate, from the plan to the transcript in the store."""
        if isinstance(protocol, str):
            protocol = protocols.load(protocol)
        runtime = self.runtime()
        orders = draw_orders(question, seed)
        debate = plan_one(question, protocol, runtime.cast.specs, orders, seed)
        await runtime.enter(debate, question)
        graph = registry.load("graphs", protocol.graph).build(runtime)
        await graph.ainvoke({"debate_id": debate.id})
        return self.store.transcript(debate.id)


@pytest.fixture
def question() -> Question:
    return Question(
        id="q1",
        dataset="test",
        text="Where is the lamp?",
        options=(Option(text="the attic"), Option(text="the cellar")),
        correct=1,
        source=Source(text=SOURCE),
    )


@pytest.fixture
def make_questions() -> Callable[[int], list[Question]]:
    def make(number: int) -> list[Question]:
        return [
            Question(
                id=f"q{index}",
                dataset="test",
                text=f"Where is lamp {index}?",
                options=(Option(text="the attic"), Option(text="the cellar")),
                correct=index % 2,
                source=Source(text=SOURCE),
            )
            for index in range(number)
        ]

    return make


@pytest.fixture
def make_belief() -> Callable[[float | None], Belief]:
    return belief


@pytest.fixture
def make_agent() -> Callable[[str, Callable[[View], Any]], Told]:
    return Told


@pytest_asyncio.fixture
async def theatre(tmp_path: Path) -> AsyncIterator[Theatre]:
    with Store.open(str(tmp_path / "debates.db")) as store:
        yield Theatre(store)
