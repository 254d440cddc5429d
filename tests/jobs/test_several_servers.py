"""Several servers behind one engine: a slow one, and one that is gone, hold nobody up."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from oversight import protocols
from oversight.config import AgentSettings, DatasetSettings, EngineSettings
from oversight.datasets.base import stream_questions
from oversight.engines import identify
from oversight.engines.openai import Config
from oversight.engines.openai.server import SHARE
from oversight.errors import ConfigError
from oversight.graphs.planning import cast, plan
from oversight.graphs.running import CLAIM_BATCH, DebateProgress, run_debates
from oversight.graphs.runtime import Runtime
from oversight.store import Store
from oversight.types import Debate, EngineSpec, Question, Role
from tests.jobs.serving import Served, serving

CONCURRENCY = 24
GONE = "http://127.0.0.1:9/v1"


@pytest.fixture
def fast() -> Iterator[Served]:
    with serving(latency_s=0.01) as found:
        yield found


@pytest.fixture
def slow() -> Iterator[Served]:
    with serving(latency_s=1.0) as found:
        yield found


class Counted:
    """A plan that counts how many of its debates were taken."""

    def __init__(self, planned: Iterator[tuple[Debate, Question]]) -> None:
        self.planned, self.num_taken = planned, 0

    def __iter__(self) -> Iterator[tuple[Debate, Question]]:
        for each in self.planned:
            self.num_taken += 1
            yield each


async def critique(
    folder: Path,
    urls: Sequence[str],
    num_prompts: int,
    concurrency: int = CONCURRENCY,
    limit_s: float | None = None,
) -> tuple[DebateProgress | None, Counted]:
    """Self-critique of prompts by a model behind servers, and the prompts that were taken."""
    asked = folder / "asked.txt"
    asked.write_text("".join(f"Where does case {n} belong?\n" for n in range(num_prompts)))
    settings = {"base_url": list(urls), "model": "m", "dialect": "vllm", "max_retries": 1}
    engines = {"served": EngineSettings(engine="openai", settings=settings)}
    critic = {"constitution": "honesty", "num_principles": 1, "reasoning": False}
    agents = {
        Role.RESPONDER: AgentSettings(agent="responder", engine="served"),
        Role.CRITIC: AgentSettings(agent="critic", engine="served", settings=critic),
    }
    actors = cast(agents, engines)
    spec = DatasetSettings(dataset="prompts", settings={"path": str(asked)})
    questions = stream_questions(spec)
    planned = Counted(plan(questions, [protocols.load("constitutional")], actors.specs))
    progress = None
    with Store.open(str(folder / "store.db")) as store:
        async with actors:
            try:
                async with asyncio.timeout(limit_s):
                    progress = await run_debates(
                        planned, Runtime(store, actors), concurrency=concurrency
                    )
            except TimeoutError:
                assert limit_s is not None
    return progress, planned


async def test_a_slow_server_keeps_nobody_waiting_who_can_be_answered_elsewhere(
    fast: Served, slow: Served, tmp_path: Path
) -> None:
    done, _ = await critique(tmp_path, (slow.url, fast.url), num_prompts=120)

    assert done is not None
    assert (done.done, done.failures) == (120, [])
    # Of the calls in flight the slow one holds its share and no more, the other does the rest.
    assert slow.most_open <= math.ceil(SHARE * CONCURRENCY / 2)
    assert fast.num_calls > slow.num_calls > 0


async def test_what_a_server_that_is_gone_was_to_answer_another_answers(
    fast: Served, tmp_path: Path
) -> None:
    done, _ = await critique(tmp_path, (GONE, fast.url), num_prompts=30)

    assert done is not None
    assert (done.done, done.failures) == (30, [])


async def test_where_all_servers_are_gone_the_failure_says_so(tmp_path: Path) -> None:
    engine = Config(base_url=(GONE, "http://127.0.0.1:7/v1"), model="m", max_retries=0)
    assert engine.base_urls == (GONE, "http://127.0.0.1:7/v1")

    done, _ = await critique(tmp_path, engine.base_urls, num_prompts=1)

    assert done is not None
    [failure] = done.failures
    assert "nobody answers" in failure.error


async def test_calls_about_one_prompt_go_to_one_server(tmp_path: Path) -> None:
    with serving() as one, serving() as two:
        await critique(tmp_path, (one.url, two.url), num_prompts=40, concurrency=1)

        assert one.num_calls + two.num_calls >= 40
        assert set(one.asked)
        assert set(two.asked)
        assert not set(one.asked) & set(two.asked)


async def test_prompts_are_read_no_faster_than_servers_answer(slow: Served, tmp_path: Path) -> None:
    _, planned = await critique(tmp_path, (slow.url,), num_prompts=5_000, limit_s=0.8)

    assert slow.num_calls <= CONCURRENCY
    assert planned.num_taken <= CLAIM_BATCH + CONCURRENCY


@pytest.mark.parametrize(
    ("urls", "reason"),
    [
        ([], "one server at least"),
        ([GONE, GONE + "/"], "twice"),
        ([GONE, "localhost:8000"], "http://"),
        ([GONE, "http://user:pw@host/v1"], "api_key_env"),
    ],
)
def test_addresses_that_are_none_are_refused(urls: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Config.parse({"base_url": urls}, where="engine.openai")


def test_the_servers_of_a_model_are_no_part_of_what_it_says() -> None:
    specs = [
        EngineSpec(engine="openai", settings={"model": "m", "base_url": urls})
        for urls in (GONE, [GONE, "http://elsewhere/v1"])
    ]
    assert identify(specs[0]) == identify(specs[1])
