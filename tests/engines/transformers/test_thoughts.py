"""Thoughts of models in this process: special tokens that mark them, prompts that open them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from oversight.agents import build_agent
from oversight.chat.answers import AnswerDecoder
from oversight.engines import open_engine
from oversight.engines.transformers import Config
from oversight.errors import ConfigError, NoAnswerError
from oversight.text.thoughts import divide
from oversight.types import (
    Act,
    AgentSpec,
    EngineSpec,
    Message,
    NoAnswer,
    Orders,
    Prompt,
    Request,
    Role,
    Sampling,
    Seat,
    View,
)


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
    text = AnswerDecoder(tokenizer).text(ids)

    assert text == "[THINK]a secret[/THINK]The key."
    assert divide(text).text == "The key."


def test_without_such_tokens_text_is_decoded_as_ever(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    ids = tokenizer.encode("<|user|>The key “is” here.<|end|>", add_special_tokens=False)

    assert AnswerDecoder(tokenizer).text(ids) == tokenizer.decode(ids, skip_special_tokens=True)


async def test_a_model_that_never_ends_the_thought_of_its_prompt_has_said_nothing(
    opening: Path,
) -> None:
    settings = {"reasoning": False, "max_tokens": 6, "attempts": 2}
    engine = open_engine(EngineSpec(engine="transformers", settings={"model": str(opening)}))
    agent = build_agent(AgentSpec(agent="debater", settings=settings), engine)
    heard: list[str] = []
    try:
        with pytest.raises(NoAnswerError, match="in 2 attempts") as raised:
            await agent.act(speaking(heard.append))
    finally:
        await engine.aclose()

    assert raised.value.cause == NoAnswer.THOUGHT_CUT
    assert heard == []


def speaking(emit: Callable[[str], None]) -> View:
    """A debater's view."""
    return View(
        debate_id="d",
        question="Where is the key?",
        options=("here", "there"),
        orders=Orders(options=(0, 1), defends=(0, 1), shown=(Seat.A, Seat.B)),
        source=None,
        turns=(),
        seat=Seat.A,
        role=Role.DEBATER,
        act=Act.SPEAK,
        step=0,
        round=1,
        num_rounds=1,
        max_words=50,
        seed=3,
        side=0,
        emit=emit,
    )


@pytest.mark.parametrize("name", ["template_args", "enable_thinking"])
async def test_the_value_reaches_the_prompt_of_an_answer_and_of_scored_choices(
    opening: Path, name: str
) -> None:
    settings = {"template_args": {"enable_thinking": False}, "enable_thinking": False}
    asked = [ask(), replace(ask(), sampling=Sampling(choices=("A", "B"), seed=1))]
    found = []
    for given in ({}, {name: settings[name]}):
        spec = EngineSpec(engine="transformers", settings={"model": str(opening), **given})
        engine = open_engine(spec)
        try:
            found.append([each.prompt_ids for each in await engine.generate(asked)])
        finally:
            await engine.aclose()
    thinking, silent = found
    assert thinking[0] == thinking[1]
    assert silent[0] == silent[1] == thinking[0][: len(silent[0])]
    assert len(silent[0]) < len(thinking[0])


async def test_training_reads_the_prompt_that_the_engine_sampled_from(opening: Path) -> None:
    from transformers import AutoTokenizer

    from oversight.train.data.encoding import Renderer
    from oversight.train.settings import DataSettings

    given = {"template_args": {"enable_thinking": False}}
    engine = open_engine(
        EngineSpec(engine="transformers", settings={"model": str(opening), **given})
    )
    try:
        [completion] = await engine.generate([ask()])
    finally:
        await engine.aclose()
    tokenizer = AutoTokenizer.from_pretrained(opening)
    for settings, same in ((given, True), ({}, False)):
        renderer = Renderer(tokenizer, DataSettings.parse(settings, where="data"))
        ids = renderer.prompt(ask().prompt.messages)
        assert (tuple(ids.tolist()) == completion.prompt_ids) is same


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"template_args": {"tokenize": True}}, "tokenize is set for each prompt"),
        (
            {"template_args": {"enable_thinking": True}, "enable_thinking": False},
            "set one of them",
        ),
    ],
)
def test_values_that_are_not_free_to_give_are_refused(
    tiny_model: Path, given: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.parse({"model": str(tiny_model), **given}, where="engine")


def test_training_refuses_values_that_are_not_free_to_give() -> None:
    from oversight.train.settings import DataSettings

    given = {"template_args": {"add_generation_prompt": False}}
    with pytest.raises(ConfigError, match="add_generation_prompt is set for each prompt"):
        DataSettings.parse(given, where="data")
