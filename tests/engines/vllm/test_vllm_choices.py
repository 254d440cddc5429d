from __future__ import annotations

import math

import pytest

from oversight.engines.vllm.settings import first_token_request, unmasked_top
from oversight.types import (
    Completion,
    FinishReason,
    Message,
    Prompt,
    Request,
    Sampling,
    Usage,
)

MODEL = {"x": 0.5, "A": 0.3, "y": 0.15, "B": 0.05}
"""The probability that the model gives to each first token; `A` and `B` are the options."""


def completion(top: dict[str, float]) -> Completion:
    pairs = tuple((text, math.log(p)) for text, p in top.items())
    return Completion("r", "", (1,), (2,), FinishReason.STOP, Usage(), "e", "m", 0.0, top=(pairs,))


def masked(temperature: float) -> Completion:
    weights = {text: MODEL[text] ** (1 / temperature) for text in ("A", "B")}
    return completion({text: weight / sum(weights.values()) for text, weight in weights.items()})


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_an_option_below_the_likeliest_tokens_is_put_at_its_exact_place(temperature):
    free = completion({text: MODEL[text] for text in ("x", "A", "y")})
    top = dict(unmasked_top(free, masked(temperature), temperature))
    assert {text: math.exp(value) for text, value in top.items()} == pytest.approx(MODEL)


def test_without_a_token_in_common_the_options_are_left_out():
    free = completion({"x": 0.5, "y": 0.15})
    assert dict(unmasked_top(free, masked(1.0), 1.0)).keys() == {"x", "y"}


def test_tokens_without_a_text_of_their_own_are_not_matched():
    free = completion({"": 0.6, "A": 0.3})
    constrained = completion({"": 0.9, "\ufffd": 0.05, "A": 0.05})
    assert unmasked_top(free, constrained, 1.0) == free.top[0]


def test_nothing_to_compare_with_is_no_error():
    free = completion(MODEL)
    bare = Completion("r", "", (1,), (2,), FinishReason.STOP, Usage(), "e", "m", 0.0)
    assert unmasked_top(free, bare, 1.0) == free.top[0]
    assert unmasked_top(bare, free, 1.0) == ()


def test_the_second_request_is_the_same_prompt_on_the_same_route_without_the_constraint():
    prompt = Prompt(messages=(Message(role="user", parts=("q",)),))
    sampling = Sampling(choices=("A", "B"), top_logprobs=7, temperature=0.3, stop=("x",), seed=1)
    free = first_token_request(Request(prompt, sampling, id="i", route="r"))
    assert free.prompt is prompt
    assert (free.id, free.route) == ("i", "r")
    assert free.sampling == Sampling(max_tokens=1, temperature=0.0, logprobs=True, top_logprobs=7)
