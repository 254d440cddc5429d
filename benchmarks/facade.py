"""Cost of the façade: the same debates by `ov.debate` and by the graphs directly, in turns.

Debates of the built-in protocol over the scripted engine, each question with a source of a thousand
words, in a store of their own: process CPU seconds from the questions in memory to the last
record. Both sides plan, run and store the very same debates (their ids are compared); the façade
also checks settings, records the run and gives transcripts.

    python benchmarks/facade.py

Bar: the façade adds less than 5 %. Other work on the same cores raises CPU times too, so the two
alternate, which of them is first changes from pair to pair, and the median of the ratios of all
pairs counts; its range is printed beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from platform import python_version
from statistics import median

import oversight as ov
from oversight import protocols
from oversight.config import RunSettings
from oversight.graphs.planning import cast, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.store import Store
from oversight.types import Option, Question, Source

BAR = 0.05
PROTOCOL = "debate"
SEED = 0
CONCURRENCY = 32
SCRIPT = {
    "engine": "scripted",
    "settings": {
        "fallback": "The text says so: <quote>word1</quote>. The other side leaves that out.",
        "beliefs": {"A": 0.8, "B": 0.2},
    },
}
AGENTS = {
    "debater": {"agent": "debater", "engine": "script", "settings": {"reasoning": False}},
    "judge": {"agent": "judge", "engine": "script"},
}


def questions(number: int, seed: int) -> list[Question]:
    """Questions over sources of a thousand words each; other ones for each seed."""
    rng = random.Random(seed)
    made = []
    for index in range(number):
        words = " ".join(f"word{rng.randrange(10**4)}" for _ in range(1000))
        made.append(
            Question(
                id=f"q{seed}.{index}",
                dataset="benchmark",
                text=f"Which of the two holds in case {index}?",
                options=(Option(text=f"the first of {index}"), Option(text="the second")),
                correct=0,
                source=Source(text=words),
            )
        )
    return made


def by_facade(made: Sequence[Question], store: Path) -> set[str]:
    """Ids of the debates on these questions, run as a notebook would."""
    found = ov.debate(
        made,
        protocol=PROTOCOL,
        debater=AGENTS["debater"],
        judge=AGENTS["judge"],
        engines={"script": SCRIPT},
        store=str(store),
        seed=SEED,
        concurrency=CONCURRENCY,
        progress=False,
    )
    assert not found.failures, found.failures[:1]
    return set(found.ids)


def by_graphs(made: Sequence[Question], store: Path) -> set[str]:
    """Ids of the debates on these questions, run by the functions that run all of them."""

    async def go() -> set[str]:
        given = {
            "dataset": {"dataset": "in memory"},
            "agents": AGENTS,
            "engines": {"script": SCRIPT},
        }
        settings = RunSettings.parse(given)
        actors = cast(settings.cast(), settings.engines)
        async with actors:
            with Store.open(str(store)) as opened:
                planned = list(plan(made, [protocols.load(PROTOCOL)], actors.specs, seed=SEED))
                done = await run_debates(
                    planned, Runtime(opened, actors), concurrency=CONCURRENCY, total=len(planned)
                )
                assert not done.failures, done.failures[:1]
                return {debate.id for debate, _ in planned}

    return asyncio.run(go())


WAYS: dict[str, Callable[[Sequence[Question], Path], set[str]]] = {
    "graphs": by_graphs,
    "façade": by_facade,
}


def cpu_s(way: str, made: Sequence[Question]) -> tuple[float, set[str]]:
    """Process CPU seconds of one run in a new store, all threads together; and its debates."""
    with tempfile.TemporaryDirectory() as folder:
        gc.collect()
        begun = time.process_time()
        ids = WAYS[way](made, Path(folder) / "debates.db")
        return time.process_time() - begun, ids


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--debates", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=9)
    args = parser.parse_args()
    versions = ", ".join(f"{each} {metadata.version(each)}" for each in ("oversight", "langgraph"))
    print(
        f"command   python benchmarks/facade.py --debates {args.debates} --pairs {args.pairs}    "
        f"(Python {python_version()}, {versions}; load {os.getloadavg()[0]:.1f} on "
        f"{os.cpu_count()} cores)"
    )
    for way in WAYS:  # modules are imported, prompts compiled
        cpu_s(way, questions(4, seed=10**6))
    ratios, taken = [], {way: list[float]() for way in WAYS}
    for pair in range(args.pairs):
        made = questions(args.debates, seed=pair)
        order = list(WAYS) if pair % 2 else list(reversed(WAYS))
        found = {way: cpu_s(way, made) for way in order}
        assert found["graphs"][1] == found["façade"][1], "they are not the same debates"
        for way, (seconds, _) in found.items():
            taken[way].append(seconds)
        ratios.append(found["façade"][0] / found["graphs"][0])
    for way, each in taken.items():
        print(f"  {way}  {min(each):.3f} s at best, median {median(each):.3f}")
    added = median(ratios) - 1.0
    best = min(taken["façade"]) / min(taken["graphs"]) - 1.0
    state = "" if added < BAR else ", missed"
    low, high = min(ratios) - 1.0, max(ratios) - 1.0
    print(
        f"the façade adds {added:+.1%} in the median of {args.pairs} pairs of {args.debates} "
        f"debates ({low:+.1%} to {high:+.1%}; {best:+.1%} between the best of each)   "
        f"(bar: {BAR:.0%}{state})"
    )


if __name__ == "__main__":
    main()
