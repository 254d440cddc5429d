"""A store with debates to judge, made by the real graphs, and desks at it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from oversight import protocols
from oversight.config import AgentSettings, EngineSettings
from oversight.graphs.planning import cast, draw_orders, plan_one
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.judging.desk import Desk
from oversight.judging.settings import JudgingSettings
from oversight.store import Store
from oversight.types import (
    Debate,
    EventKind,
    JudgingEvent,
    Option,
    OversightProtocol,
    Question,
    Role,
    Source,
)

SOURCE = Source(
    title="The house",
    text=(
        "At 09:40 Ada carried the lantern to the attic. At 10:05 Bea carried the map to the attic. "
        "At 10:30 Bea moved the lantern down to the cellar. At 11:15 Ada brought the kettle to "
        "the kitchen."
    ),
)
SPEECH = (
    "It is plain: <quote>Bea moved the lantern down to the cellar</quote>. And "
    "<quote>it never came down again</quote> is what they say."
)
RETRIEVAL = AgentSettings(agent="retrieval")
HUMAN = AgentSettings(agent="human")
DEBATER = AgentSettings(agent="debater", settings={"reasoning": False}, engine="speakers")


def _question(number: int = 0, **changes: Any) -> Question:
    given: dict[str, Any] = {
        "id": f"q{number}",
        "dataset": "house",
        "text": f"Where is the lantern at the end of day {number}?",
        "options": (Option(text="in the attic"), Option(text="in the cellar")),
        "correct": 1,
        "source": SOURCE,
    }
    return Question(**(given | changes))


@dataclass
class Workshop:
    """Debates of a store, and desks at it."""

    store: Store

    question = staticmethod(_question)

    def plan(
        self,
        protocol: str | OversightProtocol = "debate_interactive",
        *,
        judge: AgentSettings = HUMAN,
        debater: AgentSettings = RETRIEVAL,
        question: Question | None = None,
        script: dict[str, Any] | None = None,
    ) -> Debate:
        """A debate in the store of which nothing was spoken yet."""
        if isinstance(protocol, str):
            protocol = protocols.load(protocol)
        question = question or _question()
        specs = cast(self._agents(judge, debater), self._engines(script)).specs
        debate = plan_one(question, protocol, specs, draw_orders(question, 0), 0)
        self.store.add(question, debate)
        return debate

    async def record(self, protocol: str | OversightProtocol = "debate", **options: Any) -> Debate:
        """A debate that was run to its end, with a judge that is no person."""
        options = {"judge": AgentSettings(agent="lexical")} | options
        debate = self.plan(protocol, **options)
        script = options.get("script")
        agents = self._agents(options["judge"], options.get("debater", RETRIEVAL))
        async with cast(agents, self._engines(script)) as players:
            question = self.store.transcript(debate.id).question
            runtime = Runtime(self.store, players)
            progress = await run_debates([(debate, question)], runtime, concurrency=1)
        assert progress.done == 1
        return debate

    def settings(self, judge: str = "anna", **changes: Any) -> JudgingSettings:
        """Settings as a file would give them."""
        return JudgingSettings.parse({"judge": judge, **changes}, where="test")

    def desk(self, judge: str = "anna", store: Store | None = None, **changes: Any) -> Desk:
        """A judge at the store."""
        return Desk(store or self.store, self.settings(judge, **changes))

    @staticmethod
    def _agents(judge: AgentSettings, debater: AgentSettings) -> dict[Role, AgentSettings]:
        return {
            Role.JUDGE: judge,
            Role.DEBATER: debater,
            Role.CONSULTANT: RETRIEVAL,
            Role.CRITIC: RETRIEVAL,
        }

    @staticmethod
    def _engines(script: dict[str, Any] | None) -> dict[str, EngineSettings]:
        settings = {"fallback": SPEECH} if script is None else script
        return {"speakers": EngineSettings(engine="scripted", settings=settings)}


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    with Store.open(tmp_path / "store.db") as store:
        yield Workshop(store)


@pytest.fixture(scope="session")
def finished_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A store with one finished debate that property tests share, each example as its own judge."""
    with Store.open(tmp_path_factory.mktemp("judging") / "store.db") as store:
        shared = Workshop(store)
        asyncio.run(shared.record())
        yield shared


@pytest.fixture
def speech() -> str:
    return SPEECH


@pytest.fixture
def debater() -> AgentSettings:
    """A debater with the scripted engine."""
    return DEBATER


def _event(kind: EventKind, /, **data: Any) -> JudgingEvent:
    return JudgingEvent(
        debate_id="d", judge="anna", session="s", number=0, at="", kind=kind, data=data
    )


@pytest.fixture
def make_event() -> Any:
    return _event
