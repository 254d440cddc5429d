"""Two real vLLM servers behind one engine: routing, and what happens when they are killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from oversight.engines.vllm import Config, VllmEngine, build, rendezvous
from oversight.errors import EngineUnavailableError
from oversight.types import FinishReason, Message, Prompt, Request, Sampling

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(400),
    pytest.mark.asyncio(loop_scope="module"),
]

STORY = " ".join(f"At {hour} o'clock the key was in room {hour * 7 % 13}." for hour in range(9))


LONG = "never ending " * 120
"""The only choice of requests that must not be over by themselves too soon."""


def ask(text: str, route: str = "", **sampling: Any) -> Request:
    prompt = Prompt(messages=(Message(role="user", parts=(text,)),))
    sampling = {"max_tokens": 4, "seed": 5} | sampling
    return Request(prompt, Sampling(**sampling), id=text[:12], route=route)


def route_to(replica: int) -> str:
    return next(f"r{n}" for n in range(20) if rendezvous(f"r{n}", 2) == replica)


def family(engine: VllmEngine, replica: int) -> list[psutil.Process]:
    """The processes of a replica's server: the API first, the engine's own among the others."""
    launcher = engine._replicas[replica].server._launcher
    assert launcher is not None
    return psutil.Process(launcher.pid).children(recursive=True)


def engine_core(processes: list[psutil.Process]) -> psutil.Process:
    return next(process for process in processes if "EngineCore" in " ".join(process.cmdline()))


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(
    tiny_model: Path, vllm_python: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[VllmEngine]:
    engine = build(
        Config(
            model=str(tiny_model),
            python=vllm_python,
            replicas=2,
            dtype="float32",
            max_model_len=1024,
            block_size=32,
            kv_cache_gib=0.25,
            restarts=1,
            log_dir=str(tmp_path_factory.mktemp("logs")),
            extra_args=("--enforce-eager",),
        )
    )
    try:
        await engine.start()
        yield engine
    finally:
        await engine.aclose()


async def test_all_requests_of_a_route_go_to_one_replica_whose_cache_then_holds(pair):
    routes = [f"debate-{n}" for n in range(8)]
    before = await pair.metrics()
    first = await pair.generate([ask(f"{route}: {STORY}", route) for route in routes])
    again = await pair.generate([ask(f"{route}: {STORY} Why?", route) for route in routes])
    after = await pair.metrics()
    home = [rendezvous(route, 2) for route in routes]
    assert set(home) == {0, 1}
    for index in (0, 1):
        mine = [n for n, replica in enumerate(home) if replica == index]
        asked = sum(
            c.usage.prompt_tokens for batch in (first, again) for c in (batch[n] for n in mine)
        )
        assert after[index].prompt_tokens - before[index].prompt_tokens == asked
    assert all(completion.usage.cached_tokens > 128 for completion in again)


async def test_requests_without_a_route_go_where_the_least_is_in_flight(pair):
    before = await pair.metrics()
    completions = await pair.generate([ask("the same for all", max_tokens=32) for _ in range(8)])
    after = await pair.metrics()
    length = completions[0].usage.prompt_tokens
    for index in (0, 1):
        assert after[index].prompt_tokens - before[index].prompt_tokens == 4 * length


async def test_a_batch_finishes_although_a_server_is_killed_in_the_middle(pair):
    requests = [
        ask(f"{n}: go on", f"debate-{n}", max_tokens=600, choices=(LONG,)) for n in range(16)
    ]
    processes = family(pair, 0)
    core = engine_core(processes)
    core.suspend()  # so that its requests are in the middle however fast the machine is
    batch = asyncio.create_task(pair.generate(requests))
    await asyncio.sleep(0.5)
    processes[0].kill()  # the API process: its engine would live on
    core.resume()
    await asyncio.sleep(3)
    # The other replica answers as well while one is away. How soon, beside a server that
    # starts on the same cores, says nothing.
    (elsewhere,) = await asyncio.wait_for(pair.generate([ask("and you?", route_to(1))]), 60)
    assert elsewhere.token_ids
    completions = await batch
    for request, completion in zip(requests, completions, strict=True):
        assert completion.request_id == request.id
        assert completion.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
        assert len(completion.token_ids) == completion.usage.completion_tokens
    assert [replica.num_starts for replica in pair._replicas] == [2, 1]
    assert not alive(processes)
    assert all(completion.text in LONG for completion in completions)
    assert all(metrics.generation_tokens > 0 for metrics in await pair.metrics())


async def test_a_stream_that_had_begun_is_not_started_over(pair):
    core = engine_core(family(pair, 0))  # looked up before: the answer is over in a second
    stream = pair.stream(ask("speak", route_to(0), max_tokens=900, choices=(LONG,)))
    pieces = [await anext(stream)]
    core.kill()  # the API process lives, says 503, and ends later
    with pytest.raises(EngineUnavailableError, match=r"vllm replica 0 died .* 'speak'.*ask again"):
        pieces += [chunk async for chunk in stream]
    assert pieces[0].text
    assert all(piece.completion is None for piece in pieces)


async def test_a_replica_is_given_up_after_its_last_restart_and_the_error_names_it(pair):
    (replica, other) = pair._replicas
    for _ in range(2):
        with pytest.raises(EngineUnavailableError) as raised:
            await pair.generate([ask("hello?", route_to(0))])
        message = str(raised.value)
        assert "vllm replica 0 died and is given up after restarts = 1" in message
        assert str(replica.server.log) in message
        assert "EngineDeadError" in message or "EngineCore" in message
    assert replica.num_starts == 2
    assert (await pair.metrics())[0].prompt_tokens is None
    completions = await pair.generate([ask("no route"), ask("other route", route_to(1))])
    assert all(completion.token_ids for completion in completions)
    assert other.num_starts == 1


async def test_closing_leaves_no_process_and_no_use(pair):
    processes = family(pair, 1)
    assert alive(processes)
    await pair.aclose()
    await asyncio.sleep(0.2)
    assert not alive(processes)
    with pytest.raises(EngineUnavailableError, match="is closed"):
        await pair.generate([ask("hello?")])
