"""Greedy tokens and log-probabilities equal those of transformers itself."""

from __future__ import annotations

import asyncio
import logging

import pytest
import torch

from oversight.types import FinishReason

WORDS = "the key was in the kitchen at noon and the judge reads both sides before it decides "
LENGTHS = (1, 7, 200, 33, 90, 2)
BATCHED = ("llama", "gpt2", "qwen2", "mistral", "gemma3_text")
SINGLE = ("bloom", "mamba")


def plain_logprobs(model, prompt_ids, token_ids):  # type: ignore[no-untyped-def]
    """Log-probabilities of `token_ids` behind the prompt, by one pass without a cache."""
    ids = torch.tensor([[*prompt_ids, *token_ids]])
    with torch.inference_mode():
        logps = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0].float(), -1)
    start = len(prompt_ids) - 1
    return [float(logps[start + i, token]) for i, token in enumerate(token_ids)]


def generated(model, prompt_ids, max_tokens):  # type: ignore[no-untyped-def]
    """Token ids that `model.generate` adds to the prompt greedily, EOS included."""
    ids = torch.tensor([prompt_ids])
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_tokens,
        do_sample=False,
    )
    return tuple(output[0, len(prompt_ids) :].tolist())


@pytest.mark.parametrize("architecture", [*BATCHED, *SINGLE])
async def test_greedy_answers_of_mixed_lengths_equal_generate(
    architecture, model_folder, make_engine, ask, reference
):
    folder = model_folder(architecture)
    engine = make_engine(folder)
    prompts = [(WORDS * 9)[:length] for length in LENGTHS]
    requests = [ask(text, temperature=0, max_tokens=16, logprobs=True) for text in prompts]
    completions = await engine.generate(requests)
    for completion in completions:
        expected = generated(reference(folder), completion.prompt_ids, 16)
        assert completion.token_ids == expected
        again = plain_logprobs(reference(folder), completion.prompt_ids, completion.token_ids)
        assert completion.logprobs == pytest.approx(again, abs=1e-5)
        ended = completion.token_ids[-1] == reference(folder).config.eos_token_id
        assert completion.finish_reason is (FinishReason.STOP if ended else FinishReason.LENGTH)


@pytest.mark.parametrize("architecture", BATCHED)
async def test_models_with_ready_masks_run_in_one_batch(
    architecture, model_folder, make_engine, ask
):
    engine = make_engine(model_folder(architecture))
    await engine.generate([ask(f"{i}", temperature=0, max_tokens=8, seed=i) for i in range(8)])
    # One by one it would be 64 passes or a few less.
    assert engine.work()["num_passes"] <= 8 + 4


@pytest.mark.parametrize("architecture", SINGLE)
async def test_a_model_that_cannot_be_batched_says_so_and_runs(
    architecture, model_folder, make_engine, ask, caplog
):
    engine = make_engine(model_folder(architecture))
    with caplog.at_level(logging.WARNING):
        (completion,) = await engine.generate([ask("hello", max_tokens=3, seed=1)])
    assert len(completion.token_ids) <= 3
    assert "one at a time" in caplog.text


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3_text"])
async def test_sequences_that_join_and_leave_at_any_step_do_not_disturb_each_other(
    architecture, model_folder, make_engine, ask, reference
):
    folder = model_folder(architecture)
    engine = make_engine(folder, max_batch_size=3)

    async def later(i: int):  # type: ignore[no-untyped-def]
        await asyncio.sleep(0.004 * i)
        text = (WORDS * 9)[i : i + 1 + 40 * (i % 4)]
        request = ask(text, temperature=0, max_tokens=2 + 7 * (i % 3), logprobs=True)
        return (await engine.generate([request]))[0]

    await engine.generate([ask("load")])
    for completion in await asyncio.gather(*(later(i) for i in range(12))):
        expected = generated(reference(folder), completion.prompt_ids, len(completion.token_ids))
        assert completion.token_ids == expected
        again = plain_logprobs(reference(folder), completion.prompt_ids, completion.token_ids)
        assert completion.logprobs == pytest.approx(again, abs=1e-5)


async def test_long_prompts_are_computed_in_several_passes(tiny_model, make_engine, ask, reference):
    engine = make_engine(tiny_model)
    texts = [WORDS * 40, "short", WORDS[5:] * 37]
    for completion in await engine.generate(
        [ask(text, temperature=0, max_tokens=4, logprobs=True) for text in texts]
    ):
        assert completion.token_ids == generated(reference(tiny_model), completion.prompt_ids, 4)
    assert engine.work()["num_passes"] > 4
    assert engine.work()["num_padding"] < 0.25 * engine.work()["num_tokens"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
async def test_lower_precision_runs_batched_and_near_the_plain_pass(
    tiny_model, make_engine, ask, dtype
):
    from transformers import AutoModelForCausalLM

    engine = make_engine(tiny_model, dtype=dtype)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=dtype).eval()
    for completion in await engine.generate(
        [ask(WORDS[:i], temperature=0, max_tokens=8, logprobs=True) for i in (5, 30, 70)]
    ):
        again = plain_logprobs(model, completion.prompt_ids, completion.token_ids)
        assert completion.logprobs == pytest.approx(again, abs=0.15)
    assert engine.work()["num_passes"] <= 8 + 3


async def test_engines_that_load_at_once_get_the_weights_they_asked_for(
    tiny_model, make_engine, ask
):
    """transformers sets torch's default dtype for all threads while it reads a model."""
    dtypes = ["float32", "bfloat16", "float64"] * 4
    engines = [make_engine(tiny_model, dtype=dtype) for dtype in dtypes]
    done = await asyncio.gather(
        *(e.generate([ask("who?", max_tokens=4, temperature=0.0, logprobs=True)]) for e in engines)
    )
    found = {dtype: {d.logprobs for (d,) in done[i::3]} for i, dtype in enumerate(dtypes[:3])}
    assert [len(logprobs) for logprobs in found.values()] == [1, 1, 1]
