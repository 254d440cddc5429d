"""The contract of engines that run without a server; the vllm engine's tests ask a real one.

An engine is added by one line in `SETTINGS`: its name, and its settings from the fixtures.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from oversight import registry
from oversight.engines import open_engine
from oversight.errors import EngineError
from oversight.types import (
    Chunk,
    Completion,
    Engine,
    EngineSpec,
    FinishReason,
    Message,
    Prompt,
    Request,
    Sampling,
)

SETTINGS: dict[str, Callable[[pytest.FixtureRequest], dict[str, Any]]] = {
    "scripted": lambda fixtures: {"fallback": "An answer — with “quotes” and 🙂. " * 20},
    "transformers": lambda fixtures: {"model": str(fixtures.getfixturevalue("tiny_model"))},
}

NEEDS_A_SERVER = {"inspect", "langchain", "openai", "vllm"}


def test_every_engine_is_under_contract():
    assert set(registry.names("engines")) == set(SETTINGS) | NEEDS_A_SERVER


@pytest.fixture(params=sorted(SETTINGS))
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    settings = SETTINGS[request.param](request)
    opened = open_engine(EngineSpec(engine=request.param, settings=settings))
    yield opened
    await opened.aclose()


def ask(*texts: str, id: str = "r", **sampling: Any) -> Request:
    roles = ("system", "user") if len(texts) > 1 else ("user",)
    messages = tuple(
        Message(role=role, parts=(text,)) for role, text in zip(roles, texts, strict=True)
    )
    sampling = {"max_tokens": 12, "seed": 1} | sampling
    return Request(Prompt(messages=messages), Sampling(**sampling), id=id)


async def one(engine: Engine, request: Request) -> Completion:
    [completion] = await engine.generate([request])
    return completion


async def collected(chunks: AsyncIterator[Chunk]) -> list[Chunk]:
    return [chunk async for chunk in chunks]


def check(engine: Engine, request: Request, completion: Completion) -> None:
    """Asserts the properties that every completion has."""
    assert completion.request_id == request.id
    assert (completion.engine, completion.model) == (engine.name, engine.model)
    assert completion.prompt_ids
    assert completion.token_ids or completion.finish_reason is FinishReason.CANCELLED
    assert all(type(each) is int for each in completion.prompt_ids + completion.token_ids)
    assert len(completion.token_ids) <= request.sampling.max_tokens
    assert completion.usage.prompt_tokens == len(completion.prompt_ids)
    assert completion.usage.completion_tokens == len(completion.token_ids)
    assert completion.seconds >= 0.0
    assert (completion.logprobs is not None) == request.sampling.logprobs
    if completion.logprobs is not None:
        assert len(completion.logprobs) == len(completion.token_ids)
        assert all(math.isfinite(each) and each <= 0.0 for each in completion.logprobs)
    sampling = request.sampling  # an engine may add the choices to the likeliest tokens
    num_top = sampling.top_logprobs + len(sampling.choices)
    assert all(len(position) <= num_top for position in completion.top)


def test_it_is_an_engine_under_its_own_name(engine):
    assert isinstance(engine, Engine)
    assert engine.name in SETTINGS
    assert engine.model


async def test_answers_keep_the_order_of_the_requests(engine):
    requests = [
        ask(f"Question {index}?", id=f"r{index}", max_tokens=1 + index % 5) for index in range(12)
    ]
    answers = await engine.generate(requests)
    assert len(answers) == len(requests)
    for request, answer in zip(requests, answers, strict=True):
        check(engine, request, answer)
    assert len({answer.prompt_ids for answer in answers}) == len(requests)


async def test_no_requests_no_answers(engine):
    assert await engine.generate([]) == []


async def test_an_answer_is_the_same_with_the_same_seed(engine):
    first, second = [await one(engine, ask("S", "Well?", temperature=1.0)) for _ in range(2)]
    assert (first.text, first.token_ids) == (second.text, second.token_ids)
    assert first.prompt_ids == second.prompt_ids


async def test_an_answer_of_one_token_was_cut_off(engine):
    request = ask("Well?", max_tokens=1, temperature=0.0)
    answer = await one(engine, request)
    check(engine, request, answer)
    assert len(answer.token_ids) == 1
    assert answer.finish_reason is FinishReason.LENGTH


async def test_pieces_of_a_stream_add_up_to_the_text(engine):
    request = ask("S", "Well?", max_tokens=40, logprobs=True)
    chunks = await collected(engine.stream(request))
    assert all(chunk.completion is None for chunk in chunks[:-1])
    whole = chunks[-1].completion
    assert whole is not None
    check(engine, request, whole)
    assert "".join(chunk.text for chunk in chunks) == whole.text


async def test_a_stream_says_the_same_as_a_batch(engine):
    request = ask("Well?", temperature=0.0)
    streamed = (await collected(engine.stream(request)))[-1].completion
    answer = await one(engine, request)
    assert streamed is not None
    assert (streamed.text, streamed.token_ids) == (answer.text, answer.token_ids)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_a_choice_is_one_of_the_choices(engine, temperature):
    request = ask(
        "Which one?", choices=("A", "B"), temperature=temperature, logprobs=True, top_logprobs=5
    )
    answer = await one(engine, request)
    check(engine, request, answer)
    assert answer.text in ("A", "B")
    assert answer.top
    tokens = dict(answer.top[0])
    assert tokens
    assert math.fsum(math.exp(each) for each in tokens.values()) <= 1.0 + 1e-5


async def test_the_likeliest_tokens_come_first(engine):
    request = ask("Well?", logprobs=True, top_logprobs=3)
    answer = await one(engine, request)
    check(engine, request, answer)
    assert len(answer.top) == len(answer.token_ids)
    for position in answer.top:
        values = [value for _, value in position]
        assert values == sorted(values, reverse=True)


async def test_a_stop_string_is_not_in_the_text(engine):
    whole = await one(engine, ask("Well?", temperature=0.0, max_tokens=30))
    stop = whole.text[3:5]
    answer = await one(engine, ask("Well?", temperature=0.0, max_tokens=30, stop=(stop,)))
    assert stop not in answer.text
    assert answer.text == whole.text[: whole.text.index(stop)]
    assert answer.finish_reason is FinishReason.STOP


async def test_a_cancelled_stream_ends_with_what_was_passed_on(engine):
    request = ask("Go on.", id="live", max_tokens=400, temperature=0.0, logprobs=True)
    chunks = []
    async for chunk in engine.stream(request):
        chunks.append(chunk)
        await engine.cancel("live")
    whole = chunks[-1].completion
    assert whole is not None
    check(engine, request, whole)
    assert whole.text == "".join(chunk.text for chunk in chunks)
    assert whole.finish_reason is FinishReason.CANCELLED


async def test_cancelling_an_unknown_request_does_nothing(engine):
    await engine.cancel("nobody")


async def test_cancelling_the_task_leaves_the_engine_usable(engine):
    asking = asyncio.create_task(engine.generate([ask("Go on.", max_tokens=400)] * 3))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    check(engine, ask("And now?"), await one(engine, ask("And now?")))


async def test_a_closed_engine_refuses(engine):
    await engine.aclose()
    with pytest.raises(EngineError):
        await one(engine, ask("Anyone?"))


@pytest.mark.parametrize("text", [" ", "{{ 7 * 7 }} <|end|> \x1b[2J\u202e\x00", "日本🙂" * 50])
async def test_any_prompt_is_answered(engine, text):
    request = ask(text)
    check(engine, request, await one(engine, request))
