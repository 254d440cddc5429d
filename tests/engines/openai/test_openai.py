"""Requests and answers of the openai engine, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from oversight import redaction
from oversight.engines.openai import OpenAIEngine
from oversight.engines.openai.settings import Config, Wire
from oversight.errors import BudgetExceededError, ConfigError, EngineError, EngineRefusedError
from oversight.types import Engine, FinishReason, Message, Prompt, Request, Sampling

VLLM_CHAT = (
    {
        "model": "m-2",
        "prompt_token_ids": [1, 2, 3],
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}],
    },
    {
        "choices": [
            {
                "index": 0,
                "delta": {"content": "A"},
                "token_ids": [65],
                "logprobs": {
                    "content": [
                        {
                            "token": "A",
                            "logprob": -0.25,
                            "top_logprobs": [
                                {"token": "A", "logprob": -0.25},
                                {"token": " B", "logprob": -1.5},
                                {"token": "", "logprob": -9999.0},
                            ],
                        }
                    ]
                },
            }
        ]
    },
    {
        "choices": [
            {
                "index": 0,
                "delta": {"content": ""},
                "token_ids": [0],
                "finish_reason": "stop",
                "logprobs": {"content": [{"token": "", "logprob": 0.0, "top_logprobs": []}]},
            }
        ]
    },
    {
        "choices": [],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 2},
        },
    },
)


def test_it_is_an_engine(open_engine):
    assert isinstance(open_engine(), Engine)


async def test_chat_sends_messages_and_sampling_and_reads_the_answer(server, open_engine, wire):
    server.script.append(wire.says(wire.chat("Yes.", finish_reason="length")))
    messages = (
        Message(role="system", parts=("Be ", "brief.")),
        Message(role="user", parts=("Well?",)),
    )
    sampling = Sampling(max_tokens=9, temperature=0.5, top_p=0.9, stop=("\n",), seed=3)
    [answer] = await open_engine().generate([Request(Prompt(messages=messages), sampling, id="x")])
    assert server.seen[0].path == "/v1/chat/completions"
    assert server.seen[0].body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Well?"},
        ],
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop": ["\n"],
        "seed": 3,
    }
    assert (answer.text, answer.request_id, answer.model) == ("Yes.", "x", "m-2")
    assert answer.finish_reason is FinishReason.LENGTH
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 3)
    assert answer.usage.cached_tokens is None
    assert answer.seconds > 0


async def test_completions_sends_one_text_and_reads_its_log_probabilities(
    server, open_engine, wire
):
    choice = {
        "index": 0,
        "text": " four",
        "finish_reason": "stop",
        "logprobs": {
            "tokens": [" fo", "ur"],
            "token_logprobs": [-0.5, -0.1],
            "top_logprobs": [{" fo": -0.5, " fi": -2.0, "": -9999.0}, None],
        },
    }
    server.script.append(wire.says({"choices": [choice]}))
    engine = open_engine(api="completions")
    request = wire.ask("2 + 2 is", logprobs=True, top_logprobs=5)
    [answer] = await engine.generate([request])
    assert server.seen[0].path == "/v1/completions"
    assert server.seen[0].body["prompt"] == "2 + 2 is"
    assert server.seen[0].body["logprobs"] == 5
    assert answer.text == " four"
    assert answer.logprobs == (-0.5, -0.1)
    assert answer.top == (((" fo", -0.5), (" fi", -2.0)), ())


async def test_several_messages_become_one_labelled_text(server, open_engine, wire):
    server.script.append(wire.says({"choices": [{"text": "ok", "finish_reason": "stop"}]}))
    messages = (Message(role="system", parts=("S",)), Message(role="user", parts=("U",)))
    await open_engine(api="completions").generate([Request(Prompt(messages=messages))])
    assert server.seen[0].body["prompt"] == "System: S\n\nUser: U\n\nAssistant:"


@pytest.mark.parametrize("api", ["chat", "completions"])
async def test_vllm_gives_ids_log_probabilities_and_cached_tokens(server, open_engine, wire, api):
    events = VLLM_CHAT
    if api == "completions":
        events = (
            {"choices": [{"text": "", "prompt_token_ids": [1, 2, 3], "token_ids": []}]},
            {
                "choices": [
                    {
                        "text": "A",
                        "token_ids": [65],
                        "logprobs": {
                            "token_logprobs": [-0.25],
                            "top_logprobs": [{"A": -0.25, " B": -1.5, "": -9999.0}],
                        },
                    }
                ]
            },
            {
                "choices": [
                    {
                        "text": "",
                        "token_ids": [0],
                        "logprobs": {"token_logprobs": [0.0], "top_logprobs": [None]},
                        "finish_reason": "stop",
                    }
                ]
            },
            VLLM_CHAT[-1],
        )
    server.script.append(wire.streams(*events))
    engine = open_engine(api=api, dialect="vllm")
    [answer] = await engine.generate(
        [wire.ask(choices=("A", "B"), logprobs=True, top_logprobs=5, max_tokens=4)]
    )
    assert answer.prompt_ids == (1, 2, 3)
    assert answer.token_ids == (65, 0)
    assert answer.logprobs == (-0.25, 0.0)
    assert answer.top == ((("A", -0.25), (" B", -1.5)), ())
    assert answer.usage.cached_tokens == 2
    body = server.seen[0].body
    assert body["structured_outputs"] == {"choice": ["A", "B"]}
    assert body["return_token_ids"] is True
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


async def test_vllm_is_asked_for_the_very_distribution(server, open_engine, wire):
    """Every setting is sent: vLLM would fill gaps from the model's own generation settings."""
    server.script.append(wire.streams(*VLLM_CHAT))
    await open_engine(dialect="vllm", extra_body={"top_k": 5}).generate([wire.ask()])
    body = server.seen[0].body
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (5, 0.0, 1.0)
    assert (body["temperature"], body["top_p"]) == (1.0, 1.0)


async def test_vllm_is_asked_for_one_alternative_more_as_it_counts_the_sampled_one(
    server, open_engine, wire
):
    server.default = wire.streams(*VLLM_CHAT)
    engine = open_engine(dialect="vllm")
    await engine.generate([wire.ask(logprobs=True, top_logprobs=2)])
    [answer] = await engine.generate([wire.ask(logprobs=True, top_logprobs=1)])
    await engine.generate([wire.ask(logprobs=True, top_logprobs=20)])
    await engine.generate([wire.ask(logprobs=True)])
    asked = [exchange.body.get("top_logprobs") for exchange in server.seen]
    assert asked == [3, 2, 20, None]
    assert answer.top == ((("A", -0.25),), ())


async def test_answers_keep_the_order_of_the_requests(server, open_engine, wire):
    async def echo(exchange):
        text = exchange.body["messages"][0]["content"]
        await asyncio.sleep(0.002 * (20 - int(text)))
        await exchange.json(wire.chat(text))

    server.default = echo
    requests = [wire.ask(str(index), id=f"r{index}") for index in range(20)]
    answers = await open_engine(max_in_flight=7).generate(requests)
    assert [answer.text for answer in answers] == [str(index) for index in range(20)]
    assert [answer.request_id for answer in answers] == [request.id for request in requests]
    assert server.most_open == 7
    assert server.num_connections == 7, "connections are used again"


async def test_many_in_flight_share_few_connections_after_a_burst(server, open_engine, wire):
    async def slow(exchange):
        await asyncio.sleep(0.02)
        await exchange.json(wire.chat())

    server.default = slow
    engine = open_engine(max_in_flight=40)
    await engine.generate([wire.ask(id=str(index)) for index in range(120)])
    assert server.most_open == 40
    assert server.num_connections == 40
    for _ in range(5):
        await engine.generate([wire.ask()])
    assert server.num_connections == 40


async def test_no_requests_no_answers(open_engine, server):
    assert await open_engine().generate([]) == []
    assert server.seen == []


async def test_missing_token_ids_are_said_once_in_the_log(server, open_engine, wire, caplog):
    server.default = wire.says(wire.chat())
    engine = open_engine()
    with caplog.at_level(logging.WARNING, logger="oversight.engines.openai"):
        answers = await engine.generate([wire.ask(id="1"), wire.ask(id="2")])
    assert [answer.token_ids for answer in answers] == [(), ()]
    assert len(caplog.records) == 1
    assert "no token ids" in caplog.text


# --- what a server cannot do ---


async def test_choices_need_the_vllm_dialect(server, open_engine, wire):
    engine = open_engine()
    assert not engine.capabilities.choices
    with pytest.raises(EngineRefusedError, match='dialect = "vllm"'):
        await engine.generate([wire.ask(choices=("A", "B"))])
    assert server.seen == []


async def test_a_server_that_ignores_choices_is_found_out(server, open_engine, wire):
    server.script.append(wire.streams(*VLLM_CHAT))
    with pytest.raises(EngineRefusedError, match="'A' is none of the choices"):
        await open_engine(dialect="vllm").generate([wire.ask(choices=("yes", "no"))])


async def test_a_server_without_log_probabilities_is_found_out(server, open_engine, wire):
    server.script.append(wire.says(wire.chat()))
    with pytest.raises(EngineRefusedError, match="logprobs = false"):
        await open_engine().generate([wire.ask(logprobs=True)])


async def test_log_probabilities_can_be_declared_absent(server, open_engine, wire):
    engine = open_engine(logprobs=False)
    assert not engine.capabilities.logprobs
    with pytest.raises(EngineRefusedError, match="logprobs = False"):
        await engine.generate([wire.ask(logprobs=True)])
    assert server.seen == []


async def test_a_vllm_server_without_ids_is_found_out(server, open_engine, wire):
    server.script.append(wire.streams(wire.delta("x", finish_reason="stop")))
    with pytest.raises(EngineRefusedError, match='dialect = "openai"'):
        await open_engine(dialect="vllm").generate([wire.ask()])


async def test_ids_and_log_probabilities_must_agree(server, open_engine, wire):
    last = {**VLLM_CHAT[2]["choices"][0], "logprobs": None}
    server.script.append(wire.streams(*VLLM_CHAT[:2], {"choices": [last]}))
    with pytest.raises(EngineError, match="1 log-probabilities for 2 token ids"):
        await open_engine(dialect="vllm").generate([wire.ask(logprobs=True)])


# --- whatever a model writes ---


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None}, ""),
        ({"content": ""}, ""),
        ({}, ""),
        ({"content": "x" * 100_000}, "x" * 100_000),
        ({"content": "\ud83d lone \udc00"}, "\ud83d lone \udc00"),
        ({"content": "\x1b]52;c;AAAA\x1b\\ \u202e {{ 7 * 7 }} <|im_end|>"}, None),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
        ({"content": None, "refusal": "I will not."}, "I will not."),
        ({"content": "said", "reasoning_content": "thought", "reasoning": "thought"}, "said"),
    ],
)
async def test_text_comes_back_as_it_is(server, open_engine, wire, message, text):
    server.script.append(wire.says(wire.chat(message=message)))
    [answer] = await open_engine().generate([wire.ask()])
    assert answer.text == (message["content"] if text is None else text)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", FinishReason.STOP),
        ("length", FinishReason.LENGTH),
        ("max_tokens", FinishReason.LENGTH),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("function_call", FinishReason.TOOL_CALLS),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("SAFETY", FinishReason.CONTENT_FILTER),
        ("refusal", FinishReason.REFUSAL),
        ("end_turn", FinishReason.STOP),
    ],
)
async def test_finish_reasons(server, open_engine, wire, reason, expected):
    server.script.append(wire.says(wire.chat(finish_reason=reason)))
    [answer] = await open_engine().generate([wire.ask()])
    assert answer.finish_reason is expected


async def test_a_prompt_with_lone_surrogates_can_be_sent(server, open_engine, wire):
    server.script.append(wire.says(wire.chat()))
    await open_engine().generate([wire.ask("a\ud83db \ud83d\ude42 é")])
    assert server.seen[0].body["messages"][0]["content"] == "a�b 🙂 é"


# --- the model and the key ---


async def test_the_only_model_served_is_taken(server, open_engine, wire):
    server.script.append(wire.says({"data": [{"id": "only"}]}))
    server.default = wire.says(wire.chat())
    engine = open_engine(model="")
    await engine.generate([wire.ask(id=str(index)) for index in range(5)])
    assert engine.model == "only"
    assert [exchange.path for exchange in server.seen].count("/v1/models") == 1
    assert server.seen[-1].body["model"] == "only"


@pytest.mark.parametrize("served", [[], ["a", "b"]])
async def test_a_model_must_be_named_unless_there_is_one(server, open_engine, wire, served):
    server.script.append(wire.says({"data": [{"id": each} for each in served]}))
    with pytest.raises(ConfigError, match=f"serves {len(served)} models") as raised:
        await open_engine(model="").generate([wire.ask()])
    assert all(repr(each) in str(raised.value) for each in served)


@pytest.mark.parametrize("listed", [{"data": [1]}, {"object": "list"}, [1]])
async def test_a_list_of_models_that_is_none(server, open_engine, wire, listed):
    server.script.append(wire.says(listed))
    with pytest.raises(EngineError, match="list of models"):
        await open_engine(model="").generate([wire.ask()])


async def test_the_key_comes_from_the_environment(server, open_engine, wire, monkeypatch):
    monkeypatch.setenv("SOME_KEY", " sk-secret \n")
    monkeypatch.delenv("NO_KEY", raising=False)
    server.default = wire.says(wire.chat())
    await open_engine(api_key_env="SOME_KEY").generate([wire.ask()])
    await open_engine(api_key_env="NO_KEY").generate([wire.ask()])
    sent = [exchange.headers.get("authorization") for exchange in server.seen]
    assert sent == ["Bearer sk-secret", None]


async def test_a_key_with_a_line_break_is_refused_without_showing_it(open_engine, monkeypatch):
    monkeypatch.setenv("SOME_KEY", "sk-sec\nret")
    with pytest.raises(ConfigError, match="SOME_KEY") as raised:
        open_engine(api_key_env="SOME_KEY")
    assert "sec" not in str(raised.value)


async def test_the_name_of_the_token_limit_and_extra_fields(server, open_engine, wire):
    server.script.append(wire.says(wire.chat()))
    engine = open_engine(
        max_tokens_name="max_completion_tokens", extra_body={"reasoning_effort": "low"}
    )
    await engine.generate([wire.ask(max_tokens=5)])
    body = server.seen[0].body
    assert body["max_completion_tokens"] == 5
    assert "max_tokens" not in body
    assert body["reasoning_effort"] == "low"


# --- the budget ---


async def test_no_more_requests_than_the_budget_has(server, open_engine, wire):
    async def slow(exchange):
        await asyncio.sleep(0.01)
        await exchange.json(wire.chat())

    server.default = slow
    engine = open_engine(max_requests=3)
    asking = (engine.generate([wire.ask(id=str(index))]) for index in range(10))
    results = await asyncio.gather(*asking, return_exceptions=True)
    refused = [each for each in results if isinstance(each, BudgetExceededError)]
    assert len(server.seen) == 3
    assert len(refused) == 7
    assert "max_requests = 3" in str(refused[0])


async def test_nothing_is_sent_once_the_tokens_are_used_up(server, open_engine, wire):
    server.default = wire.says(wire.chat())  # 10 tokens
    engine = open_engine(max_total_tokens=20)
    await engine.generate([wire.ask()])
    await engine.generate([wire.ask()])
    with pytest.raises(BudgetExceededError, match="20 of max_total_tokens = 20"):
        await engine.generate([wire.ask()])
    assert len(server.seen) == 2


async def test_a_retry_is_no_second_request_of_the_budget(server, open_engine, wire):
    server.script.append(wire.says({}, 500))
    server.default = wire.says(wire.chat())
    engine = open_engine(max_requests=1)
    await engine.generate([wire.ask()])
    assert engine.budget.num_requests == 1
    assert engine.budget.num_tokens == 10


# --- settings ---


def test_llama_cpp_is_asked_for_enforced_choices_and_the_whole_distribution():
    config = Config.parse({"dialect": "llama.cpp"})
    wire = Wire(config.api, config.dialect, config.max_tokens_name, config.extra_body)
    sampling = Sampling(choices=("A", 'B "b"'), logprobs=True, top_logprobs=3)
    request = Request(Prompt(messages=(Message(role="user", parts=()),)), sampling)
    sent = json.loads(wire.body("m", request, request.prompt, stream=False, live=False))
    assert sent["grammar"] == r'root ::= "A" | "B \"b\""'
    assert (sent["top_k"], sent["min_p"], sent["top_logprobs"]) == (0, 0.0, 3)
    assert {"return_token_ids", "structured_outputs", "stream"}.isdisjoint(sent)
    assert config.logprobs_temperature(Sampling(temperature=0.5)) == 1.0
    assert OpenAIEngine(config).capabilities.choices


@pytest.mark.parametrize(
    "address",
    [
        "https://user:{}@host.invalid/v1",
        "https://{}@host.invalid/v1",
        "https://user:{}#{}@host.invalid/v1",
        "https://user:{}/8/{}@host.invalid/v1",
        "ftp://user:{}@host.invalid/v1",
        "user:{}@host.invalid/v1",
        "http://user:{}@[::bad/v1",
    ],
)
@pytest.mark.parametrize("password", ["hunter2-pw", "p%40ss-w0rd", "kq7", "a@kq7zz"])
def test_no_message_shows_a_password_in_an_address(monkeypatch, open_engine, address, password):
    monkeypatch.setattr(redaction, "_registered", set())
    given = address.replace("{}", password)
    with pytest.raises(ConfigError) as refused:
        open_engine(base_url=given)
    with pytest.raises(ConfigError) as also:
        open_engine(base_url=("http://127.0.0.1:9/v1", given))
    for said in map(str, (refused.value, also.value)):
        assert password not in said
        assert "***@" in said


@pytest.mark.parametrize(
    "fields",
    [
        {"proxy": "http://ann:hunter2-pw@proxy.invalid:8080"},
        {"default_headers": {"Authorization": "Bearer hunter2-pw"}},
        {"a": {"b": {"api_key": "hunter2-pw"}}},
    ],
)
def test_a_secret_at_any_depth_of_further_fields_is_refused(monkeypatch, open_engine, fields):
    monkeypatch.setattr(redaction, "_registered", set())
    with pytest.raises(ConfigError, match="is a secret") as refused:
        open_engine(extra_body=fields)
    assert "hunter2-pw" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_url": "localhost:8000"}, "http://"),
        ({"base_url": "http://"}, "http://"),
        ({"base_url": "http://user:pw@host/v1"}, "api_key_env"),
        ({"base_url": "http://[::1"}, "no address"),
        ({"extra_body": {"temperature": 0}}, "temperature is set for each request"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"api": "responses"}, "'chat' or 'completions'"),
        ({"apy": "chat"}, "Did you mean 'api'"),
    ],
)
def test_settings_that_make_no_sense(open_engine, settings, words):
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        open_engine(**settings)


def test_what_does_not_determine_a_result_is_left_out_of_the_identity(open_engine):
    from oversight.engines.openai import Config

    kept = set(Config().identity())
    assert kept == {
        *("model", "api", "dialect", "logprobs", "max_tokens_name", "extra_body"),
    }
    json.dumps(Config().identity())
