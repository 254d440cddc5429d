"""Cost of orchestrating a debate, beside the model's own time.

500 debates of 9 calls over a simulated engine (50 ms a call), 256 debates in flight: process CPU
time a turn with everything in (graph, prompts, quote verification, durable store), beside bare
asyncio and bare LangGraph from the same run; the same with transactions of a batch job's own
choice; in which parts of the program the rest of the time is spent; and how much memory 1,000
debates take. No run is given questions that another one had, so that nothing is known before.

    python benchmarks/orchestration.py

Bars: at most 0.5 ms of process CPU a turn, 0.3 ms in a batch; memory grows by less than 200 MB.
Other work on the same cores raises CPU times as well, so the runs of all alternate and the best
counts.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import resource
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import cache
from itertools import count
from operator import itemgetter
from pathlib import Path
from statistics import median
from types import FrameType
from typing import Self, TypedDict
from zlib import crc32

import psutil
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from oversight import protocols
from oversight.agents import build_agent
from oversight.config import TransactionSettings
from oversight.graphs.planning import Cast, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.store import Store
from oversight.store.writing import AS_THEY_COME
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
BARS_MS = {"oversight, all in": 0.5, "oversight, batch": 0.3}
BAR_MB = 200.0
BATCH = TransactionSettings(writes=4096, wait_s=0.25)

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


def questions(number: int, seed: int) -> list[Question]:
    """Questions over sources of a thousand words each; other ones for each seed."""
    rng = random.Random(seed)
    words = [f"word{rng.randrange(10**6)}" for _ in range(4000)]
    made = []
    for index in range(number):
        sentences = (" ".join(rng.sample(words, 12)).capitalize() + "." for _ in range(80))
        made.append(
            Question(
                id=f"q{seed}.{index}",
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


def bare_call() -> Callable[[], Awaitable[None]]:
    """A call of the simulated engine with nothing around it."""
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

    return call


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


async def whole(
    made: list[Question],
    concurrency: int,
    path: Path,
    transactions: TransactionSettings = AS_THEY_COME,
) -> None:
    """Debates with everything in."""
    engine = Simulated()
    specs = {
        Role.DEBATER: AgentSpec(agent="debater", settings={"reasoning": False}),
        Role.JUDGE: AgentSpec(agent="judge"),
    }
    agents = {role: build_agent(spec, engine) for role, spec in specs.items()}
    protocol = protocols.parse(PROTOCOL, name="nine_calls", where="benchmark")
    async with Cast(agents, specs, {"simulated": engine}) as actors:
        with Store.open(str(path), transactions=transactions) as store:
            planned = plan(made, [protocol], actors.specs)
            progress = await run_debates(planned, Runtime(store, actors), concurrency=concurrency)
            assert progress.done == len(made), progress.failures[:1]
            counts = store.counts()
            assert counts["turns"] == len(made) * (NUM_CALLS - 1), counts


ROOMS = {
    "langgraph": "LangGraph",
    "langchain_core": "LangGraph",
    "oversight/graphs": "graphs: nodes, views",
    "oversight/agents": "agents: prompts, calls",
    "oversight/text/prompts": "agents: prompts, calls",
    "oversight/text": "quotes and thoughts",
    "oversight/store": "store: rows encoded",
    "oversight/types": "records: checked, hashed",
    "pydantic": "records: checked, hashed",
    "benchmarks": "the simulated engine",
    "asyncio": "asyncio",
}
"""Parts of the program by the beginning of a module's path; the first that fits counts."""
WRITER = "store: the writer's thread"
OTHER = "other"
SAMPLE_S = 0.001


class Rooms:
    """Shares of CPU time by part of the program, from a sample each millisecond.

    A sample goes to the innermost function on the main thread's stack that belongs to a part;
    what the process spent beside its main thread is the writer's. It ends with the `with` block.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._seen = (0.0, 0.0)

    def __enter__(self) -> Self:
        self._seen = (time.thread_time(), time.process_time())
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, SAMPLE_S, SAMPLE_S)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0.0)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        main, whole = time.thread_time(), time.process_time()
        own = main - self._seen[0]
        self.seconds[WRITER] += whole - self._seen[1] - own
        self._seen = (main, whole)
        while frame is not None and (room := _room(frame.f_code.co_filename)) is None:
            frame = frame.f_back
        self.seconds[OTHER if frame is None else room or OTHER] += own


@cache
def _room(path: str) -> str | None:
    """The part of the program that a file belongs to; None where its caller's counts."""
    inner = path.partition("site-packages/")[2] or path.partition("lib/python")[2].partition("/")[2]
    if not inner:
        inner = str(Path(path).resolve().relative_to(ROOT)) if ROOT in Path(path).parents else path
        inner = f"oversight/{inner}" if inner.partition("/")[0] in LINKED else inner
    return next((room for start, room in ROOMS.items() if inner.startswith(start)), None)


ROOT = Path(__file__).resolve().parents[1]
LINKED = ("agents", "graphs")


def cpu_ms_a_turn(num_debates: int, run: Awaitable[None]) -> float:
    """Milliseconds of process CPU time a turn, of all threads."""
    gc.collect()
    before = time.process_time()
    asyncio.run(run)  # type: ignore[arg-type]
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
    call = bare_call()

    with tempfile.TemporaryDirectory() as folder:
        fresh = count(1)

        async def ours(transactions: TransactionSettings = AS_THEY_COME) -> None:
            seed = next(fresh)
            made = prepared.pop() if prepared else questions(number, seed)
            await whole(made, concurrency, Path(folder, f"{seed}.db"), transactions)

        prepared = [questions(20, 0)]
        asyncio.run(ours())
        if options.memory_debates:
            made = questions(options.memory_debates, next(fresh))
            show_memory(made, concurrency, Path(folder, "memory.db"))
            del made
        rows: dict[str, Callable[[], Awaitable[None]]] = {
            "bare asyncio": lambda: bare_asyncio(number, concurrency, call),
            "bare LangGraph": lambda: bare_langgraph(number, concurrency, call),
            "oversight, all in": ours,
            "oversight, batch": lambda: ours(BATCH),
        }
        print(
            f"{number} debates of {NUM_CALLS} calls, {1000 * LATENCY_S:.0f} ms a call, "
            f"{concurrency} debates in flight; process CPU, {options.repeats} interleaved runs "
            f"each\n(batch: transactions of {BATCH.writes} writes, or of {BATCH.wait_s} s)"
        )
        spent: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(options.repeats):
            for name, run in rows.items():
                prepared = [questions(number, next(fresh))]
                spent[name].append(cpu_ms_a_turn(number, run()))
        for name, times in spent.items():
            bar = f"   (bar: {BARS_MS[name]} ms)" if name in BARS_MS else ""
            print(
                f"  {name:18} {min(times):6.3f} ms a turn at best, median {median(times):6.3f}{bar}"
            )
        show_rooms(number, rows["oversight, all in"])


def show_rooms(num_debates: int, run: Callable[[], Awaitable[None]]) -> None:
    """Print in which parts of the program the time is spent, the largest first."""
    gc.collect()
    with Rooms() as rooms:
        asyncio.run(run())  # type: ignore[arg-type]
    print("where the time of all in goes (sampled, which costs a little itself)")
    total = sum(rooms.seconds.values())
    for name, seconds in sorted(rooms.seconds.items(), key=itemgetter(1), reverse=True):
        each = 1000 * seconds / (num_debates * NUM_CALLS)
        print(f"  {name:28} {each:6.3f} ms a turn {seconds / total:5.0%}")


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
