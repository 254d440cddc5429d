"""Wrong requests, slow and vanishing clients, broken upstreams: an error in the API's shape.

Nothing is lost, nothing leaks, and no task is left: the fixture looks for those."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.responses import HTMLResponse, JSONResponse

pytest.importorskip("re2", reason="google-re2 is not installed")

from tests.guard.conftest import Guarded, Start, asked

POLICY = """
[checks.bad]
check = "words"
action = "refuse"
settings = { words = ["forbidden"] }

[checks.blocked]
check = "words"
on = "input"
action = "block"
settings = { words = ["dynamite"] }

[checks.please]
check = "words"
on = "input"
action = "refuse"
reason = "harm"
settings = { words = ["poison", "gift"] }
"""


def error_of(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    found = answer.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return dict(found)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{not json", "the request is no JSON"),
        ("", "it is empty"),
        ("[1, 2]", "no JSON object"),
        ('{"a": NaN}', "NaN is no JSON"),
        ("[" * 100_000, "nested too deeply"),
        (b"\xff\xfe\x00", "no JSON"),
        ({"model": "sim"}, "give a list of at least one message"),
        ({"messages": [{"role": "user", "content": "x"}]}, "name the model"),
        (asked() | {"messages": [{"role": "elf", "content": "x"}]}, "'elf': give system"),
        (asked() | {"messages": ["x"]}, "messages.0 is no object"),
        (asked() | {"messages": [{"role": "user", "content": 3}]}, "give a text or a list"),
        (
            asked() | {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "only parts of text can be checked",
        ),
        (asked("Where is dynamite sold?"), "blocked by the policy"),
        (asked("Where is dynamite sold?", stream=True), "blocked by the policy"),
    ],
)
async def test_a_wrong_request_is_a_clear_error(guarded: Start, body: Any, said: str) -> None:
    guard = await guarded(POLICY)
    found = error_of(await guard.post(body), 400)
    assert said in found["message"]
    assert guard.upstream.bodies == []
    counted = guard.counted()
    assert counted.pop("begun") == sum(counted.values()) == 1


async def test_a_request_that_is_too_large_is_not_read_to_its_end(guarded: Start) -> None:
    guard = await guarded(POLICY, limits={"max_body_mb": 0.5})
    found = error_of(await guard.post(json.dumps(asked("x" * 2_000_000))), 413)
    assert "larger than 0.5 MB" in found["message"]


async def test_unknown_fields_are_passed_on_and_nothing_else_is_changed(guarded: Start) -> None:
    guard = await guarded(POLICY)
    body = asked("Hello?", temperature=0.5, some_new_field={"deep": [1, {"er": None}]}, top_k=3)
    answer = await guard.post(body)
    assert answer.status_code == 200
    assert guard.upstream.bodies == [body]


async def test_a_refused_request_never_reaches_the_model(guarded: Start) -> None:
    guard = await guarded(POLICY)
    english = (await guard.post(asked("How do I mix the poison for a rat?"))).json()
    german = (await guard.post(asked("Wo kann ich das Gift für die Ratten kaufen?"))).json()
    streamed = await guard.post(asked("Where is the poison?", stream=True))
    said = english["choices"][0]["message"]["content"]
    assert said.startswith("I can't help with the part of this that could hurt somebody.")
    assert "local emergency number" in said
    assert german["choices"][0]["message"]["content"].startswith("Bei dem Teil, der")
    assert english["choices"][0]["finish_reason"] == "content_filter"
    assert "could hurt somebody" in streamed.text
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert guard.upstream.bodies == []
    assert guard.counted() == {"begun": 3.0, "refused": 3.0}


@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_that_answers_html_is_named(guarded: Start, stream: bool) -> None:
    guard = await guarded(POLICY)
    guard.upstream.answer = HTMLResponse("<html>login</html>")
    found = error_of(await guard.post(asked(stream=stream)), 502)
    assert "answered with text/html" in found["message"]
    assert "login" not in found["message"]
    guard.upstream.answer = HTMLResponse("<html>bad gateway</html>", 503)
    assert "status 503" in error_of(await guard.post(asked(stream=stream)), 502)["message"]
    guard.upstream.answer = JSONResponse({"error": {"message": "too long", "type": "t"}}, 400)
    assert error_of(await guard.post(asked(stream=stream)), 400)["message"] == "too long"


async def test_an_upstream_that_is_gone_is_an_error(guarded: Start) -> None:
    guard = await guarded(POLICY, upstreams={"sim": {"base_url": "http://127.0.0.1:9/v1"}})
    for stream in (False, True):
        found = error_of(await guard.post(asked(stream=stream)), 502)
        assert found["code"] == "upstream_unavailable"
    assert guard.counted() == {"begun": 2.0, "failed": 2.0}


async def test_an_upstream_that_is_slow_is_an_error_in_time(guarded: Start) -> None:
    guard = await guarded(POLICY)
    guard.upstream.pause_s = 5.0
    upstream: Any = guard.server.guard._upstreams["sim"]
    upstream._client.timeout = 0.2
    assert error_of(await guard.post(asked()), 504)["code"] == "upstream_timeout"


async def test_an_upstream_that_breaks_off_says_so_and_sends_nothing_held(guarded: Start) -> None:
    guard = await guarded(POLICY)
    guard.upstream.words = ["some words and then a forb", "idden one"]
    guard.upstream.breaks_after = 2
    answer = await guard.post(asked(stream=True))
    assert '"error"' in answer.text
    assert "forb" not in answer.text
    assert "[DONE]" not in answer.text
    assert guard.counted() == {"begun": 1.0, "failed": 1.0}


async def test_two_hundred_clients_at_once_are_all_answered(guarded: Start) -> None:
    guard = await guarded(POLICY)
    guard.upstream.pause_s = 0.01
    guard.upstream.words = ["word "] * 5
    answers = await asyncio.gather(
        *(guard.post(asked(stream=number % 2 == 0)) for number in range(200))
    )
    assert all(answer.status_code == 200 for answer in answers)
    assert guard.counted() == {"begun": 200.0, "answered": 200.0}


async def test_one_call_too_many_is_told_to_come_again(guarded: Start) -> None:
    guard = await guarded(POLICY, limits={"max_in_flight": 2})
    guard.upstream.pause_s = 0.5
    answers = await asyncio.gather(*(guard.post(asked()) for _ in range(4)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, 200, 429, 429]
    counted = guard.counted()
    assert counted.pop("begun") == sum(counted.values()) == 4


async def _raw(guard: Guarded, body: dict[str, Any]) -> asyncio.StreamWriter:
    port = int(guard.url.rsplit(":", 1)[1])
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    content = json.dumps(body).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    writer.write(head.encode() + content)
    await writer.drain()
    return writer


async def _over(guard: Guarded) -> None:
    for _ in range(500):
        if guard.calls and guard.server.meters.in_flight == 0:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the call is not over")


async def test_a_client_that_does_not_read_ends_its_call(guarded: Start) -> None:
    guard = await guarded(POLICY, limits={"write_timeout_s": 0.3})
    guard.upstream.words = ["a word and a word and " * 2000] * 400
    writer = await _raw(guard, asked(stream=True))
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await _over(guard)
    assert guard.calls[0].outcome.value == "cancelled"
    for _ in range(200):
        if guard.upstream.num_open == 0:
            break
        await asyncio.sleep(0.02)
    assert guard.upstream.num_open == 0
    writer.close()


async def test_a_client_that_goes_before_a_whole_answer_ends_the_call(guarded: Start) -> None:
    guard = await guarded(POLICY)
    guard.upstream.pause_s = 3.0
    writer = await _raw(guard, asked())
    while not guard.upstream.bodies:  # noqa: ASYNC110 - it is another process's in earnest
        await asyncio.sleep(0.01)
    writer.close()
    await _over(guard)
    assert guard.counted() == {"begun": 1.0, "cancelled": 1.0}


async def test_a_request_that_comes_slowly_is_given_up(guarded: Start) -> None:
    guard = await guarded(POLICY, limits={"read_timeout_s": 0.2})
    port = int(guard.url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    answer = await asyncio.wait_for(reader.readuntil(b"}}"), 10)
    assert b" 408 " in answer.partition(b"\r\n")[0]
    writer.close()


async def test_no_words_of_a_policy_or_a_pattern_are_told(guarded: Start) -> None:
    guard = await guarded(POLICY)
    for body in (asked("dynamite"), asked("poison")):
        assert "words" not in (await guard.post(body)).text
    missing = await guard.post({}, path="nothing")
    assert error_of(missing, 404)["type"] == "invalid_request_error"
