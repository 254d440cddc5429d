"""A real vLLM server whose chat template opens a thought."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from oversight.engines import openai
from oversight.engines.vllm import Config, build
from oversight.types import Message, Prompt, Request, Sampling

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400)]

OPENS = (
    "{% if add_generation_prompt and (enable_thinking is not defined or enable_thinking) %}"
    "<think>\n{% endif %}"
)


@pytest.fixture(scope="module")
def opening(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose template opens a thought unless it is told not to."""
    folder = tmp_path_factory.mktemp("models") / "opening"
    shutil.copytree(tiny_model, folder)
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + OPENS)
    return folder


def ask() -> Request:
    prompt = Prompt(messages=(Message(role="user", parts=("Where?",)),))
    return Request(prompt, Sampling(max_tokens=6, seed=1, logprobs=True), id="r")


async def test_the_prompt_of_a_real_server_tells_that_an_answer_is_a_thought(
    opening: Path, vllm_python: str
) -> None:
    engine = build(
        Config(
            model=str(opening),
            python=vllm_python,
            dtype="float32",
            max_model_len=512,
            block_size=32,
            kv_cache_gib=0.25,
            extra_args=("--enforce-eager",),
        )
    )
    try:
        [thought] = await engine.generate([ask()])
        settings = {"base_url": engine.urls[0], "model": str(opening), "dialect": "vllm"}
        plain = openai.build(openai.Config.parse({**settings, "enable_thinking": False}))
        [said] = await plain.generate([ask()])
        await plain.aclose()
    finally:
        await engine.aclose()

    assert thought.finish_reason == said.finish_reason == "length"
    assert (thought.opened, said.opened) == (True, False)
    assert thought.prompt_ids[: len(said.prompt_ids)] == said.prompt_ids
    assert len(thought.prompt_ids) > len(said.prompt_ids)
    assert len(thought.token_ids) == 6
