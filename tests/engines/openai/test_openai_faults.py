"""Retries, time, and errors that say what to do."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from oversight.engines.openai import server as retrying
from oversight.engines.openai.failures import SHOWN_CHARS, SHOWN_MESSAGE_CHARS
from oversight.errors import (
    EngineError,
    EngineRefusedError,
    EngineTimeoutError,
    EngineUnavailableError,
)


async def collected(chunks):
    return [chunk async for chunk in chunks]


async def reset(exchange):
    exchange.reset()


async def reset_in_body(exchange):
    await exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
    await exchange.raw(b'content-length: 1000\r\n\r\n{"choices": [{"mess')
    await asyncio.sleep(0.01)
    exchange.reset()


async def hang(exchange):
    await asyncio.sleep(60)


def sends(data: bytes, kind: str = "application/json"):
    async def step(exchange):
        await exchange.send(data, kind=kind)

    return step


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
async def test_statuses_that_may_pass_are_tried_again(server, open_engine, wire, status):
    server.script.extend([wire.says({"error": {"message": "busy"}}, status)] * 2)
    server.default = wire.says(wire.chat("at last"))
    [answer] = await open_engine().generate([wire.ask()])
    assert answer.text == "at last"
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(reset, id="reset"),
        pytest.param(reset_in_body, id="reset in the body"),
        pytest.param(sends(b"<html>gateway</html>", "text/html"), id="another kind of page"),
        pytest.param(sends(b'{"choices": [{"mess'), id="cut off"),
        pytest.param(sends(b""), id="empty"),
        pytest.param(sends(b"\xff\xfe\x00"), id="no UTF-8"),
        pytest.param(sends(b"[1, 2]"), id="no object"),
        pytest.param(sends(b'{"choices": []}'), id="no choice"),
        pytest.param(sends(b'{"choices": [{"message": {"content": 5}}]}'), id="no text"),
        pytest.param(sends(b'{"choices": ' + b"[" * 100_000), id="deep"),
        pytest.param(sends(b'{"error": {"message": "sorry", "code": 500}}'), id="error with 200"),
    ],
)
async def test_broken_connections_and_bodies_are_tried_again(server, open_engine, wire, fault):
    server.script.append(fault)
    server.default = wire.says(wire.chat("whole"))
    [answer] = await open_engine().generate([wire.ask()])
    assert answer.text == "whole"
    assert len(server.seen) == 2


async def test_garbage_that_stays_is_shown_safely(server, open_engine, wire):
    server.default = sends(b"\x1b]52;c;AAAA\x07\xe2\x80\xae <html>" + b"x" * 500)
    with pytest.raises(EngineError) as raised:
        await open_engine(max_retries=1).generate([wire.ask(id="g1")])
    message = str(raised.value)
    assert message.isprintable()
    assert r"\x1b]52;c;AAAA\x07\u202e <html>" in message
    assert "x" * 170 in message
    assert "x" * 200 not in message
    assert server.base_url in message
    assert "'g1'" in message
    assert "(try 2)" in message
    assert not isinstance(raised.value, EngineUnavailableError)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (400, {"error": {"message": "top_p is 7"}}, ["400", "top_p is 7"]),
        (401, {"error": {"message": "no key"}}, ["401", "no key", "api_key_env"]),
        (403, {"detail": "forbidden here"}, ["403", "forbidden here"]),
        (404, {"error": {"message": "no such model"}}, ["404", "no such model", "check model"]),
        (422, {"message": "unprocessable"}, ["422", "unprocessable"]),
        (501, {"error": "not here"}, ["501", "not here"]),
        (429, {"error": {"message": "pay", "code": "insufficient_quota"}}, ["429", "quota"]),
    ],
)
async def test_a_refusal_is_not_tried_again_and_is_passed_on(
    server, open_engine, wire, status, body, words
):
    server.default = wire.says(body, status)
    with pytest.raises(EngineRefusedError) as raised:
        await open_engine(model="mistral").generate([wire.ask(id="q7")])
    assert len(server.seen) == 1
    for word in [server.base_url, "'mistral'", "'q7'", *words]:
        assert word in str(raised.value)


async def test_a_refusal_in_plain_words_is_passed_on_safely(server, open_engine, wire):
    async def step(exchange):
        await exchange.send(b"no \x1b[2J way\n" + b"y" * 5000, 400, "text/plain")

    server.default = step
    with pytest.raises(EngineRefusedError) as raised:
        await open_engine().generate([wire.ask()])
    assert str(raised.value).isprintable()
    assert r"no \x1b[2J way\ny" in str(raised.value)
    assert len(str(raised.value)) < 2000


async def test_a_redirection_says_where_to(server, open_engine, wire):
    server.default = wire.says({}, 307, location="https://elsewhere/v1/")
    with pytest.raises(EngineRefusedError, match="https://elsewhere/v1/"):
        await open_engine().generate([wire.ask()])


async def test_the_key_is_in_no_message(server, open_engine, wire, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    server.default = wire.says({"error": {"message": "wrong key: sk-secret"}}, 401)
    with pytest.raises(EngineRefusedError) as raised:
        await open_engine(api_key_env="SOME_KEY").generate([wire.ask()])
    assert "sk-secret" not in str(raised.value)
    assert "***" in str(raised.value)


# --- waiting ---


@pytest.mark.parametrize("header", ["retry_after", "retry_after_ms", "date"])
async def test_the_wait_that_the_server_asks_for_is_kept(server, open_engine, wire, header):
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    value = {"retry_after": "0.3", "retry_after_ms": "300", "date": later}[header]
    name = "retry_after" if header == "date" else header
    server.script.append(wire.says({}, 429, **{name: value}))
    server.default = wire.says(wire.chat())
    started = time.monotonic()
    await open_engine().generate([wire.ask()])
    assert time.monotonic() - started >= 0.3


async def test_a_wait_beyond_the_time_left_fails_at_once(server, open_engine, wire):
    server.default = wire.says({"error": {"message": "slow down"}}, 429, retry_after="3600")
    started = time.monotonic()
    with pytest.raises(EngineUnavailableError, match=r"slow down.*exceed timeout_s"):
        await open_engine(timeout_s=5).generate([wire.ask()])
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("value", ["soon", "-5", "nan", "inf", ""])
async def test_a_retry_after_that_makes_no_sense_is_ignored(server, open_engine, wire, value):
    server.script.append(wire.says({}, 429, retry_after=value))
    server.default = wire.says(wire.chat())
    await open_engine().generate([wire.ask()])


@pytest.mark.parametrize("shown", [SHOWN_CHARS, SHOWN_MESSAGE_CHARS])
@pytest.mark.parametrize("as_json", [True, False])
async def test_no_part_of_the_key_is_in_a_message_that_is_cut(
    server, open_engine, wire, monkeypatch, as_json, shown
):
    key = "sk-s3cret-1"
    monkeypatch.setenv("SOME_KEY", key)
    engine = open_engine(api_key_env="SOME_KEY", max_retries=0)
    for inside in range(1, len(key)):
        text = "x" * (shown - inside) + key + "y" * 50
        said = {"error": {"message": text}} if as_json else {"choices": text}
        server.default = wire.says(said, 401 if as_json else 200)
        with pytest.raises(EngineError) as raised:
            await engine.generate([wire.ask()])
        assert not any(key[at : at + 4] in str(raised.value) for at in range(len(key) - 3))


async def test_waits_double_up_to_a_bound_with_full_jitter(server, open_engine, wire, monkeypatch):
    monkeypatch.setattr(retrying, "FIRST_BACKOFF_S", 0.001)
    monkeypatch.setattr(retrying, "LONGEST_BACKOFF_S", 0.006)
    bounds = []

    def drawn(low, high):
        bounds.append((low, high))
        return low

    monkeypatch.setattr(random, "uniform", drawn)
    server.default = wire.says({}, 500)
    with pytest.raises(EngineUnavailableError, match=r"\(try 6\)"):
        await open_engine(max_retries=5).generate([wire.ask()])
    assert bounds[:5] == [(0.0, 0.001), (0.0, 0.002), (0.0, 0.004), (0.0, 0.006), (0.0, 0.006)]
    assert len(server.seen) == 6


# --- time ---


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_server_that_hangs_runs_into_the_time_limit(server, open_engine, wire, streaming):
    async def hang_in_stream(exchange):
        await exchange.events([wire.delta("a")], done=False)
        await hang(exchange)

    server.default = hang_in_stream if streaming else hang
    engine = open_engine(timeout_s=0.2)
    started = time.monotonic()
    request = wire.ask(id="t1")
    asking = collected(engine.stream(request)) if streaming else engine.generate([request])
    with pytest.raises(EngineTimeoutError) as raised:
        await asking
    assert time.monotonic() - started < 2
    for word in [server.base_url, "'m'", "'t1'", "timeout_s = 0.2"]:
        assert word in str(raised.value)


async def test_the_time_limit_bounds_all_tries_together(server, open_engine, wire):
    async def slow_failure(exchange):
        await asyncio.sleep(0.15)
        await exchange.json({"error": {"message": "overloaded"}}, 503)

    server.default = slow_failure
    with pytest.raises((EngineTimeoutError, EngineUnavailableError), match="overloaded"):
        await open_engine(timeout_s=0.4, max_retries=100).generate([wire.ask()])
    assert len(server.seen) <= 3


async def test_waiting_for_a_slot_does_not_count(server, open_engine, wire):
    async def slow(exchange):
        await asyncio.sleep(0.1)
        await exchange.json(wire.chat())

    server.default = slow
    requests = [wire.ask(id=str(index)) for index in range(8)]
    answers = await open_engine(timeout_s=0.6, max_in_flight=1).generate(requests)
    assert len(answers) == 8


async def test_a_server_that_is_gone(open_engine, wire):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    with pytest.raises(EngineUnavailableError) as raised:
        await open_engine(base_url=url, max_retries=2).generate([wire.ask(id="z")])
    for word in [url, "'m'", "'z'", "nobody answers", "(try 3)", "base_url"]:
        assert word in str(raised.value)


async def test_a_server_that_comes_back_is_found_again(server, open_engine, wire):
    """Killed in the middle of a batch and started again at the same address."""
    server.default = wire.says(wire.chat("back"))
    server.script.extend([reset] * 10)
    requests = [wire.ask(id=str(index)) for index in range(10)]
    answers = await open_engine(max_retries=10).generate(requests)
    assert [answer.text for answer in answers] == ["back"] * 10


# --- batches ---


async def test_one_failure_cancels_the_rest_and_is_raised_itself(server, open_engine, wire):
    async def by_prompt(exchange):
        if exchange.body["messages"][0]["content"] == "bad":
            await asyncio.sleep(0.05)
            await exchange.json({"error": {"message": "bad one"}}, 400)
        else:
            await hang(exchange)

    server.default = by_prompt
    requests = [wire.ask("good", id="1"), wire.ask("bad", id="2"), wire.ask("good", id="3")]
    with pytest.raises(EngineRefusedError, match=r"'2'.*bad one"):
        await open_engine().generate(requests)
    await wire.until(lambda: server.num_left == 2)


async def test_a_body_is_sent_whole_again_at_each_try(server, open_engine, wire):
    server.script.append(wire.says({}, 500))
    server.default = wire.says(wire.chat())
    await open_engine().generate([wire.ask("the same")])
    first, second = (json.dumps(exchange.body) for exchange in server.seen)
    assert first == second
