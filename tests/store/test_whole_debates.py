"""Whole debates recorded on each back end, through the same graphs."""

from __future__ import annotations

from oversight import protocols
from oversight.config import EMBEDDED_AGENTS
from oversight.datasets.base import load_questions
from oversight.graphs.planning import cast, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.store import Store

NAMES = ("debate_interactive", "debate_best_of_n", "consultancy", "expert")


async def test_debates_run_and_are_found_complete_on_each_back_end(url: str) -> None:
    questions = load_questions(("world", {"split": "held_out"}), limit=6).questions
    chosen = [protocols.load(name).model_copy(update={"swap": True}) for name in NAMES]
    async with cast(EMBEDDED_AGENTS, {}) as actors:
        debates = list(plan(questions, chosen, actors.specs))
        with Store.open(url) as store:
            first = await run_debates(debates, Runtime(store, actors), concurrency=8)
            assert (first.done, first.failures) == (24, [])
            again = await run_debates(debates, Runtime(store, actors), concurrency=8)
            assert (again.done, again.found) == (0, 24)
            assert store.check() == []
            for transcript in store.transcripts():
                assert sorted(j.swapped for j in transcript.judgments) == [False, True]
