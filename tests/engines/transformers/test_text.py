"""Text from tokens: whole characters, stop strings, streaming, and cancelling."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oversight.engines.transformers.sequence import Detokenizer
from oversight.errors import EngineError
from oversight.types import FinishReason


def decode_bytes(ids):  # type: ignore[no-untyped-def]
    return bytes(ids).decode("utf-8", errors="replace")


@pytest.fixture(scope="module")
def decode(tiny_model):  # type: ignore[no-untyped-def]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=True)


def streamed(decode, ids, stop=()):  # type: ignore[no-untyped-def]
    """The pieces, and the detokenizer after the last token or the stop string."""
    detokenizer, pieces = Detokenizer(decode, stop), []
    for i in ids:
        if detokenizer.add(i):
            break
        pieces.append(detokenizer.take())
    detokenizer.finish()
    pieces.append(detokenizer.take(final=True))
    return pieces, detokenizer


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=20))
def test_pieces_are_whole_characters_and_add_up(text):
    pieces, detokenizer = streamed(decode_bytes, text.encode("utf-8", "replace"))
    clean = text.encode("utf-8", "replace").decode()
    assert "".join(pieces) == detokenizer.text == clean.rstrip("\ufffd")
    if "\ufffd" not in clean:
        assert not any("\ufffd" in piece for piece in pieces)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, 379), max_size=40))
def test_any_tokens_give_the_text_that_decoding_all_gives_but_half_a_character_at_its_end(
    decode, ids
):
    pieces, detokenizer = streamed(decode, ids)
    assert detokenizer.text == decode(ids).rstrip("\ufffd")
    assert "".join(pieces) == detokenizer.text


@pytest.mark.parametrize(("kept", "text"), [(4, "a東"), (3, "a"), (2, "a"), (1, "a")])
def test_half_a_character_at_the_end_is_left_off(kept, text):
    pieces, detokenizer = streamed(decode_bytes, "a東b".encode()[:kept])
    assert "".join(pieces) == detokenizer.text == text


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet="ab東", max_size=20),
    st.lists(st.text(alphabet="ab東", min_size=1, max_size=4), max_size=3),
)
def test_text_is_cut_before_the_stop_string_that_is_complete_first(text, stop):
    pieces, detokenizer = streamed(decode_bytes, text.encode(), stop)
    ends = [text.find(s) + len(s) for s in stop if s in text]
    if ends:
        # Complete first; of those complete with the same character the one that starts first.
        first = min(ends)
        cut = min(text[:first].find(s) for s in stop if s in text[:first])
        assert detokenizer.text == text[:cut]
    else:
        assert detokenizer.text == text
    assert detokenizer.stopped == bool(ends)
    assert "".join(pieces) == detokenizer.text


async def pieces_of(engine, request):  # type: ignore[no-untyped-def]
    chunks = [chunk async for chunk in engine.stream(request)]
    assert all(chunk.completion is None for chunk in chunks[:-1])
    return [chunk.text for chunk in chunks], chunks[-1].completion


@pytest.mark.parametrize("seed", range(6))
async def test_a_stream_is_the_same_answer_in_pieces(engine, ask, seed):
    request = ask("tell me", seed=seed, max_tokens=40, logprobs=True)
    pieces, completion = await pieces_of(engine, request)
    (whole,) = await engine.generate([request])
    assert "".join(pieces) == completion.text == whole.text
    assert completion.token_ids == whole.token_ids
    assert len(pieces) > 3


async def test_text_has_no_special_tokens_and_eos_is_a_token_of_the_answer(
    tiny_model, engine, ask, decode
):
    requests = [ask("x" * i, seed=i, max_tokens=200) for i in range(1, 9)]
    completions = await engine.generate(requests)
    ended = [c for c in completions if c.finish_reason is FinishReason.STOP]
    assert ended
    for completion in completions:
        assert completion.text == decode(completion.token_ids).rstrip("\ufffd")
        assert "<|end|>" not in completion.text
        assert (completion.token_ids[-1] == 2) == (completion in ended)
        assert len(completion.token_ids) == 200 or completion in ended


async def test_a_stop_string_cuts_the_text_but_not_the_tokens(engine, ask, decode):
    (free,) = await engine.generate([ask("go", seed=3, max_tokens=30)])
    stop = free.text[8:11]
    cut = free.text.index(stop)
    pieces, completion = await pieces_of(
        engine, ask("go", seed=3, max_tokens=30, stop=(stop, "zz"))
    )
    assert completion.text == free.text[:cut] == "".join(pieces)
    assert completion.finish_reason is FinishReason.STOP
    count = len(completion.token_ids)
    assert completion.token_ids == free.token_ids[:count]
    assert stop in decode(completion.token_ids)
    assert stop not in decode(completion.token_ids[:-1])


async def test_a_cancelled_request_returns_what_it_has(engine, ask):
    long = ask("go", id="long", temperature=0, max_tokens=3000)
    other = ask("other", id="other", temperature=0, max_tokens=20)
    (expected,) = await engine.generate([other])
    text, completion, running = "", None, None
    async for chunk in engine.stream(long):
        text += chunk.text
        completion = chunk.completion
        if running is None:
            running = asyncio.ensure_future(engine.generate([other]))
            await engine.cancel("long")
    assert completion is not None
    assert completion.finish_reason is FinishReason.CANCELLED
    assert completion.text == text
    assert 0 < len(completion.token_ids) < 3000
    assert (await running)[0].token_ids == expected.token_ids


async def test_a_waiting_request_can_be_cancelled(tiny_model, make_engine, ask):
    engine = make_engine(tiny_model, max_batch_size=1)
    first = asyncio.ensure_future(
        engine.generate([ask("go", id="first", temperature=0, max_tokens=3000)])
    )
    second = asyncio.ensure_future(engine.generate([ask("b", id="second", max_tokens=5)]))
    await asyncio.sleep(0.05)
    await engine.cancel("second")
    (completion,) = await second
    assert completion.finish_reason is FinishReason.CANCELLED
    assert (completion.text, completion.token_ids) == ("", ())
    assert completion.prompt_ids
    assert not first.done()
    await engine.cancel("first")
    await first


async def test_cancelling_what_is_not_there_is_nothing(engine):
    await engine.cancel("nobody")


async def test_a_cancelled_task_leaves_the_batch(engine, ask):
    await engine.generate([ask("load", max_tokens=1)])
    task = asyncio.ensure_future(engine.generate([ask("go", temperature=0, max_tokens=3000)] * 4))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await engine.generate([ask("next", max_tokens=2)])
    assert not engine._in_flight
    passes = engine.work()["num_passes"]
    await asyncio.sleep(0.05)
    assert engine.work()["num_passes"] == passes


async def test_a_stream_left_early_leaves_the_batch(engine, ask):
    stream = engine.stream(ask("go", temperature=0, max_tokens=3000))
    async for _ in stream:
        break
    await stream.aclose()
    await engine.generate([ask("next", max_tokens=2)])
    assert not engine._in_flight
    assert not engine._thread.batch.busy


async def test_a_closed_engine_ends_what_runs_and_takes_no_more(engine, ask):
    task = asyncio.ensure_future(engine.generate([ask("go", temperature=0, max_tokens=3000)]))
    await asyncio.sleep(0.3)
    await engine.aclose()
    with pytest.raises(EngineError, match="closed"):
        await task
    with pytest.raises(EngineError, match="closed"):
        await engine.generate([ask("go")])
    await engine.aclose()


def test_an_engine_serves_several_event_loops(tiny_model, ask):
    from oversight.engines.transformers import Config, build

    engine = build(Config(model=str(tiny_model), device="cpu", num_threads=1))
    texts = {
        asyncio.run(engine.generate([ask("go", seed=1, max_tokens=5)]))[0].text for _ in range(2)
    }
    assert len(texts) == 1
    asyncio.run(engine.aclose())
