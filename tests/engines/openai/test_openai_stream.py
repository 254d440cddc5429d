"""Streams and cancelling."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oversight.engines.openai.reply import MalformedReplyError, Reply, ReportedError
from oversight.engines.openai.server import EventDecoder
from oversight.errors import EngineError, EngineRefusedError, EngineUnavailableError
from oversight.types import FinishReason


async def collected(chunks):
    return [chunk async for chunk in chunks]


async def test_pieces_add_up_to_the_text_and_the_last_chunk_carries_the_whole(
    server, open_engine, wire
):
    texts = ["One", " two", "\u2028three\x85", " 🙂", ""]
    events = [wire.delta(text) for text in texts]
    usage = {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 5}}
    server.script.append(wire.streams(*events, wire.delta(None, finish_reason="stop"), usage))
    chunks = await collected(open_engine().stream(wire.ask(id="s")))
    assert [chunk.text for chunk in chunks[:-1]] == texts[:-1]
    assert all(chunk.completion is None for chunk in chunks[:-1])
    whole = chunks[-1].completion
    assert whole is not None
    assert whole.text == "".join(chunk.text for chunk in chunks) == "One two\u2028three\x85 🙂"
    assert (whole.request_id, whole.finish_reason) == ("s", FinishReason.STOP)
    assert whole.usage.completion_tokens == 5


async def test_pieces_arrive_before_the_answer_has_ended(server, open_engine, wire):
    go_on = asyncio.Event()

    async def halting(exchange):
        await exchange.open_events()
        await exchange.piece(b"data: " + json.dumps(wire.delta("first")).encode() + b"\n\n")
        await go_on.wait()
        last = wire.delta(" last", finish_reason="stop")
        await exchange.piece(b"data: " + json.dumps(last).encode() + b"\n\ndata: [DONE]\n\n")
        await exchange.raw(b"0\r\n\r\n")

    server.script.append(halting)
    stream = open_engine().stream(wire.ask())
    assert (await anext(stream)).text == "first"
    go_on.set()
    rest = await collected(stream)
    assert rest[-1].completion.text == "first last"


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
async def test_odd_but_legal_streams(server, open_engine, wire, size):
    """Comments, other fields, CR LF, an event of several lines, pieces cut anywhere."""
    several = json.dumps(wire.delta("bé"), indent=1, ensure_ascii=False).encode().split(b"\n")
    body = (
        b"\xef\xbb\xbf: keep-alive\r\n\r\n"
        b"event: message\r\nid: 1\r\nretry: 10\r\ndata:"
        + json.dumps(wire.delta("a")).encode()
        + b"\r\n\r\n"
        + b"".join(b"data: " + line + b"\n" for line in several)
        + b"\n: ping\n\ndata: "
        + json.dumps(wire.delta("c", finish_reason="stop")).encode()
        + b"\r\rdata: [DONE]\n\n"
    )

    async def step(exchange):
        await exchange.open_events()
        for start in range(0, len(body), size):
            await exchange.piece(body[start : start + size])
        await exchange.raw(b"0\r\n\r\n")

    server.script.append(step)
    chunks = await collected(open_engine().stream(wire.ask()))
    assert [chunk.text for chunk in chunks] == ["a", "bé", "c", ""]


async def test_a_stream_without_done_ends_with_its_finish_reason(server, open_engine, wire):
    async def step(exchange):
        await exchange.events([wire.delta("x", finish_reason="length")], done=False)
        await exchange.raw(b"0\r\n\r\n")

    server.script.append(step)
    chunks = await collected(open_engine().stream(wire.ask()))
    assert chunks[-1].completion.finish_reason is FinishReason.LENGTH


async def test_a_server_that_does_not_stream_is_understood(server, open_engine, wire):
    server.script.append(wire.says(wire.chat("All at once.")))
    chunks = await collected(open_engine().stream(wire.ask()))
    assert [chunk.text for chunk in chunks] == ["All at once.", ""]


async def test_connections_are_used_again_after_streams(server, open_engine, wire):
    server.default = wire.streams(wire.delta("x", finish_reason="stop"))
    engine = open_engine()
    for _ in range(3):
        await collected(engine.stream(wire.ask()))
    assert server.num_connections == 1


# --- streams that break ---


def broken_after(*events):
    async def step(exchange):
        await exchange.events(events, done=False)
        exchange.hang_up()

    return step


async def test_a_stream_that_breaks_before_any_text_starts_again(server, open_engine, wire):
    server.script.append(broken_after(wire.delta("")))
    server.script.append(wire.streams(wire.delta("whole", finish_reason="stop")))
    chunks = await collected(open_engine().stream(wire.ask()))
    assert [chunk.text for chunk in chunks] == ["whole", ""]
    assert len(server.seen) == 2


async def test_a_stream_that_breaks_after_text_is_an_error(server, open_engine, wire):
    server.script.append(broken_after(wire.delta("part")))
    pieces = []

    async def watch():
        async for chunk in open_engine().stream(wire.ask(id="live-1")):
            pieces.append(chunk.text)

    with pytest.raises(EngineUnavailableError) as raised:
        await watch()
    assert pieces == ["part"]
    assert len(server.seen) == 1
    message = str(raised.value)
    assert server.base_url in message
    assert "'live-1'" in message
    assert "'m'" in message
    assert "already been passed on" in message


async def test_a_batch_starts_again_from_a_stream_broken_anywhere(server, open_engine, wire):
    """Nobody has seen the first part, so nothing of it may be left in the answer."""
    first = {**wire.delta("lost", token_ids=[8]), "prompt_token_ids": [1]}
    whole = {
        **wire.delta("kept", token_ids=[9], finish_reason="stop"),
        "prompt_token_ids": [1],
    }
    server.script.append(broken_after(first))
    server.script.append(wire.streams(whole))
    [answer] = await open_engine(dialect="vllm").generate([wire.ask()])
    assert (answer.text, answer.token_ids) == ("kept", (9,))


async def test_a_stream_that_ends_early_without_an_error_is_broken_too(server, open_engine, wire):
    async def short(exchange):
        await exchange.events([wire.delta("")], done=False)
        await exchange.raw(b"0\r\n\r\n")

    server.script.extend([short, wire.streams(wire.delta("ok", finish_reason="stop"))])
    chunks = await collected(open_engine().stream(wire.ask()))
    assert chunks[-1].completion.text == "ok"


async def test_an_error_in_the_stream_that_may_pass_is_tried_again(server, open_engine, wire):
    server.script.append(wire.streams({"error": {"message": "engine died", "code": 500}}))
    server.script.append(wire.streams(wire.delta("ok", finish_reason="stop")))
    chunks = await collected(open_engine().stream(wire.ask()))
    assert chunks[-1].completion.text == "ok"


async def test_an_error_in_the_stream_that_will_not_pass_is_refused(server, open_engine, wire):
    error = {"error": {"message": "prompt too long", "type": "BadRequestError", "code": 400}}
    server.script.append(wire.streams(error))
    with pytest.raises(EngineRefusedError, match="prompt too long"):
        await collected(open_engine().stream(wire.ask()))


async def test_an_answer_that_the_server_gives_up_is_asked_for_again(server, open_engine, wire):
    """vLLM ends what is under way with `abort` when it shuts down."""
    server.script.append(wire.says(wire.chat("half", finish_reason="abort")))
    server.script.append(wire.says(wire.chat("whole")))
    [answer] = await open_engine().generate([wire.ask()])
    assert answer.text == "whole"


async def test_a_consumer_that_leaves_ends_the_request(server, open_engine, wire):
    async def endless(exchange):
        await exchange.open_events()
        while True:
            await exchange.piece(b"data: " + json.dumps(wire.delta("x")).encode() + b"\n\n")
            await asyncio.sleep(0.005)

    server.script.append(endless)
    stream = open_engine().stream(wire.ask())
    await anext(stream)
    await stream.aclose()
    await wire.until(lambda: server.num_left == 1)


# --- cancelling ---


def hanging_after(*events):
    async def step(exchange):
        await exchange.events(events, done=False)
        await asyncio.sleep(60)

    return step


async def test_a_cancelled_stream_ends_with_what_had_arrived(server, open_engine, wire):
    server.script.append(hanging_after(wire.delta("so"), wire.delta(" far")))
    engine = open_engine()
    pieces = []
    async for chunk in engine.stream(wire.ask(id="live")):
        pieces.append(chunk.text)
        if chunk.text == " far":
            await engine.cancel("live")
    assert pieces == ["so", " far", ""]
    assert chunk.completion.text == "so far"
    assert chunk.completion.finish_reason is FinishReason.CANCELLED
    await wire.until(lambda: server.num_left == 1)


async def test_a_cancelled_batch_member_returns_what_it_has_and_the_others_go_on(
    server, open_engine, wire
):
    first = {**wire.delta("so far", token_ids=[5, 6]), "prompt_token_ids": [1]}
    whole = {**wire.delta("end", token_ids=[7], finish_reason="stop"), "prompt_token_ids": [2]}

    async def by_prompt(exchange):
        hang = exchange.body["messages"][0]["content"] == "hang"
        await (hanging_after(first) if hang else wire.streams(whole))(exchange)

    server.default = by_prompt
    engine = open_engine(dialect="vllm")
    requests = [wire.ask("hang", id="a"), wire.ask("end", id="b")]
    asking = asyncio.create_task(engine.generate(requests))
    await wire.until(lambda: len(server.seen) == 2)
    await asyncio.sleep(0.05)
    await engine.cancel("a")
    cut, kept = await asking
    assert (cut.text, cut.token_ids, cut.prompt_ids) == ("so far", (5, 6), (1,))
    assert cut.finish_reason is FinishReason.CANCELLED
    assert (cut.usage.prompt_tokens, cut.usage.completion_tokens) == (1, 2)
    assert (kept.text, kept.finish_reason) == ("end", FinishReason.STOP)


async def test_a_request_that_still_waits_can_be_cancelled(server, open_engine, wire):
    release = asyncio.Event()

    async def slow(exchange):
        await release.wait()
        await exchange.json(wire.chat())

    server.default = slow
    engine = open_engine(max_in_flight=1)
    running = asyncio.create_task(engine.generate([wire.ask(id="runs")]))
    await wire.until(lambda: len(server.seen) == 1)
    waiting = asyncio.create_task(engine.generate([wire.ask(id="waits")]))
    await asyncio.sleep(0.01)
    await engine.cancel("waits")
    [cancelled] = await waiting
    assert (cancelled.text, cancelled.finish_reason) == ("", FinishReason.CANCELLED)
    release.set()
    [answer] = await running
    assert answer.text == "Hello."
    assert len(server.seen) == 1


async def test_a_request_cancelled_as_its_turn_comes_is_not_sent(
    server, open_engine, wire, monkeypatch
):
    async def slow(exchange):
        await asyncio.sleep(0.05)
        await exchange.json(wire.chat())

    server.default = slow
    engine = open_engine(max_in_flight=1)

    def cancel_after_the_slot_is_free(usage):
        loop = asyncio.get_running_loop()
        for flight in engine._flights:
            if flight.request.id == "waits":
                loop.call_soon(flight.cancel)

    monkeypatch.setattr(engine.budget, "spend", cancel_after_the_slot_is_free)
    asked = [engine.generate([wire.ask(id=each)]) for each in ("runs", "waits")]
    [[answer], [cancelled]] = await asyncio.gather(*asked)
    assert answer.finish_reason is FinishReason.STOP
    assert (cancelled.text, cancelled.finish_reason) == ("", FinishReason.CANCELLED)
    assert len(server.seen) == 1


async def test_an_answer_that_has_ended_is_not_cancelled_any_more(server, open_engine, wire):
    server.script.append(hanging_after(wire.delta("whole", finish_reason="length")))
    engine = open_engine()
    chunks = []
    async for chunk in engine.stream(wire.ask(id="live")):
        chunks.append(chunk)
        await engine.cancel("live")
    assert chunks[-1].completion.text == "whole"
    assert chunks[-1].completion.finish_reason is FinishReason.LENGTH


async def test_cancelling_an_unknown_request_does_nothing(open_engine):
    await open_engine().cancel("nobody")


async def test_cancelling_the_task_closes_the_connection_and_frees_the_slot(
    server, open_engine, wire
):
    async def hang(exchange):
        await asyncio.sleep(60)

    server.script.extend([hang] * 4)
    server.default = wire.says(wire.chat())
    engine = open_engine(max_in_flight=4)
    asking = asyncio.create_task(engine.generate([wire.ask(id=str(index)) for index in range(4)]))
    await wire.until(lambda: len(server.seen) == 4)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await wire.until(lambda: server.num_left == 4)
    answers = await engine.generate([wire.ask(id=str(index)) for index in range(8)])
    assert len(answers) == 8


async def test_closing_ends_what_is_under_way(server, open_engine, wire):
    server.script.append(hanging_after(wire.delta("so far")))
    engine = open_engine()
    stream = engine.stream(wire.ask())
    await anext(stream)
    await engine.aclose()
    rest = await collected(stream)
    assert rest[-1].completion.finish_reason is FinishReason.CANCELLED
    with pytest.raises(EngineUnavailableError, match="closed"):
        await engine.generate([wire.ask()])


# --- parsing, whatever arrives ---


@settings(deadline=None)
@given(
    st.lists(st.text(max_size=30).filter(lambda text: text.strip("\r\n")), max_size=5), st.data()
)
def test_events_do_not_depend_on_how_the_bytes_are_cut(texts, data):
    payloads = [json.dumps(text, ensure_ascii=False).encode("utf-8", "replace") for text in texts]
    end = data.draw(st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]))
    body = b"".join(b"data: " + payload + end for payload in payloads)
    decoder, events = EventDecoder(), []
    while body:
        size = data.draw(st.integers(1, len(body)))
        events += decoder.feed(body[:size])
        body = body[size:]
    assert events + decoder.end() == payloads


KEYS = st.sampled_from(
    [
        *("choices", "index", "message", "delta", "content", "text", "logprobs", "logprob"),
        *("top_logprobs", "token_logprobs", "token", "token_ids", "prompt_token_ids", "usage"),
        *("prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens"),
        *("finish_reason", "model", "error", "code", "refusal"),
    ]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", range(1, 12))
def test_an_event_of_several_lines_stays_one_however_it_is_cut(end, size):
    """A CR at the end of a piece may be half of a line's end, not a line's end and a blank line."""
    body = end.join([b"data: a", b"data: b", b"", b"data: c", b"", b""])
    decoder = EventDecoder()
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    events = [event for piece in pieces for event in decoder.feed(piece)]
    assert events + decoder.end() == [b"a\nb", b"c"]


@settings(deadline=None)
@given(st.dictionaries(KEYS, json_values, max_size=5) | json_values)
def test_any_json_is_read_or_refused(value):
    with contextlib.suppress(MalformedReplyError, ReportedError):
        Reply().add(json.dumps(value).encode())


@settings(deadline=None)
@given(st.binary(max_size=50))
def test_any_bytes_are_read_or_refused(data):
    with pytest.raises((MalformedReplyError, ReportedError)):
        Reply().add(data[:49] + b"\x00")


@pytest.mark.parametrize("value", [0.5, float("nan"), float("inf"), float("-inf"), "x", None, True])
async def test_what_is_no_log_probability_is_refused(server, open_engine, wire, value):
    logprobs = {"content": [{"token": "x", "logprob": value, "top_logprobs": []}]}
    server.default = wire.says(wire.chat("x", logprobs=logprobs))
    with pytest.raises(EngineError, match="no log-probability"):
        await open_engine(max_retries=0).generate([wire.ask(logprobs=True)])


async def test_rounding_above_zero_is_zero(server, open_engine, wire):
    logprobs = {"content": [{"token": "x", "logprob": 1e-7}]}
    server.default = wire.says(wire.chat("x", logprobs=logprobs))
    [answer] = await open_engine().generate([wire.ask(logprobs=True)])
    assert answer.logprobs == (0.0,)


@pytest.mark.parametrize("dialect", ["openai", "vllm"])
async def test_a_stream_that_closes_in_good_order_without_a_finish_reason_is_cut_off(
    server, open_engine, wire, dialect
):
    """As of a proxy that lost its server in the middle of the answer."""
    server.default = wire.streams(wire.delta("The notes say"))
    with pytest.raises(EngineUnavailableError, match="no finish_reason"):
        await collected(open_engine(dialect=dialect, max_retries=0).stream(wire.ask()))


async def test_a_cut_off_stream_that_nobody_has_seen_is_asked_for_again(server, open_engine, wire):
    whole = {**wire.delta("whole", token_ids=[7], finish_reason="stop"), "prompt_token_ids": [2]}
    server.script += [wire.streams(wire.delta("The no")), wire.streams(whole)]
    [answer] = await open_engine(dialect="vllm").generate([wire.ask()])
    assert answer.text == "whole"


@pytest.mark.parametrize("choice", [{"finish_reason": None}, {"finish_reason": ""}])
@pytest.mark.parametrize("api", ["chat", "completions"])
async def test_a_body_without_a_finish_reason_is_cut_off_as_such_a_stream_is(
    server, open_engine, wire, choice, api
):
    body = wire.chat("Half a sen", **choice)
    body["choices"][0]["text"] = "Half a sen"
    server.default = wire.says(body)
    with pytest.raises(EngineUnavailableError, match=r"has not ended \(it gave no finish_reason\)"):
        await open_engine(max_retries=0, api=api).generate([wire.ask()])


async def test_a_body_without_the_field_is_asked_for_again(server, open_engine, wire):
    half = wire.chat("Half")
    del half["choices"][0]["finish_reason"]
    server.script += [wire.says(half), wire.says(wire.chat("whole"))]
    [answer] = await open_engine().generate([wire.ask()])
    assert (answer.text, answer.finish_reason) == ("whole", FinishReason.STOP)


async def test_an_end_by_an_unknown_word_is_said_once(server, open_engine, wire, caplog):
    server.default = wire.says(wire.chat("Said.", finish_reason="OTHER"))
    engine = open_engine()
    await engine.generate([wire.ask(id=str(index)) for index in range(3)])
    said = [record.getMessage() for record in caplog.records if "finish_reason" in record.message]
    assert len(said) == 1
    assert "finish_reason 'OTHER', which is no known word" in said[0]


@pytest.mark.parametrize(
    "reason", ["Abort", "canceled", "network_error", "incomplete", "insufficient_system_resource"]
)
async def test_an_answer_that_the_server_gave_up_by_any_word_is_asked_for_again(
    server, open_engine, wire, reason
):
    server.script += [wire.says(wire.chat("ha", finish_reason=reason)), wire.says(wire.chat("all"))]
    [answer] = await open_engine().generate([wire.ask()])
    assert answer.text == "all"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("max_output_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("MALFORMED_FUNCTION_CALL", FinishReason.TOOL_CALLS),
    ],
)
async def test_further_words_of_servers_for_answers_without_an_end_of_their_own(
    server, open_engine, wire, reason, expected
):
    server.script.append(wire.says(wire.chat("Half", finish_reason=reason)))
    [answer] = await open_engine().generate([wire.ask()])
    assert answer.finish_reason is expected
