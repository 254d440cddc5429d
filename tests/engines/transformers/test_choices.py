"""Answers constrained to given strings, by the model's own probabilities of each."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from oversight.types import FinishReason

CHOICES = ("A", "B", "Yes, the key was in the kitchen", "neither", "Yes")


def sequence_logprobs(model, prompt_ids, token_ids):  # type: ignore[no-untyped-def]
    ids = torch.tensor([[*prompt_ids, *token_ids]])
    with torch.inference_mode():
        logps = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0].float(), -1)
    start = len(prompt_ids) - 1
    return [float(logps[start + i, token]) for i, token in enumerate(token_ids)]


async def choice_ids(engine, ask, choices, content):  # type: ignore[no-untyped-def]
    """Token ids of each choice, from asking for it alone."""
    found = {}
    for choice in choices:
        (completion,) = await engine.generate([ask(content, choices=(choice,))])
        assert completion.text == choice
        found[choice] = completion.token_ids
    return found


@pytest.mark.parametrize(
    "architecture", ["llama", "gpt2", "mistral", "gemma3_text", "bloom", "mamba"]
)
async def test_the_likeliest_choice_is_taken_with_its_own_log_probabilities(
    architecture, model_folder, make_engine, ask, reference
):
    folder = model_folder(architecture)
    engine = make_engine(folder)
    content = "Which answer is right? " * 3
    ids = await choice_ids(engine, ask, CHOICES, content)
    (completion,) = await engine.generate(
        [ask(content, choices=CHOICES, temperature=0, logprobs=True)]
    )
    scores = {
        choice: sequence_logprobs(reference(folder), completion.prompt_ids, ids[choice])
        for choice in CHOICES
    }
    best = max(CHOICES, key=lambda choice: sum(scores[choice]))
    assert completion.text == best
    assert completion.token_ids == ids[best]
    assert completion.logprobs == pytest.approx(scores[best], abs=1e-5)
    assert completion.finish_reason is FinishReason.STOP
    assert completion.usage.completion_tokens == len(ids[best])


async def test_choices_are_drawn_by_the_renormalised_distribution(
    engine, ask, tiny_model, reference
):
    choices, n, temperature = ("A", "Yes, it is", "No"), 250, 2.0
    ids = await choice_ids(engine, ask, choices, "q")
    completions = await engine.generate(
        [ask("q", choices=choices, temperature=temperature, seed=i) for i in range(n)]
    )
    prompt_ids = completions[0].prompt_ids
    weights = [
        math.exp(sum(sequence_logprobs(reference(tiny_model), prompt_ids, ids[c])) / temperature)
        for c in choices
    ]
    counts = Counter(completion.text for completion in completions)
    for choice, weight in zip(choices, weights, strict=True):
        prob = weight / sum(weights)
        assert counts[choice] / n == pytest.approx(prob, abs=4 * math.sqrt(prob * (1 - prob) / n))


async def test_all_choices_are_scored_in_one_pass(engine, ask):
    await engine.generate([ask("load")])
    before = engine.work()["num_passes"]
    await engine.generate([ask("which one?", choices=CHOICES)])
    assert engine.work()["num_passes"] == before + 2


async def test_choices_beside_other_requests_disturb_nothing(engine, ask):
    talk = [ask("go on " * i, temperature=0, max_tokens=12, logprobs=True) for i in range(1, 4)]
    judge = [ask("q" * i, temperature=0, choices=CHOICES, logprobs=True) for i in range(1, 4)]
    apart = [*await engine.generate(talk), *await engine.generate(judge)]
    mixed = [request for pair in zip(talk, judge, strict=True) for request in pair]
    together = await engine.generate(mixed)
    for alone, other in zip(apart, together[::2] + together[1::2], strict=True):
        assert alone.token_ids == other.token_ids
        assert alone.logprobs == pytest.approx(other.logprobs, abs=1e-5)


async def test_the_captured_mass_can_be_read_from_the_first_place(
    engine, ask, tiny_model, reference
):
    (completion,) = await engine.generate(
        [ask("A or B?", choices=("A", "B"), logprobs=True, top_logprobs=5, temperature=0)]
    )
    (first,) = completion.top
    assert len(first) in (5, 6, 7)
    top = dict(first)
    assert {"A", "B"} <= top.keys()
    assert top[completion.text] == pytest.approx(completion.logprobs[0], abs=1e-6)
    ids = await choice_ids(engine, ask, ("A", "B"), "A or B?")
    for choice in "AB":
        (own,) = sequence_logprobs(reference(tiny_model), completion.prompt_ids, ids[choice])
        assert top[choice] == pytest.approx(own, abs=1e-5)


async def test_a_choice_that_looks_like_a_control_token_is_text(engine, ask):
    (completion,) = await engine.generate([ask("q", choices=("<|end|>",))])
    assert completion.text == "<|end|>"
    assert len(completion.token_ids) > 1


async def test_a_streamed_choice_is_one_piece(engine, ask):
    chunks = [chunk async for chunk in engine.stream(ask("q", choices=("A", "B"), seed=1))]
    assert "".join(chunk.text for chunk in chunks) == chunks[-1].completion.text
