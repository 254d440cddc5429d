"""Stores to judge from, and the real app driven by its keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from oversight import protocols
from oversight.config import AgentSettings, EngineSettings
from oversight.graphs.planning import Cast, cast, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.judging.settings import JudgingSettings
from oversight.store import Store
from oversight.tui.person_app import JudgeApp
from oversight.types import (
    Debate,
    EventKind,
    JudgingEvent,
    Judgment,
    Option,
    OversightProtocol,
    Question,
    Role,
    Source,
)

SOURCE = Source(
    title="The house log",
    text=(
        "At nine Ada carried the brass lamp to the attic.\n"
        "At ten Bo carried the brass lamp to the cellar.\n"
        "At noon Cy swept the cellar and found nothing.\n"
    ),
)
QUOTE_A = "<quote>At nine Ada carried the brass lamp to the attic.</quote>"
QUOTE_B = "<quote>At ten Bo carried the brass lamp to the cellar.</quote>"
SPEECH_OF = {
    "attic": f"Ada took it up: {QUOTE_A} It never left.",
    "cellar": f"Bo took it down: {QUOTE_B} And <quote>it was never seen again by anyone</quote>.",
}
OPENING = frozenset({"enter", "v", "m", "ctrl+s", "s", "r", "e", "a", "escape"})
"""Keys that lead to another screen."""
MODEL = "secret-model-9000"


def make_question(number: int = 0, text: str = "Where is the brass lamp?") -> Question:
    return Question(
        id=f"q{number}",
        dataset="house",
        text=text if number == 0 else f"{text} ({number})",
        options=(Option(text="the attic"), Option(text="the cellar")),
        correct=1,
        source=SOURCE,
    )


def scripted(latency_s: float = 0.0, **settings: Any) -> EngineSettings:
    """Speakers that argue for the option that the prompt's last part names."""
    rules = [
        {"pattern": r"(?s)A: the attic.*option A\b.*\Z", "answer": SPEECH_OF["attic"]},
        {"pattern": r"(?s)A: the cellar.*option A\b.*\Z", "answer": SPEECH_OF["cellar"]},
        {"pattern": r"(?s)B: the attic.*option B\b.*\Z", "answer": SPEECH_OF["attic"]},
        {"pattern": r".", "answer": SPEECH_OF["cellar"]},
    ]
    given = {"model": MODEL, "rules": rules, "latency_s": latency_s, **settings}
    return EngineSettings(engine="scripted", settings=given)


def speaker(agent: str) -> AgentSettings:
    if agent == "human":
        return AgentSettings(agent="human")
    return AgentSettings(agent=agent, settings={"reasoning": False}, engine="e")


def make_cast(
    judge: str = "lexical",
    debater: str = "debater",
    consultant: str = "consultant",
    **settings: Any,
) -> Cast:
    agents = {
        Role.DEBATER: speaker(debater),
        Role.CONSULTANT: speaker(consultant),
        Role.CRITIC: AgentSettings(agent="retrieval"),
        Role.JUDGE: AgentSettings(agent=judge),
    }
    return cast(agents, {"e": scripted(**settings)})


RunAll = Callable[..., Coroutine[Any, Any, list[Debate]]]


@pytest.fixture
def run_all(store: Store) -> RunAll:
    """Run debates on `num` questions as far as they go without a person."""

    async def go(
        protocol: str | OversightProtocol = "debate", num: int = 1, **settings: Any
    ) -> list[Debate]:
        chosen = protocols.load(protocol) if isinstance(protocol, str) else protocol
        async with make_cast(**settings) as actors:
            planned = list(plan([make_question(n) for n in range(num)], [chosen], actors.specs))
            await run_debates(planned, Runtime(store, actors), concurrency=1)
            return [debate for debate, _ in planned]

    return go


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store.open(tmp_path / "judging.db") as opened:
        yield opened


class Judging:
    """The app in a test, and what is in its store."""

    MODEL = MODEL

    def __init__(self, store: Store, app: JudgeApp, pilot: Pilot[None]) -> None:
        self.store = store
        self.app = app
        self.pilot = pilot

    async def press(self, *keys: str) -> None:
        for key in keys:
            shown = self.app.screen
            await self.pilot.press(key)
            await self.pilot.pause(0.05 if key in OPENING else None)
            if key in OPENING and self.app.screen is shown:
                # A screen that is about to open must not miss the keys that are meant for it.
                await self.pilot.pause(0.1)

    async def type(self, words: str) -> None:
        await self.pilot.press(*("space" if char == " " else char for char in words))
        await self.pilot.pause()

    async def until(self, holds: Callable[[], Any], seconds: float = 20.0) -> None:
        """Wait until something holds."""
        for _ in range(int(seconds / 0.02)):
            await self.pilot.pause(0.02)
            if holds():
                return
        raise AssertionError(f"after {seconds} s it still does not hold; the screen:\n{self.text}")

    async def see(self, *words: str) -> None:
        """Wait until all these words are on the screen."""
        await self.until(lambda: all(word in self.text for word in words))

    @property
    def text(self) -> str:
        """The words on the screen, line by line."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    def events(self, judge: str = "anna") -> list[JudgingEvent]:
        return self.store.events(judge)

    def kinds(self, judge: str = "anna") -> list[EventKind]:
        return [event.kind for event in self.events(judge)]

    def judgments(self, judge: str = "anna") -> list[Judgment]:
        return [
            judgment
            for transcript in self.store.transcripts(complete=None)
            for judgment in transcript.judgments
            if judgment.judge == judge
        ]


@pytest.fixture
def judging(store: Store) -> Any:
    """Open the app on the store: `async with judging(**settings) as j`."""

    @asynccontextmanager
    async def opened(size: tuple[int, int] = (100, 30), **settings: Any) -> AsyncIterator[Judging]:
        given = {"judge": "anna", "store": store.url, **settings}
        app = JudgeApp(store, JudgingSettings.parse(given))
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            yield Judging(store, app, pilot)

    return opened


@pytest.fixture
def speakers() -> Callable[..., dict[str, Any]]:
    """The engine that `run_all` speaks with, as a study describes it."""
    return lambda **settings: scripted(**settings).model_dump(mode="json")


@pytest.fixture
def assisted() -> dict[str, Any]:
    """Settings of a session with an assistant."""
    return {
        "assistance": {"full": {"agent": "assistant", "engine": "helper"}},
        "engines": {
            "helper": {
                "engine": "scripted",
                "settings": {"fallback": "Both quote the log; the later line counts."},
            }
        },
    }
