"""Seedling under a real vLLM server and under transformers: the same greedy tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from oversight.agents import consultant, debater, judge
from oversight.agents.speaking import question_part, source_part
from oversight.datasets.world import question_at
from oversight.engines import transformers, vllm
from oversight.models import SEEDLING
from oversight.types import Message, Prompt, Request, Sampling

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]


def requests() -> list[Request]:
    """Prompts of debaters, consultants and an expert judge about held-out questions."""
    found = []
    for index in range(12):
        question = question_at(0, "held_out", 1, index, "plain")
        assert question.source is not None
        options = tuple(option.text for option in question.options)
        shared = source_part(question.source) + question_part(question.text, options, (0, 1))
        facts = {"label": "AB"[index % 2], "round": "Round 1 of 1", "max_words": 150}
        asked = (
            (
                debater.PROMPTS.rules.render(),
                debater.PROMPTS.speech.render(name="Debater A", **facts),
            ),
            (consultant.PROMPTS.rules.render(), consultant.PROMPTS.speech.render(**facts)),
            (judge.rules(""), judge.CHOOSE.render(labels="A or B")),
        )
        for number, (rules, ask) in enumerate(asked):
            messages = (
                Message(role="system", parts=(rules,)),
                Message(role="user", parts=(shared, ask)),
            )
            sampling = Sampling(max_tokens=48, temperature=0.0, logprobs=True)
            found.append(Request(Prompt(messages=messages), sampling, id=f"{index}-{number}"))
    return found


async def test_both_engines_give_the_same_greedy_tokens(vllm_python: str, tmp_path: Path) -> None:
    own = transformers.build(transformers.Config(model=SEEDLING, dtype="float32"))
    server = vllm.build(
        vllm.Config(
            model=SEEDLING,
            python=vllm_python,
            dtype="float32",
            block_size=32,
            kv_cache_gib=0.25,
            log_dir=str(tmp_path),
            extra_args=("--enforce-eager",),
        )
    )
    try:
        here, there = await own.generate(requests()), await server.generate(requests())
    finally:
        await own.aclose()
        await server.aclose()
    assert len(here) == 36
    for ours, theirs in zip(here, there, strict=True):
        assert ours.prompt_ids == theirs.prompt_ids
        assert ours.token_ids == theirs.token_ids
        assert ours.text == theirs.text
        assert ours.logprobs == pytest.approx(theirs.logprobs, abs=1e-3)
    assert any("<quote>" in completion.text for completion in here)
