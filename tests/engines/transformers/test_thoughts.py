"""Thoughts of models in this process: special tokens that mark them, prompts that open them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from oversight.engines.base import open_engine
from oversight.engines.transformers import Config
from oversight.engines.transformers.intake import _decoder
from oversight.text.thoughts import divide
from oversight.types import EngineSpec, Message, Prompt, Request, Sampling


@pytest.fixture(scope="module")
def opening(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose template opens a thought unless it is told not to."""
    folder = tmp_path_factory.mktemp("models") / "opening"
    shutil.copytree(tiny_model, folder)
    template = folder / "chat_template.jinja"
    template.write_text(
        template.read_text()
        + "{% if add_generation_prompt and (enable_thinking is not defined or enable_thinking) %}"
        "<think>\n{% endif %}"
    )
    return folder


def ask() -> Request:
    prompt = Prompt(messages=(Message(role="user", parts=("Where?",)),))
    return Request(prompt, Sampling(max_tokens=5, seed=1, temperature=0.0), id="r")


@pytest.mark.parametrize("settings", [{}, {"enable_thinking": False}])
async def test_a_completion_says_whether_its_prompt_opened_a_thought(
    opening: Path, settings: dict[str, bool]
) -> None:
    spec = EngineSpec(engine="transformers", settings={"model": str(opening), **settings})
    engine = open_engine(spec)
    try:
        [completion] = await engine.generate([ask()])
        chunks = [chunk async for chunk in engine.stream(ask())]
    finally:
        await engine.aclose()

    assert completion.opened is not bool(settings)
    assert {chunk.opened for chunk in chunks if chunk.text} <= {completion.opened}
    assert chunks[-1].completion is not None
    assert chunks[-1].completion.opened is completion.opened


def test_the_setting_leaves_a_debate_its_id_unless_it_is_used(tiny_model: Path) -> None:
    given = Config(model=str(tiny_model)).identity()

    assert "enable_thinking" not in given
    assert Config(model=str(tiny_model), enable_thinking=False).identity() == {
        **given,
        "enable_thinking": False,
    }


def test_special_tokens_that_mark_a_thought_are_written_and_no_others(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    marks = ["[THINK]", "[/THINK]", "<|START_THINKING|>", "<|channel|>"]
    tokenizer.add_special_tokens({"extra_special_tokens": marks})
    ids = tokenizer.encode(
        "[THINK]a secret[/THINK]The key.<|pad|><|end|>", add_special_tokens=False
    )
    text = _decoder(tokenizer)(ids)

    assert text == "[THINK]a secret[/THINK]The key."
    assert divide(text).text == "The key."


def test_without_such_tokens_text_is_decoded_as_ever(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ids = tokenizer.encode("<|user|>The key “is” here.<|end|>", add_special_tokens=False)

    assert _decoder(tokenizer)(ids) == tokenizer.decode(ids, skip_special_tokens=True)
