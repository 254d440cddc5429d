"""Cost of a batch job beside the model's own time: critique and revision of many prompts.

Prompts are read from a file one after the other, answered, criticised by a principle and revised
over a simulated engine (no latency), with everything in: graph, prompts, defects, durable store.
Process CPU a call, as it comes and with large transactions, beside a turn of bare LangGraph (see
orchestration.py) in the same run; and the memory of a job of 1,000 prompts beside one of many more.

    python benchmarks/jobs.py
    python benchmarks/jobs.py --most 100000        # as the bar says; an hour or so

Bars: at most 1.0 ms of CPU a call, 0.3 ms with large transactions, where a turn of bare LangGraph
takes 0.25 ms; memory grows by less than 50 MB from the small job to the large one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any
from zlib import crc32

import psutil
from orchestration import bare_call, bare_langgraph, cpu_ms_a_turn

from oversight import protocols
from oversight.config import (
    AgentSettings,
    DatasetSettings,
    EngineSettings,
    TransactionSettings,
)
from oversight.datasets.base import stream_questions
from oversight.graphs.planning import cast, plan
from oversight.graphs.running import DebateProgress, run_debates
from oversight.graphs.runtime import Runtime
from oversight.store import Store
from oversight.types import (
    Capabilities,
    Chunk,
    Completion,
    EngineSpec,
    FinishReason,
    Request,
    Role,
    Usage,
)

CHARS_A_TOKEN = 4
IDS = tuple(range(200_000))
LOGPROBS = (-0.75,) * 2_000
BAR_MS, BAR_BATCH_MS, BAR_MB = 1.0, 0.3, 50.0
PEER_MS = 0.25
"""A turn of bare LangGraph on the machine that the bars are of."""
FEW = 1_000
IN_FLIGHT = 256
WARM_UP = 50
BATCH = TransactionSettings(writes=4096, wait_s=0.25)
CALLS_A_PROMPT = 4
"""Answer, critique, revision, and the critique that finds no fault."""


class Simulated:
    """An engine that answers at once, at no cost of its own."""

    name = model = "simulated"
    capabilities = Capabilities(logprobs=True, choices=True)

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion a request."""
        await asyncio.sleep(0)
        return [self._complete(request) for request in requests]

    def _complete(self, request: Request) -> Completion:
        messages = request.prompt.messages
        seed = crc32(f"{request.route} {len(messages)} {len(messages[-1].parts)}".encode())
        if messages[0].role == "system" and len(messages[-1].parts) > 4:
            text = "NOTHING TO CHANGE"
        else:
            text = f"Case {seed}: " + "put it where it stood before, and say so plainly. " * 12
        num_prompt = sum(len(part) for m in messages for part in m.parts) // CHARS_A_TOKEN
        num_tokens = max(1, len(text) // CHARS_A_TOKEN)
        start = seed % (len(IDS) // 2)
        return Completion(
            request_id=request.id,
            text=text,
            prompt_ids=IDS[start : start + num_prompt],
            token_ids=IDS[:num_tokens],
            finish_reason=FinishReason.STOP,
            usage=Usage(prompt_tokens=num_prompt, completion_tokens=num_tokens),
            engine=self.name,
            model=self.model,
            seconds=0.0,
            logprobs=LOGPROBS[:num_tokens],
        )

    def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """Nothing here is live."""
        raise AssertionError(request)

    async def cancel(self, request_id: str) -> None:
        """Nothing is cancelled here."""

    async def aclose(self) -> None:
        """Holds nothing."""


def opened(spec: EngineSpec) -> Any:
    """The simulated engine in place of the one described."""
    return Simulated()


def run(num_prompts: int, batch: bool) -> dict[str, float]:
    """One job in this process: CPU a call, and the memory that it came to take.

    A small job goes before it, so that what is loaded once in a process counts to no call.
    """
    job(WARM_UP, batch)
    return job(num_prompts, batch)


def job(num_prompts: int, batch: bool) -> dict[str, float]:
    """CPU a call, and the memory that was taken, of one job."""
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "asked.txt"
        with asked.open("w", encoding="utf-8") as file:
            for index in range(num_prompts):
                file.write(f"Case {index}: where does the thing of number {index * 7} belong?\n")
        spec = DatasetSettings(dataset="prompts", settings={"path": str(asked)})
        agents = {
            Role.RESPONDER: AgentSettings(agent="responder", engine="e"),
            Role.CRITIC: AgentSettings(
                agent="critic",
                engine="e",
                settings={
                    "constitution": "harmlessness",
                    "num_principles": 1,
                    "reasoning": False,
                },
            ),
        }
        actors = cast(agents, {"e": EngineSettings(engine="scripted")}, opened)
        process, most = psutil.Process(), 0.0
        begin = process.memory_info().rss

        def look(progress: DebateProgress) -> None:
            nonlocal most
            if progress.done % 250 == 0:
                most = max(most, process.memory_info().rss - begin)

        transactions = {"transactions": BATCH} if batch else {}
        with Store.open(Path(folder) / "job.db", **transactions) as store:
            start = time.process_time()
            planned = plan(stream_questions(spec), [protocols.load("constitutional")], actors.specs)
            done = asyncio.run(
                run_debates(
                    planned, Runtime(store, actors), concurrency=IN_FLIGHT, on_progress=look
                )
            )
        cpu = time.process_time() - start
    assert done.done == num_prompts, done
    return {"ms": 1e3 * cpu / (num_prompts * CALLS_A_PROMPT), "mb": most / 1e6}


def peer(num_debates: int) -> dict[str, float]:
    """CPU a turn of bare LangGraph with as many calls in flight."""
    for number in (WARM_UP, num_debates):
        cpu = cpu_ms_a_turn(number, bare_langgraph(number, IN_FLIGHT, bare_call()))
    return {"ms": cpu}


def measured(num_prompts: int, *kind: str) -> dict[str, float]:
    """The same in a process of its own."""
    words = [sys.executable, __file__, "--one", str(num_prompts), *kind]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(found.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Read the command line and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--most", type=int, default=10_000, help="prompts of the large job")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    kind = parser.add_mutually_exclusive_group()
    for name in ("--batch", "--each", "--peer"):
        kind.add_argument(name, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        one = arguments.one
        print(json.dumps(peer(one) if arguments.peer else run(one, arguments.batch)))
        return
    kinds = {"bare LangGraph": "--peer", "as it comes": "--each", "large transactions": "--batch"}
    bars = {"as it comes": BAR_MS, "large transactions": BAR_BATCH_MS}
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(arguments.repeats):
        for name, kind in kinds.items():
            times[name].append(measured(FEW, kind)["ms"])
    beside = min(times["bare LangGraph"])
    for name, found in times.items():
        share = (
            f": {min(found) / beside:.2f} of it   (bar: {bars[name]} ms beside {PEER_MS}: "
            f"{bars[name] / PEER_MS:.1f})"
            if name in bars
            else ""
        )
        print(
            f"{name:<20} {min(found):.3f} ms of CPU a call at best, median {median(found):.3f}"
            + share
        )
    small, large = measured(FEW, "--batch")["mb"], measured(arguments.most, "--batch")["mb"]
    print(
        f"memory               {small:.0f} MB over {FEW:,} prompts, {large:.0f} MB over "
        f"{arguments.most:,}: {large - small:+.0f} MB   (bar: {BAR_MB:.0f} MB)"
    )


if __name__ == "__main__":
    main()
