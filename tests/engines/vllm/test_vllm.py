"""One real vLLM server on the CPU, compared with transformers on the same weights."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from oversight.engines.vllm import Config, VllmEngine, build
from oversight.errors import EngineRefusedError
from oversight.types import FinishReason, Message, Prompt, Request, Sampling

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(300),
    pytest.mark.asyncio(loop_scope="module"),
]

QUESTIONS = (
    "Which answer is right, A or B?",
    "Where was the key at noon?",
    "x",
    "Naïve “quotes”, 東京 and 🙂.",
    "The judge reads the transcript, the quotes and both sides before it decides.",
    "<|user|> is text here?",
)

LONG = {"max_tokens": 900, "choices": ("never ending " * 120,)}
"""For requests that must not be over by themselves too soon: a second or two of work."""

NUM_TRIES = 8
"""Cancelling is a race, which a server that keeps both cores busy may win now and then."""


def prompt(text: str, system: str = "You are a careful judge.") -> Prompt:
    return Prompt(
        messages=(Message(role="system", parts=(system,)), Message(role="user", parts=(text,)))
    )


def ask(text: str, route: str = "", id: str = "", **sampling: Any) -> Request:
    return Request(prompt(text), Sampling(**sampling), id=id, route=route)


class Reference:
    """The same model in transformers, float32."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def prompt_ids(self, request: Request) -> tuple[int, ...]:
        ids = self.tokenizer.apply_chat_template(
            request.prompt.chat(), add_generation_prompt=True, return_dict=False
        )
        return tuple(ids)

    def greedy(self, prompt_ids: Sequence[int], num: int) -> tuple[int, ...]:
        ids = self.torch.tensor([prompt_ids])
        out = self.model.generate(
            ids, attention_mask=self.torch.ones_like(ids), max_new_tokens=num, do_sample=False
        )
        return tuple(out[0, len(prompt_ids) :].tolist())

    def logits_TV(self, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> Any:
        """Logits that each of `token_ids` was chosen by."""
        with self.torch.no_grad():
            out = self.model(self.torch.tensor([[*prompt_ids, *token_ids]])).logits[0]
        return out[len(prompt_ids) - 1 : -1].float()

    def id_of(self, text: str) -> int:
        (token_id,) = self.tokenizer.encode(text, add_special_tokens=False)
        return int(token_id)


@pytest.fixture
def collected() -> Iterator[None]:
    """Collect garbage at the end: httpcore forgets expired connections in closing them if the task
    that does so is cancelled, and leaves them to the collector."""
    yield
    gc.collect()


def cancels(test: Any) -> Any:
    """Marks a test that cancels requests."""
    lenient = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
    return pytest.mark.usefixtures("collected")(lenient(test))


@pytest.fixture(scope="module")
def reference(tiny_model: Path) -> Reference:
    return Reference(tiny_model)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tiny_model: Path, vllm_python: str) -> AsyncIterator[VllmEngine]:
    engine = build(
        Config(
            model=str(tiny_model),
            python=vllm_python,
            dtype="float32",
            max_model_len=1024,
            block_size=32,
            kv_cache_gib=0.25,
            extra_args=("--enforce-eager",),
        )
    )
    progress: list[str] = []
    engine.on_progress = progress.append
    try:
        await engine.start()
        assert progress[-1].startswith("vllm replica 0 ready after")
        assert any("starting" in line for line in progress)
        yield engine
    finally:
        await engine.aclose()


async def begin(engine: VllmEngine, requests: list[Request]) -> asyncio.Task[Any]:
    """Requests that have just begun, over connections that were there before."""
    await engine.generate([ask("warm", max_tokens=1) for _ in requests])
    task = asyncio.create_task(engine.generate(requests))
    await asyncio.sleep(0.05)
    return task


async def is_idle(engine: VllmEngine) -> bool:
    """Waits until the server has nothing to do; False if it is still busy after about 30 s."""
    for _ in range(300):
        (metrics,) = await engine.metrics()
        if metrics.num_requests_running == metrics.num_requests_waiting == 0:
            return True
        await asyncio.sleep(0.1)
    return False


async def test_a_batch_comes_back_in_its_order_with_exact_ids(engine, reference):
    requests = [
        ask(f"{text} ({n})", id=f"{n}-{text[:3]}", max_tokens=6, temperature=0.0)
        for n in range(6)
        for text in QUESTIONS
    ]
    completions = await engine.generate(requests)
    for request, completion in zip(requests, completions, strict=True):
        assert completion.request_id == request.id
        assert completion.prompt_ids == reference.prompt_ids(request)
        assert completion.usage.prompt_tokens == len(completion.prompt_ids)
        assert completion.usage.completion_tokens == len(completion.token_ids) <= 6
        assert (completion.engine, completion.model) == ("vllm", engine.model)
        assert completion.logprobs is None
        assert completion.seconds > 0


async def test_greedy_tokens_and_log_probabilities_equal_those_of_transformers(engine, reference):
    requests = [ask(text, max_tokens=24, temperature=0.0, logprobs=True) for text in QUESTIONS]
    for completion in await engine.generate(requests):
        expected = reference.greedy(completion.prompt_ids, 24)
        assert completion.token_ids == expected
        logits_TV = reference.logits_TV(completion.prompt_ids, completion.token_ids)
        logps_TV = logits_TV.log_softmax(-1)
        chosen = logps_TV[range(len(expected)), list(expected)].tolist()
        assert completion.logprobs == pytest.approx(chosen, abs=1e-4)
        ended = expected[-1] == reference.tokenizer.eos_token_id
        assert completion.finish_reason is (FinishReason.STOP if ended else FinishReason.LENGTH)


async def test_the_end_of_sequence_token_is_part_of_the_token_ids(engine, reference):
    requests = [ask(f"end? {n}", max_tokens=400, seed=n) for n in range(16)]
    ended = [c for c in await engine.generate(requests) if c.finish_reason is FinishReason.STOP]
    assert ended
    for completion in ended:
        assert completion.token_ids[-1] == reference.tokenizer.eos_token_id
        body = reference.tokenizer.decode(completion.token_ids[:-1], skip_special_tokens=True)
        # Bytes at the very end that are no whole character are in the ids only.
        assert completion.text == body.rstrip("\ufffd")


async def test_sampled_log_probabilities_are_those_of_the_distribution_sampled_from(
    engine, reference
):
    temperature, top_p = 0.7, 0.8
    requests = [
        ask(text, max_tokens=16, temperature=temperature, top_p=top_p, logprobs=True, seed=3)
        for text in QUESTIONS
    ]
    for completion in await engine.generate(requests):
        logits_TV = reference.logits_TV(completion.prompt_ids, completion.token_ids)
        probs_TV = (logits_TV / temperature).softmax(-1)
        for position, token_id in enumerate(completion.token_ids):
            sorted_probs, order = probs_TV[position].sort(descending=True)
            before = sorted_probs.cumsum(-1) - sorted_probs
            nucleus = sorted_probs * (before < top_p)
            expected = (nucleus / nucleus.sum())[order == token_id].log().item()
            assert completion.logprobs[position] == pytest.approx(expected, abs=2e-4)


async def test_the_same_seed_samples_the_same_tokens(engine):
    first, again, other = await engine.generate(
        [ask("Debate!", max_tokens=24, seed=seed) for seed in (7, 7, 8)]
    )
    assert first.token_ids == again.token_ids
    assert first.token_ids != other.token_ids


async def test_streamed_pieces_sum_to_the_text_and_the_last_chunk_has_the_ids(engine, reference):
    request = ask("Where was the key at noon?", max_tokens=40, temperature=0.0, id="s")
    (whole,) = await engine.generate([request])
    chunks = [chunk async for chunk in engine.stream(request)]
    assert len(chunks) > 5
    assert all(chunk.completion is None for chunk in chunks[:-1])
    completion = chunks[-1].completion
    assert "".join(chunk.text for chunk in chunks) == completion.text == whole.text
    assert completion.token_ids == whole.token_ids
    assert completion.prompt_ids == reference.prompt_ids(request)
    assert (completion.request_id, completion.engine) == ("s", "vllm")


async def test_a_stop_text_ends_the_completion(engine):
    (whole,) = await engine.generate([ask("x", max_tokens=40, temperature=0.0)])
    stop = whole.text[10:12]
    (cut,) = await engine.generate([ask("x", max_tokens=40, temperature=0.0, stop=(stop,))])
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason is FinishReason.STOP


# --- choices -------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.5])
async def test_a_choice_gives_its_masked_probability_and_the_mass_before_the_mask(
    engine, reference, temperature
):
    choices, a, b = ("A", "B"), reference.id_of("A"), reference.id_of("B")
    requests = [
        ask(
            text,
            max_tokens=8,
            temperature=temperature,
            choices=choices,
            logprobs=True,
            top_logprobs=20,
        )
        for text in QUESTIONS
    ]
    num_with_options = 0
    for completion in await engine.generate(requests):
        assert completion.text in choices
        logits_V = reference.logits_TV(completion.prompt_ids, [a])[0]
        masked = (logits_V[[a, b]] / (temperature or 1.0)).log_softmax(-1).tolist()
        assert completion.logprobs[0] == pytest.approx(
            masked[choices.index(completion.text)], abs=1e-4
        )
        assert len(completion.logprobs) == len(completion.token_ids)
        (top,) = completion.top
        free = logits_V.log_softmax(-1)
        likeliest = free.topk(20).values.tolist()
        assert [value for _, value in top[:20]] == pytest.approx(likeliest, abs=1e-4)
        seen = dict(top)
        if "A" in seen or "B" in seen:
            num_with_options += 1
            assert seen["A"] == pytest.approx(free[a].item(), abs=1e-4)
            assert seen["B"] == pytest.approx(free[b].item(), abs=1e-4)
            assert math.exp(seen["A"]) + math.exp(seen["B"]) < 1.0
    assert num_with_options, "no prompt put an option among the likeliest tokens"


async def test_choices_of_several_tokens_are_given_word_for_word(engine):
    choices = ("the key was in the kitchen", "the key was in the garden", "Nobody knows — 東京")
    requests = [ask(f"{n}", max_tokens=64, choices=choices, seed=n) for n in range(8)]
    texts = {completion.text for completion in await engine.generate(requests)}
    assert texts <= set(choices)
    assert len(texts) > 1


async def test_a_streamed_choice_carries_the_unmasked_alternatives_as_well(engine):
    request = ask("A or B?", max_tokens=8, choices=("A", "B"), top_logprobs=5, id="c")
    chunks = [chunk async for chunk in engine.stream(request)]
    completion = chunks[-1].completion
    assert completion.text in ("A", "B")
    assert completion.request_id == "c"
    assert len(completion.top) == 1
    assert len(completion.top[0]) >= 5


# --- cancelling ----------------------------------------------------------------


@cancels
async def test_a_stream_cancelled_in_the_middle_keeps_what_it_has(engine, reference):
    request = ask("Speak without end.", id="long", **LONG)
    for _ in range(NUM_TRIES):
        pieces, completion = [], None
        async for chunk in engine.stream(request):
            pieces.append(chunk.text)
            completion = chunk.completion
            if len(pieces) == 3:
                await engine.cancel("long")
        if completion.finish_reason is FinishReason.CANCELLED:
            break
    assert completion.finish_reason is FinishReason.CANCELLED
    assert completion.text == "".join(pieces)
    assert 3 <= len(completion.token_ids) < 900
    assert completion.prompt_ids == reference.prompt_ids(request)
    assert await is_idle(engine)


@cancels
async def test_cancelling_one_request_of_a_batch_leaves_the_others(engine):
    requests = [ask(f"n {n}", id=f"r{n}", **LONG) for n in range(3)]
    for _ in range(NUM_TRIES):
        batch = await begin(engine, requests)
        await engine.cancel("r1")
        reasons = [completion.finish_reason for completion in await batch]
        if reasons[1] is FinishReason.CANCELLED:
            break
    assert reasons == [FinishReason.LENGTH, FinishReason.CANCELLED, FinishReason.LENGTH]


@cancels
async def test_cancelling_the_awaiting_task_frees_the_server(engine):
    requests = [ask(f"many {n}", **LONG) for n in range(8)]
    for _ in range(NUM_TRIES):
        task = await begin(engine, requests)
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            break
    assert task.cancelled()
    assert await is_idle(engine)


async def test_cancelling_what_is_not_in_flight_does_nothing(engine):
    await engine.cancel("no such request")


# --- cache, limits, sharing ----------------------------------------------------


async def test_a_prompt_that_grows_on_one_route_is_served_from_the_prefix_cache(engine):
    source = " ".join(
        f"At {hour} o'clock the key was in room {hour * 7 % 13}." for hour in range(9)
    )
    (before,) = await engine.metrics()
    (first,) = await engine.generate([ask(source, route="d1", max_tokens=2)])
    (second,) = await engine.generate([ask(source + " And then?", route="d1", max_tokens=2)])
    (after,) = await engine.metrics()
    assert first.usage.cached_tokens < 64
    num_shared = sum(a == b for a, b in zip(first.prompt_ids, second.prompt_ids, strict=False))
    assert second.usage.cached_tokens >= num_shared // 32 * 32 - 32 > 128
    assert after.prefix_cache_hits - before.prefix_cache_hits == (
        first.usage.cached_tokens + second.usage.cached_tokens
    )
    assert after.prefix_cache_queries - before.prefix_cache_queries == (
        first.usage.prompt_tokens + second.usage.prompt_tokens
    )
    assert 0 < after.prefix_cache_hit_rate < 1
    assert after.prompt_tokens > before.prompt_tokens
    assert after.generation_tokens - before.generation_tokens == 4
    assert after.kv_cache_usage == 0


async def test_a_prompt_beyond_the_context_is_refused_and_the_server_goes_on(engine):
    with pytest.raises(EngineRefusedError, match="'too-long'"):
        await engine.generate([ask("word " * 3000, id="too-long")])
    (completion,) = await engine.generate([ask("x", max_tokens=1)])
    assert len(completion.token_ids) == 1


async def test_hundreds_of_requests_at_once_all_come_back(engine):
    requests = [ask(f"request {n}", max_tokens=4, id=str(n)) for n in range(300)]
    completions = await engine.generate(requests)
    assert [completion.request_id for completion in completions] == [r.id for r in requests]


async def test_an_empty_batch_is_no_request(engine):
    assert await engine.generate([]) == []


async def test_seeded_requests_with_prompts_too_long_for_one_step_do_not_end_the_server(engine):
    requests = [ask(f"{n} " + "word " * 240, max_tokens=3, seed=n) for n in range(24)]
    completions = await engine.generate(requests)
    assert all(completion.usage.prompt_tokens > 240 for completion in completions)
    assert [len(completion.token_ids) for completion in completions] == [3] * 24
