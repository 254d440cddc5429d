"""Whole debates by a real model with every kind of act, from prompts to preference rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oversight import protocols
from oversight.config import AgentSettings, EngineSettings
from oversight.datasets.base import load_questions
from oversight.graphs.planning import cast, plan
from oversight.graphs.running import run_debates
from oversight.graphs.runtime import Runtime
from oversight.preferences.building import preferences
from oversight.preferences.settings import PreferenceSettings
from oversight.store import Store
from oversight.types import BeliefMethod, Purpose, Role, Verdict

NAMES = ("debate_interactive", "debate_best_of_n", "consultancy", "critique", "naive", "expert")
SHORT = {"max_tokens": 12, "max_reasoning_tokens": 8}


async def run(engine: EngineSettings, store: Store) -> None:
    agents = {
        Role.DEBATER: AgentSettings(agent="debater", engine="model", settings=dict(SHORT)),
        Role.CONSULTANT: AgentSettings(agent="consultant", engine="model", settings=dict(SHORT)),
        Role.CRITIC: AgentSettings(agent="critic", engine="model", settings=dict(SHORT)),
        Role.JUDGE: AgentSettings(agent="judge", engine="model", settings={"max_tokens": 12}),
        Role.SCORER: AgentSettings(agent="lexical"),
    }
    questions = load_questions(("world", {"split": "held_out", "difficulty": 1}), limit=2).questions
    # A random judge may be unreadable, and candidates without a score make no rows.
    shorter = {"rounds": 1, "choose_by": Role.SCORER}
    chosen = [protocols.load(name).model_copy(update=shorter) for name in NAMES[:4]]
    chosen += [protocols.load(name) for name in NAMES[4:]]
    async with cast(agents, {"model": engine}) as actors:
        planned = list(plan(questions, chosen, actors.specs))
        progress = await run_debates(planned, Runtime(store, actors), concurrency=4)
    assert (progress.done, progress.failures) == (len(planned), [])


def check(store: Store, tokenizer: Any) -> None:
    assert store.check() == []
    for transcript in store.transcripts():
        final = transcript.judgments[0].final
        assert final.method is BeliefMethod.LOGPROBS
        # A server tells the twenty likeliest tokens, and a random model may rank both labels below.
        assert final.verdict is Verdict.INVALID or final.mass is not None
        samples = [s for turn in transcript.turns for s in turn.samples]
        samples += [s for judgment in transcript.judgments for s in judgment.samples]
        for sample in samples:
            assert sample.logprobs is not None
            assert len(sample.logprobs) == len(sample.token_ids) > 0
            record = store.prompt(sample.prompt_id)
            rendered = tokenizer.apply_chat_template(
                record.prompt.chat(), add_generation_prompt=True, tokenize=True, return_dict=False
            )
            assert list(record.token_ids) == rendered
        for turn in transcript.turns:
            if turn.act.is_spoken and turn.candidate == 0:
                # A model of random weights may say nothing, and is asked again.
                found = [s.purpose for s in turn.samples if s.purpose is not Purpose.UNANSWERED]
                assert found == [Purpose.REASONING, Purpose.SPEECH]
    rows = list(preferences(store.transcripts(), PreferenceSettings(), store.prompt))
    siblings = [row for row in rows if row.kind == "siblings"]
    assert siblings, "best-of-N candidates answer one prompt"
    for row in siblings:
        assert row.prompt_ids is not None
        assert all(response.token_ids for response in row.responses)
    purposes = {s.purpose for t in store.transcripts() for turn in t.turns for s in turn.samples}
    assert purposes - {Purpose.UNANSWERED} == set(Purpose) - {
        Purpose.ASSISTANCE,
        Purpose.UNANSWERED,
    }


async def test_debates_by_a_model_in_this_process(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    settings = {"model": str(tiny_model), "num_threads": 1}
    with Store.open(tmp_path / "debates.db") as store:
        await run(EngineSettings(engine="transformers", settings=settings), store)
        check(store, AutoTokenizer.from_pretrained(tiny_model))


@pytest.mark.vllm
@pytest.mark.timeout(400)
async def test_debates_by_a_model_behind_a_real_vllm_server(
    tiny_model: Path, tmp_path: Path, vllm_python: str
) -> None:
    from transformers import AutoTokenizer

    settings = {
        "model": str(tiny_model),
        "python": vllm_python,
        "dtype": "float32",
        "block_size": 32,
        "kv_cache_gib": 0.25,
        "extra_args": ["--enforce-eager"],
    }
    with Store.open(tmp_path / "debates.db") as store:
        await run(EngineSettings(engine="vllm", settings=settings), store)
        check(store, AutoTokenizer.from_pretrained(tiny_model))
