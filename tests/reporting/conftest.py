"""Stores with real scripted debates, and the viewer's application over them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from oversight import protocols
from oversight.config import AgentSettings, EngineSettings
from oversight.graphs.planning import cast, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.reporting.index import Index
from oversight.reporting.server import Shelf, Viewer, gate_of
from oversight.store import Store
from oversight.types import (
    Debate,
    Message,
    Option,
    OversightProtocol,
    Prompt,
    Question,
    Request,
    Role,
    RunStart,
    Source,
)
from tests.store.conftest import postgres_server  # noqa: F401

SOURCE = Source(
    title="The house log",
    text=(
        "At nine Ada carried the brass lamp to the attic.\n"
        "At ten Bo carried the brass lamp to the cellar.\n"
        "At noon Cy swept the cellar and found nothing.\n"
    ),
)
SPEECH = (
    "Look: <quote>Ada carried the brass lamp to the attic.</quote> And "
    "<quote>Bo carried the red lamp to the cellar</quote>, yet "
    "<quote>nobody has ever seen this thing</quote>."
)
"""Quotes of three kinds: verified, near, unverified."""


def make_question(number: int = 0, **changes: Any) -> Question:
    given: dict[str, Any] = {
        "id": f"q{number}",
        "dataset": "house",
        "text": f"Where is the brass lamp on day {number}?",
        "options": (Option(text="the attic"), Option(text="the cellar")),
        "correct": number % 2,
        "source": SOURCE,
    }
    return Question(**(given | changes))


def begin(store: Store, name: str, **tags: str) -> None:
    """Let what is written from now on belong to a run."""
    store.begin_run(
        RunStart(
            run=name,
            named=True,
            tags=tags,
            at="2026-01-02T03:04:05+00:00",
            action="debate",
            command="oversight debate --made-up",
            settings_id=f"{name}-settings",
        )
    )


@dataclass
class Sent:
    """Requests that engines were asked in a run."""

    prompts: list[Prompt]


async def run_scripted(
    store: Store,
    questions: Sequence[Question],
    names: Sequence[str | OversightProtocol] = ("debate",),
    speech: str = SPEECH,
    verdict: str = "B",
    choices: bool = True,
) -> tuple[list[Debate], Sent]:
    """Debates by the real graphs, with a model judge; and every prompt that an engine was sent."""
    chosen = [protocols.load(each) if isinstance(each, str) else each for each in names]
    rules = [{"pattern": r"(?i)(answer|decide|which option)[^\n]*\Z", "answer": verdict}]
    engine = EngineSettings(
        engine="scripted",
        settings={"model": "made", "fallback": speech, "rules": rules, "choices": choices},
    )
    model = {"settings": {"reasoning": False}, "engine": "e"}
    agents = {
        Role.DEBATER: AgentSettings(agent="debater", **model),
        Role.CONSULTANT: AgentSettings(agent="consultant", **model),
        Role.CRITIC: AgentSettings(agent="critic", **model),
        Role.RESPONDER: AgentSettings(agent="responder", settings={}, engine="e"),
        Role.JUDGE: AgentSettings(agent="judge", engine="e"),
    }
    sent = Sent([])
    async with cast(agents, {"e": engine}) as actors:
        planned = list(plan(questions, chosen, actors.specs))
        for player in _engines(actors):
            _listen(player, sent)
        await run_debates(planned, Runtime(store, actors), concurrency=4)
        return [debate for debate, _ in planned], sent


def _engines(actors: Any) -> list[Any]:
    found = {id(engine): engine for engine in actors.engines.values()}
    return list(found.values())


def _listen(engine: Any, sent: Sent) -> None:
    generate = engine.generate

    async def listening(requests: Sequence[Request]) -> Any:
        sent.prompts += [request.prompt for request in requests]
        return await generate(requests)

    engine.generate = listening


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "made.db") as opened:
        yield opened


@pytest.fixture(scope="session")
def debated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store that tests share and do not change: debates and consultancies on six questions."""
    with Store.open(tmp_path_factory.mktemp("debated") / "debated.db") as opened:
        asked = [make_question(n) for n in range(6)]
        names = ("debate", "consultancy", "naive")
        asyncio.run(run_scripted(opened, asked, names))
        yield opened


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Callable[[Store], Index]]:
    """Make an index of a store, whole."""
    made: list[Index] = []

    def make(of: Store) -> Index:
        one = Index(of, tmp_path / f"index-{len(made)}.db")
        one.update()
        made.append(one)
        return one

    yield make
    for each in made:
        each.close()


Get = Callable[..., httpx.Response]


@pytest.fixture
def get(index: Callable[[Store], Index]) -> Callable[..., Get]:
    """Ask the viewer over some stores, as a browser on loopback."""

    def over(
        *stores: Store,
        runs: dict[str, Path] | None = None,
        experiments: dict[str, Path] | None = None,
        host: str = "127.0.0.1",
        token: str = "",
        **more: Shelf,
    ) -> Get:
        shelves = {Path(each.url).name: Shelf(each, index(each)) for each in stores} | more
        viewer = Viewer(shelves, lambda: runs or {}, lambda: experiments or {})
        app = viewer.app(gate_of(host, 80, token))

        def ask(path: str = "/", method: str = "GET", **headers: str) -> httpx.Response:
            async def go() -> httpx.Response:
                way = httpx.ASGITransport(app=app)
                async with httpx.AsyncClient(transport=way, base_url="http://127.0.0.1:80") as c:
                    given = {"host": "127.0.0.1:80"} | headers
                    return await c.request(method, path, headers=given)

            # In a thread of its own: a test may have a running loop.
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(asyncio.run, go()).result()

        return ask

    return over


def chat(prompt: Prompt) -> tuple[tuple[str, str], ...]:
    """A prompt as (role, content) pairs."""
    messages: tuple[Message, ...] = prompt.messages
    return tuple((each.role, each.content) for each in messages)
