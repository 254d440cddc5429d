"""Cost of orchestrating a debate, beside the model's own time.

500 debates of 9 calls over a simulated engine (50 ms a call), 256 debates in flight: process CPU
time a turn with everything in (graph, prompts, quote verification, durable store), beside bare
asyncio and bare LangGraph from the same run. And how much memory 1,000 debates take.

    python benchmarks/orchestration.py

Bars: at most 1.0 ms of process CPU a turn; memory grows by less than 200 MB. Other work on the
same cores raises CPU times as well, so the runs of all three alternate and the best counts.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from statistics import median
from typing import TypedDict
from zlib import crc32

import psutil
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from oversight import protocols
from oversight.agents import build_agent
from oversight.graphs.casting import Cast
from oversight.graphs.planning import plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.store import Store
from oversight.types import (
    AgentSpec,
    Capabilities,
    Chunk,
    Completion,
    FinishReason,
    Message,
    Option,
    Prompt,
    Question,
    Request,
    Role,
    Sampling,
    Source,
    Usage,
)

LATENCY_S = 0.05
CHARS_A_TOKEN = 4
IDS = tuple(range(200_000))
LOGPROBS = (-0.75,) * 2_000
TOP = ((("A", -0.4), ("B", -1.2)),)
NUM_CALLS = 9
BAR_MS = 1.0
BAR_MB = 200.0

PROTOCOL = {
    "graph": "debate",
    "rounds": 2,
    "opening": [{"slots": [{"seat": "a"}, {"seat": "b"}]}],
    "round": [
        {"slots": [{"seat": "judge", "act": "believe"}]},
        {"slots": [{"seat": "a"}, {"seat": "b"}]},
    ],
}
"""Three simultaneous rounds with a belief after the first two, then the judgment: 9 calls."""


def questions(number: int) -> list[Question]:
    """Questions over sources of a thousand words each."""
    rng = random.Random(0)
    words = [f"word{rng.randrange(10**6)}" for _ in range(4000)]
    made = []
    for index in range(number):
        sentences = (" ".join(rng.sample(words, 12)).capitalize() + "." for _ in range(80))
        made.append(
            Question(
                id=f"q{index}",
                dataset="benchmark",
                text=f"Which of the two holds in case {index}?",
                options=(Option(text=f"the first of {index}"), Option(text="the second")),
                correct=0,
                source=Source(text=" ".join(sentences)),
            )
        )
    return made


FILLER = "The other side leaves out what matters here and so misleads you. " * 5


def answer(request: Request) -> str:
    """A speech of a hundred words with a true quote and an invented one; a letter for a judge."""
    if request.sampling.choices:
        return "A"
    source, *_, ask = request.prompt.messages[1].parts
    number = len(request.prompt.messages[1].parts) + 2 * ("Debater A" in ask)
    true = source.split(". ", number + 1)[number]
    return (
        f"{FILLER}<quote>{true}</quote> proves it. {FILLER}"
        "<quote>a passage that stands nowhere in the source at all</quote>"
    )


class Simulated:
    """An engine that answers after the latency, at no cost of its own: four characters a token."""

    name = model = "simulated"
    capabilities = Capabilities(logprobs=True, choices=True)

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request, all after the latency."""
        await asyncio.sleep(LATENCY_S)
        return [self._complete(request) for request in requests]

    def _complete(self, request: Request) -> Completion:
        text = answer(request)
        messages = request.prompt.messages
        num_prompt = sum(len(part) for m in messages for part in m.parts) // CHARS_A_TOKEN
        start = crc32(f"{request.route} {messages[0].parts}".encode()) % (len(IDS) // 2)
        num_tokens = max(1, len(text) // CHARS_A_TOKEN)
        return Completion(
            request_id=request.id,
            text=text,
            prompt_ids=IDS[start : start + num_prompt],
            token_ids=IDS[:num_tokens],
            finish_reason=FinishReason.STOP,
            usage=Usage(prompt_tokens=num_prompt, completion_tokens=num_tokens),
            engine=self.name,
            model=self.model,
            seconds=LATENCY_S,
            logprobs=LOGPROBS[:num_tokens],
            top=TOP if request.sampling.top_logprobs else (),
        )

    def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """Nothing here is live."""
        raise AssertionError(request)

    async def cancel(self, request_id: str) -> None:
        """Nothing is cancelled here."""

    async def aclose(self) -> None:
        """Holds nothing."""


async def bare_asyncio(
    num_debates: int, concurrency: int, call: Callable[[], Awaitable[None]]
) -> None:
    """The same calls in the same order, with nothing around them."""
    slots = asyncio.Semaphore(concurrency)

    async def one() -> None:
        async with slots:
            await asyncio.gather(call(), call())
            for _ in range(2):
                await call()
                await asyncio.gather(call(), call())
            await call()

    await asyncio.gather(*(one() for _ in range(num_debates)))


class Count(TypedDict):
    """State of the bare graph."""

    step: int


async def bare_langgraph(
    num_debates: int, concurrency: int, call: Callable[[], Awaitable[None]]
) -> None:
    """The same calls from the nodes of a graph with the same number of steps."""

    def following(step: int) -> Command[str]:
        node = "decide" if step == 5 else ("pair" if step % 2 == 0 else "single")
        return Command(update={"step": step}, goto=node)

    async def pair(state: Count) -> Command[str]:
        await asyncio.gather(call(), call())
        return following(state["step"] + 1)

    async def single(state: Count) -> Command[str]:
        await call()
        return following(state["step"] + 1)

    async def begin(state: Count) -> Command[str]:
        return following(0)

    async def decide(state: Count) -> Count:
        await call()
        return state

    builder = StateGraph(Count)
    targets = ("pair", "single", "decide")
    for name, node in {"open": begin, "pair": pair, "single": single}.items():
        builder.add_node(name, node, destinations=targets)
    builder.add_node("decide", decide)
    builder.add_edge(START, "open")
    builder.add_edge("decide", END)
    graph = builder.compile()
    slots = asyncio.Semaphore(concurrency)

    async def one() -> None:
        async with slots:
            await graph.ainvoke({"step": 0})

    await asyncio.gather(*(one() for _ in range(num_debates)))


async def whole(made: list[Question], concurrency: int, path: Path) -> None:
    """Debates with everything in."""
    engine = Simulated()
    specs = {
        Role.DEBATER: AgentSpec(agent="debater", settings={"reasoning": False}),
        Role.JUDGE: AgentSpec(agent="judge"),
    }
    agents = {role: build_agent(spec, engine) for role, spec in specs.items()}
    protocol = protocols.parse(PROTOCOL, name="nine_calls", where="benchmark")
    async with Cast(agents, specs, {"simulated": engine}) as actors:
        with Store.open(str(path)) as store:
            planned = plan(made, [protocol], actors.specs)
            progress = await run_debates(planned, Runtime(store, actors), concurrency=concurrency)
            assert progress.done == len(made), progress.failures[:1]
            counts = store.counts()
            assert counts["turns"] == len(made) * (NUM_CALLS - 1), counts


def cpu_ms_a_turn(num_debates: int, run: Callable[[], Awaitable[None]]) -> float:
    """Milliseconds of process CPU time a turn, of all threads."""
    gc.collect()
    before = time.process_time()
    asyncio.run(run())  # type: ignore[arg-type]
    return 1000 * (time.process_time() - before) / (num_debates * NUM_CALLS)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--debates", type=int, default=500)
    parser.add_argument("--concurrency", type=int, default=256)
    parser.add_argument("--memory-debates", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    number, concurrency = options.debates, options.concurrency
    made = questions(max(number, options.memory_debates))
    engine = Simulated()
    parts = ("A sentence of the source. " * 300, "The role.")
    prompt = Prompt(
        messages=(
            Message(role="system", parts=("The rules.",)),
            Message(role="user", parts=parts),
        )
    )
    request = Request(prompt=prompt, sampling=Sampling())

    async def call() -> None:
        await engine.generate([request])

    with tempfile.TemporaryDirectory() as folder:
        stores = (Path(folder, f"{index}.db") for index in count())
        asyncio.run(whole(made[:20], concurrency, next(stores)))
        show_memory(made[: options.memory_debates], concurrency, next(stores))
        rows: dict[str, Callable[[], Awaitable[None]]] = {
            "bare asyncio": lambda: bare_asyncio(number, concurrency, call),
            "bare LangGraph": lambda: bare_langgraph(number, concurrency, call),
            "oversight, all in": lambda: whole(made[:number], concurrency, next(stores)),
        }
        print(
            f"{number} debates of {NUM_CALLS} calls, {1000 * LATENCY_S:.0f} ms a call, "
            f"{concurrency} debates in flight; process CPU, {options.repeats} interleaved runs each"
        )
        spent: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(options.repeats):
            for name, run in rows.items():
                spent[name].append(cpu_ms_a_turn(number, run))
        for name, times in spent.items():
            bar = f"   (bar: {BAR_MS} ms)" if name.startswith("oversight") else ""
            print(
                f"  {name:18} {min(times):6.3f} ms a turn at best, median {median(times):6.3f}{bar}"
            )


def show_memory(made: list[Question], concurrency: int, store: Path) -> None:
    """Print by how much resident memory has grown after debates, and at most on the way."""
    gc.collect()
    before = psutil.Process().memory_info().rss
    asyncio.run(whole(made, concurrency, store))
    after = psutil.Process().memory_info().rss
    peak = max(after, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    print(
        f"memory grew by {(after - before) / 2**20:.0f} MB over {len(made)} debates, "
        f"at most by {(peak - before) / 2**20:.0f} MB   (bar: {BAR_MB:.0f} MB); "
        f"the store is {store.stat().st_size / 2**20:.0f} MB"
    )


if __name__ == "__main__":
    main()
