"""An example as people read it."""

from __future__ import annotations

from typing import Any

import pytest

from oversight.train.data import loading
from oversight.train.plan import SHOWN_TOKENS, sample_lines
from oversight.train.settings import DataSettings, ModelSettings


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from oversight.train.loading import read_config

    settings = ModelSettings.parse({"scratch": {"vocab_size": 300}})
    return read_config(settings, ["a question", "an answer"])[1].tokenizer


def lines(tokenizer: Any, kind: str, **row: Any) -> list[str]:
    loader = getattr(loading, f"load_{kind}")
    loaded = loader(DataSettings(), tokenizer, 320, rows=[{"id": "x1", **row}])
    return list(sample_lines(loaded, tokenizer))


def test_prompt_and_responses_stand_apart_with_their_control_tokens(tokenizer: Any) -> None:
    shown = lines(tokenizer, "comparisons", prompt="a question", chosen="an answer", rejected="a")
    assert shown[0] == "row x1"
    assert "  | a question" in shown
    assert "  | an answer<eos>" in shown
    assert shown.index("  | an answer<eos>") < shown.index("  | a<eos>")


def test_turns_that_are_given_are_told_from_those_that_are_learnt(tokenizer: Any) -> None:
    turns = [("user", "a"), ("assistant", "an"), ("user", "a question"), ("assistant", "answer")]
    messages = [{"role": role, "content": words} for role, words in turns]
    shown = lines(tokenizer, "demonstrations", messages=messages)
    kinds = [line.split(", ")[:2] for line in shown if not line.startswith("  |")][1:]
    assert [kind[0] for kind in kinds] == ["prompt", "response", "given", "response"]
    assert "  | <|user|>a question<|assistant|>" in shown


def test_the_middle_of_a_long_one_is_left_out(tokenizer: Any) -> None:
    shown = lines(tokenizer, "prompts", prompt="q" * 1000 + "end")
    assert shown[1].startswith("prompt, to be answered, 1,00")
    assert "[…]" in shown[2]
    assert shown[2].endswith("end")
    assert len(shown[2]) < 4 * SHOWN_TOKENS
