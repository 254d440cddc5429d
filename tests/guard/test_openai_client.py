"""The real openai package in front of the guard, unchanged."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("re2", reason="google-re2 is not installed")

from tests.guard.conftest import Start

openai = pytest.importorskip("openai", reason="openai is not installed")

POLICY = """
[checks.bad]
check = "words"
action = "refuse"
settings = { words = ["forbidden"] }

[checks.key]
check = "secrets"
action = "replace"
replacement = "[a key]"
"""
KEY = "AKIAIOSFODNN7EXAMPLE"
HELLO: list[Any] = [{"role": "user", "content": "Hello?"}]


def client_of(url: str, key: str = "none") -> Any:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


async def test_a_whole_answer_comes_with_what_the_upstream_said(guarded: Start) -> None:
    guard = await guarded(POLICY)
    async with client_of(guard.url) as client:
        answer = await client.chat.completions.create(model="sim", messages=HELLO)
    assert answer.choices[0].message.content == "Hello there."
    assert answer.usage.total_tokens == 7
    assert answer.id == f"chatcmpl-{guard.calls[0].id}"


async def test_a_stream_is_the_same_words_as_the_whole(guarded: Start) -> None:
    guard = await guarded(POLICY)
    guard.upstream.words = [*"The key is ", *KEY, *(" and more is to be said about it" * 9)]
    async with client_of(guard.url) as client:
        whole = await client.chat.completions.create(model="sim", messages=HELLO)
        stream = await client.chat.completions.create(model="sim", messages=HELLO, stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(pieces) == whole.choices[0].message.content
    assert "".join(pieces) == "The key is [a key]" + " and more is to be said about it" * 9
    assert len(pieces) > 3


async def test_a_stream_stops_before_the_first_character(guarded: Start) -> None:
    guard = await guarded(POLICY)
    guard.upstream.words = ["This is for", "bid", "den knowledge ", "and more of it."]
    async with client_of(guard.url) as client:
        stream = await client.chat.completions.create(model="sim", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said.startswith("This is \n\nI have to stop here.")
    assert "forbidden" not in said
    assert chunks[-1].choices[0].finish_reason == "content_filter"
    assert guard.calls[0].outcome.value == "refused"


async def test_several_choices_are_checked_apart(guarded: Start) -> None:
    guard = await guarded(POLICY)

    def choices(_: Any) -> list[dict[str, Any]]:
        texts = ["Fine.", "This is forbidden.", f"A {KEY} here."]
        return [
            {
                "index": n,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
            for n, text in enumerate(texts)
        ]

    guard.upstream.choices = choices
    async with client_of(guard.url) as client:
        answer = await client.chat.completions.create(model="sim", messages=HELLO, n=3)
        said = [each.message.content for each in answer.choices]
        assert said[0] == "Fine."
        assert said[1].startswith("This is \n\nI have to stop here.")
        assert said[2] == "A [a key] here."
        guard.upstream.words = ["One ", "word."]
        stream = await client.chat.completions.create(model="sim", messages=HELLO, n=3, stream=True)
        by_index: dict[int, str] = {}
        async for chunk in stream:
            for each in chunk.choices:
                by_index[each.index] = by_index.get(each.index, "") + (each.delta.content or "")
    assert by_index == dict.fromkeys(range(3), "One word.")


async def test_tool_calls_come_whole_and_are_checked(guarded: Start) -> None:
    guard = await guarded(POLICY)
    pieces = ['{"key": "', KEY[:7], KEY[7:], '"}']
    first = {"index": 0, "id": "c1", "type": "function"}
    deltas: list[dict[str, Any]] = [
        {"tool_calls": [{**first, "function": {"name": "look", "arguments": ""}}]},
        *({"tool_calls": [{"index": 0, "function": {"arguments": each}}]} for each in pieces),
    ]
    guard.upstream.events = [
        {"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None},
        *({"index": 0, "delta": each, "finish_reason": None} for each in deltas),
        {"index": 0, "delta": {}, "finish_reason": "tool_calls"},
    ]
    tools: list[Any] = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    async with client_of(guard.url) as client:
        stream = await client.chat.completions.create(
            model="sim", messages=HELLO, tools=tools, stream=True
        )
        chunks = [chunk async for chunk in stream]
    calls = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or ()]
    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == [
        ("c1", "look", '{"key": "[a key]"}')
    ]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert guard.upstream.bodies[0]["tools"] == tools


async def test_logprobs_come_with_their_words_alone(guarded: Start) -> None:
    guard = await guarded(POLICY)
    tokens = ["A ", "key: ", KEY[:10], KEY[10:], ", that is it, and more words behind."]
    guard.upstream.events = [
        {
            "index": 0,
            "delta": {"content": token},
            "logprobs": {"content": [{"token": token, "logprob": -0.5, "top_logprobs": []}]},
            "finish_reason": None,
        }
        for token in tokens
    ] + [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    async with client_of(guard.url) as client:
        stream = await client.chat.completions.create(
            model="sim", messages=HELLO, logprobs=True, stream=True
        )
        chunks = [chunk async for chunk in stream]
    sent = [
        entry.token
        for chunk in chunks
        if chunk.choices[0].logprobs
        for entry in chunk.choices[0].logprobs.content
    ]
    assert sent == [tokens[0], tokens[1], tokens[4]]


async def test_a_cancelled_stream_ends_the_upstreams_work(guarded: Start) -> None:
    guard = await guarded(POLICY)
    guard.upstream.words = ["A long word and then another. "] * 500
    guard.upstream.pause_s = 0.01
    async with client_of(guard.url) as client:
        stream = await client.chat.completions.create(model="sim", messages=HELLO, stream=True)
        async for _ in stream:
            break
        await stream.close()
    for _ in range(200):
        if guard.calls and not guard.upstream.num_open:
            break
        await asyncio.sleep(0.02)
    assert guard.calls[0].outcome.value == "cancelled"
    assert guard.upstream.num_open == 0
    assert guard.counted() == {"begun": 1.0, "cancelled": 1.0}


async def test_errors_have_the_apis_shape(guarded: Start) -> None:
    guard = await guarded(POLICY, keys=("a-key-of-sixteen-or-more",))
    async with client_of(guard.url) as client:
        with pytest.raises(openai.AuthenticationError, match="the key is missing or wrong"):
            await client.chat.completions.create(model="sim", messages=HELLO)
    async with client_of(guard.url, "a-key-of-sixteen-or-more") as client:
        with pytest.raises(openai.NotFoundError) as raised:
            await client.chat.completions.create(model="sin", messages=HELLO)
        assert raised.value.code == "model_not_found"
        assert "Did you mean 'sim'?" in str(raised.value)
        with pytest.raises(openai.BadRequestError, match=r"messages\.0\.role = 'wizard'"):
            await client.chat.completions.create(
                model="sim", messages=[{"role": "wizard", "content": "x"}]
            )
        assert [each.id async for each in client.models.list()] == ["sim"]
        guard.upstream.breaks_after = 2
        stream = await client.chat.completions.create(model="sim", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match="ended in its middle"):
            async for _ in stream:
                pass


async def test_completions_are_checked_in_both_forms(guarded: Start) -> None:
    guard = await guarded(POLICY)
    guard.upstream.words = ["A text ", "with ", KEY, " in it."]
    async with client_of(guard.url) as client:
        whole = await client.completions.create(model="sim", prompt="Go on: ")
        stream = await client.completions.create(model="sim", prompt="Go on: ", stream=True)
        said = "".join([chunk.choices[0].text async for chunk in stream])
    assert said == whole.choices[0].text == "A text with [a key] in it."
