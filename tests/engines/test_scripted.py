from __future__ import annotations

import asyncio
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.engines.scripted import (
    Config,
    Rule,
    ScriptedAnswer,
    ScriptedEngine,
    build,
    decode,
    encode,
)
from oversight.errors import ConfigError, EngineRefusedError, EngineUnavailableError
from oversight.types import Capabilities, FinishReason, Message, Prompt, Request, Sampling


def ask(text="Hi", id="r", parts=None, **sampling):
    message = Message(role="user", parts=parts or (text,))
    return Request(Prompt(messages=(message,)), Sampling(**sampling), id=id)


async def texts(engine, *requests):
    return [completion.text for completion in await engine.generate(requests)]


# --- scripts ---


async def test_a_list_is_given_out_in_order_and_runs_out():
    engine = ScriptedEngine(["one", ScriptedAnswer("two")])
    assert await texts(engine, ask(), ask()) == ["one", "two"]
    with pytest.raises(EngineRefusedError, match=r"'late'.*all 2 answers"):
        await engine.generate([ask(id="late")])


async def test_the_first_rule_found_in_the_prompt_answers():
    engine = ScriptedEngine({r"(?i)judge": "B", r"^Q\d": "speech"})
    asked = [ask("Q1"), ask("Q1 to the Judge"), ask("Q2")]
    assert await texts(engine, *asked) == ["speech", "B", "speech"]
    with pytest.raises(EngineRefusedError, match=r"no rule .* 'something else'"):
        await engine.generate([ask("something else")])


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_function_sees_the_request(is_async):
    def say(request):
        return f"{request.id}: {request.prompt.messages[0].content}"

    async def say_later(request):
        await asyncio.sleep(0)
        return ScriptedAnswer(say(request))

    engine = ScriptedEngine(say_later if is_async else say)
    assert await texts(engine, ask("x", id="1"), ask("y", id="2")) == ["1: x", "2: y"]


async def test_settings_are_a_script_of_rules_then_answers():
    config = Config.parse(
        {"rules": [{"pattern": "judge", "answer": "B"}], "answers": ["one", "two"]}
    )
    engine = build(config)
    assert await texts(engine, ask(), ask("judge"), ask()) == ["one", "B", "two"]


async def test_without_a_list_the_fallback_answers():
    config = Config(rules=(Rule(pattern="judge", answer="B"),), fallback="so be it")
    assert await texts(build(config), ask(), ask("judge")) == ["so be it", "B"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ScriptedEngine("text"), "one text is no script"),
        (lambda: ScriptedEngine({"(": "x"}), "no regular expression"),
        (lambda: Config.parse({"rules": [{"pattern": "("}]}), "no regular expression"),
        (lambda: Config.parse({"beliefs": {"A": 1.5}}), "not between 0 and 1"),
        (lambda: Config.parse({"beliefs": {"A": float("nan")}}), "give a finite number"),
        (lambda: ScriptedAnswer("A", beliefs={"A": 0.7, "B": 0.7}), "sums to more than 1"),
        (lambda: Config.parse({"logprob": 0.5}), "logprob"),
    ],
)
def test_a_script_that_makes_no_sense(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


async def test_it_remembers_what_it_was_asked():
    engine = ScriptedEngine(config=Config(keep_requests=2))
    for index in range(3):
        await engine.generate([ask(id=str(index))])
    assert [request.id for request in engine.requests] == ["1", "2"]
    assert engine.num_calls == 3


async def test_chosen_calls_fail():
    engine = ScriptedEngine(["a", "b"], Config(fail_calls=frozenset({2})))
    assert await texts(engine, ask()) == ["a"]
    with pytest.raises(EngineUnavailableError, match=r"'n2'.*call 2.*fail_calls"):
        await engine.generate([ask(id="n2")])
    assert await texts(engine, ask()) == ["b"], "a failed call uses up no answer"


# --- tokens ---


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_ids_decode_to_the_text(text):
    ids = encode(text)
    assert decode(ids) == text
    assert all(4 <= each < 2**31 for each in ids)


@given(st.text(max_size=20), st.integers(0, 30))
def test_a_cut_decodes_to_a_beginning_of_the_text(text, num_tokens):
    assert text.startswith(decode(encode(text)[:num_tokens]))


def test_ids_from_within_a_character_decode_to_replacements():
    assert decode(encode("ab🙂x")[1:]) == "\ufffd" * 3 + "x"


async def test_the_ids_of_a_prompt_begin_with_those_of_its_first_parts():
    engine = ScriptedEngine()
    [short, long] = await engine.generate(
        [ask(parts=("Rules. ", "Source.")), ask(parts=("Rules. ", "Source.", " Turn 1."))]
    )
    shared = short.prompt_ids[:-1]
    assert long.prompt_ids[: len(shared)] == shared
    assert decode(long.prompt_ids) == "Rules. Source. Turn 1."


async def test_an_answer_ends_with_an_end_token_or_is_cut():
    [whole, cut] = await ScriptedEngine({".": "abcdef"}).generate(
        [ask(max_tokens=3), ask(max_tokens=2)]
    )
    assert (whole.text, len(whole.token_ids), whole.finish_reason) == (
        "abcdef",
        3,
        FinishReason.STOP,
    )
    assert whole.token_ids[-1] == 0
    assert (cut.text, cut.token_ids, cut.finish_reason) == (
        "abcdef",
        encode("abcdef"),
        FinishReason.LENGTH,
    )


# --- choices and log-probabilities ---


async def test_beliefs_show_in_the_alternatives_and_decide_the_choice():
    engine = ScriptedEngine(lambda _: ScriptedAnswer(beliefs={"B": 0.2, "A": 0.6}))
    request = ask(choices=("A", "B"), temperature=0.0, logprobs=True, top_logprobs=5)
    [answer] = await engine.generate([request])
    assert answer.text == "A"
    assert answer.top[0] == (("A", math.log(0.6)), ("B", math.log(0.2)))
    assert answer.logprobs == (0.0, 0.0)


@pytest.mark.parametrize(("temperature", "odds"), [(1.0, 3.0), (0.5, 9.0), (2.0, math.sqrt(3.0))])
async def test_a_choice_has_the_log_probability_it_was_drawn_with(temperature, odds):
    engine = ScriptedEngine(lambda _: ScriptedAnswer(beliefs={"A": 0.6, "B": 0.2}))
    requests = [
        ask(choices=("A", "B"), temperature=temperature, seed=seed, logprobs=True)
        for seed in range(400)
    ]
    answers = await engine.generate(requests)
    expected = {"A": odds / (1 + odds), "B": 1 / (1 + odds)}
    for answer in answers:
        assert answer.logprobs is not None
        assert answer.logprobs[0] == pytest.approx(math.log(expected[answer.text]))
    share = sum(answer.text == "A" for answer in answers) / 400
    assert share == pytest.approx(expected["A"], abs=0.1)


async def test_choices_are_uniform_unless_the_script_says_otherwise():
    engine = ScriptedEngine({"speech": "no choice", ".": "B"})
    asked = [
        ask(text, choices=("A", "B"), logprobs=True, top_logprobs=2) for text in ("speech", "x")
    ]
    [uniform, certain] = await engine.generate(asked)
    assert dict(uniform.top[0]) == {"A": math.log(0.5), "B": math.log(0.5)}
    assert (certain.text, certain.top[0]) == ("B", (("B", 0.0),))


async def test_settings_give_beliefs_where_the_answer_is_no_choice():
    engine = build(Config(beliefs={"A": 0.9, "B": 0.1}))
    [answer] = await engine.generate(
        [ask(choices=("A", "B"), temperature=0.0, logprobs=True, top_logprobs=2)]
    )
    assert dict(answer.top[0]) == {"A": math.log(0.9), "B": math.log(0.1)}


async def test_it_can_be_an_engine_without_choices_and_log_probabilities():
    engine = build(Config(choices=False, logprobs=False))
    assert engine.capabilities == Capabilities(logprobs=False, choices=False, is_served=True)
    with pytest.raises(EngineRefusedError, match="choices = False"):
        await engine.generate([ask(choices=("A",))])
    with pytest.raises(EngineRefusedError, match="logprobs = False"):
        await engine.generate([ask(logprobs=True)])


# --- time ---


async def test_latency_passes_side_by_side():
    engine = build(Config(latency_s=0.1))
    started = time.perf_counter()
    answers = await engine.generate([ask(id=str(index)) for index in range(256)])
    assert 0.1 <= time.perf_counter() - started < 2.0
    assert all(answer.seconds >= 0.09 for answer in answers)


async def test_a_cancelled_call_returns_what_its_time_allowed():
    engine = ScriptedEngine({".": "abc" * 100}, Config(latency_s=30.0))
    asking = asyncio.create_task(engine.generate([ask(id="x", logprobs=True)]))
    await asyncio.sleep(0.05)
    await engine.cancel("x")
    [answer] = await asking
    assert answer.finish_reason is FinishReason.CANCELLED
    assert answer.text == decode(answer.token_ids)
    assert len(answer.token_ids) == len(answer.logprobs or ()) < 10
    assert answer.seconds < 5


async def test_a_stream_takes_its_time_in_pieces():
    engine = ScriptedEngine({".": "abcdefghijkl"}, Config(latency_s=0.04, tokens_per_chunk=1))
    times = []
    async for chunk in engine.stream(ask()):
        times.append((chunk.text, time.perf_counter()))
    assert [text for text, _ in times] == ["abc", "def", "ghi", "jkl", ""]
    assert times[3][1] - times[0][1] >= 0.02
