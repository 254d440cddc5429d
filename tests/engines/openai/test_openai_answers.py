"""Thoughts, refusals and filters beside or in place of an answer; and other servers."""

from __future__ import annotations

import logging

import pytest

from oversight.engines.openai.settings import Config
from oversight.errors import ConfigError, EngineRefusedError
from oversight.types import FinishReason, Message, Prompt, Request, Sampling

TOLD = (
    Message(role="system", parts=("Rules.",)),
    Message(role="user", parts=("One.",)),
    Message(role="user", parts=("Two.",)),
)


def told(**sampling):
    return Request(Prompt(messages=TOLD), Sampling(**sampling), id="t")


async def one(engine, request):
    [answer] = await engine.generate([request])
    return answer


# --- what is read ---


@pytest.mark.parametrize(
    ("message", "reasoning"),
    [
        ({"content": "said", "reasoning_content": "thought"}, "thought"),
        ({"content": "said", "reasoning": "thought"}, "thought"),
        ({"content": "said", "reasoning": "thought", "reasoning_content": "thought"}, "thought"),
        ({"content": "said", "reasoning_details": [{"text": "thou"}, {"text": "ght"}]}, "thought"),
        ({"content": [{"type": "thinking", "thinking": "thought"}, {"text": "said"}]}, "thought"),
        (
            {"content": [{"type": "reasoning", "summary": [{"text": "thought"}]}, "said"]},
            "thought",
        ),
        ({"content": "said", "reasoning": None, "reasoning_content": ""}, ""),
        ({"content": [{"type": "image_url", "image_url": "x"}, {"text": "said"}]}, ""),
    ],
)
async def test_reasoning_is_read_apart_from_the_text(server, open_engine, wire, message, reasoning):
    server.script.append(wire.says(wire.chat(message=message)))
    answer = await one(open_engine(), wire.ask())
    assert (answer.text, answer.reasoning) == ("said", reasoning)


async def test_streamed_reasoning_is_collected_and_not_passed_on(server, open_engine, wire):
    events = [
        {"choices": [{"delta": {"reasoning_content": part, "content": None}}]}
        for part in ("I ", "think")
    ]
    server.script.append(
        wire.streams(*events, wire.delta("Said."), wire.delta(finish_reason="stop"))
    )
    chunks = [chunk async for chunk in open_engine().stream(wire.ask())]
    assert "".join(chunk.text for chunk in chunks) == "Said."
    assert chunks[-1].completion.reasoning == "I think"


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"message": {"content": None, "refusal": "No."}}, FinishReason.REFUSAL),
        ({"message": {"content": None}, "finish_reason": "content_filter"}, "content_filter"),
        ({"message": {"content": "Half"}, "finish_reason": "content_filter"}, "content_filter"),
        ({"message": {"content": None, "tool_calls": [{}]}}, FinishReason.TOOL_CALLS),
        ({"message": {"content": ""}}, FinishReason.STOP),
        ({"message": {"content": " \n"}, "finish_reason": "length"}, FinishReason.LENGTH),
        ({"message": {"content": None, "reasoning": "so"}}, FinishReason.STOP),
    ],
)
async def test_missing_log_probabilities_of_what_is_no_answer_are_no_error(
    server, open_engine, wire, choice, reason
):
    server.script.append(wire.says(wire.chat(**choice, logprobs=None)))
    answer = await one(open_engine(), wire.ask(logprobs=True))
    assert answer.finish_reason == reason


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 5.0, "completion_tokens": 6.0}, (5, 6)),
        ({"prompt_tokens": None, "completion_tokens": None}, (0, 0)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4.0}}, (5, 0)),
        (None, (0, 0)),
    ],
)
async def test_counts_are_read_as_floats_or_null_too(server, open_engine, wire, usage, counts):
    server.script.append(wire.says({**wire.chat(), "usage": usage}))
    answer = await one(open_engine(), wire.ask())
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == counts


async def test_a_filter_that_stops_a_request_is_an_end_of_its_answer(server, open_engine, wire):
    error = {"message": "filtered by our policy", "code": "content_filter"}
    server.script.append(wire.says({"error": error}, 400))
    answer = await one(open_engine(), wire.ask(logprobs=True))
    assert (answer.text, answer.finish_reason) == ("", FinishReason.CONTENT_FILTER)
    assert len(server.seen) == 1


# --- thoughts that the prompt opened ---


async def test_it_is_learnt_from_one_answer_that_prompts_open_a_thought(
    server, open_engine, wire, caplog
):
    server.script.append(wire.says(wire.chat("so\n</think>\nYes.")))
    server.script.append(wire.says(wire.chat("cut in the mid", finish_reason="length")))
    server.script.append(wire.says(wire.chat("Not thought at all.")))
    engine = open_engine()
    with caplog.at_level(logging.WARNING, logger="oversight.engines.openai"):
        opened = [(await one(engine, wire.ask())).opened for _ in range(3)]
    assert opened == [True, True, False]
    assert caplog.text.count("prompt_opens_thought = true") == 1


@pytest.mark.parametrize("known", [True, False])
async def test_whether_prompts_open_a_thought_can_be_said(server, open_engine, wire, known):
    server.script.append(wire.says(wire.chat("cut in the mid", finish_reason="length")))
    engine = open_engine(prompt_opens_thought=known)
    assert (await one(engine, wire.ask())).opened is known


@pytest.mark.parametrize(
    ("end", "opened"), [("<|assistant|>\n<think>\n", True), ("<|assistant|>\n", False)]
)
async def test_a_vllm_server_is_asked_once_how_prompts_end_when_it_matters(
    server, open_engine, wire, end, opened
):
    cut = {
        "prompt_token_ids": [1, 2, 3],
        **wire.delta("cut", token_ids=[7], finish_reason="length"),
    }
    whole = {"prompt_token_ids": [1, 2, 3], **wire.delta("x", token_ids=[7], finish_reason="stop")}

    async def step(exchange):
        if exchange.path.endswith("/detokenize"):
            await exchange.json({"prompt": end})
        else:
            first = exchange.body["messages"][0]["content"] == "first"
            await exchange.events([whole if first else cut])

    server.default = step
    engine = open_engine(dialect="vllm")
    answers = [await one(engine, wire.ask(text)) for text in ("first", "second", "third")]
    assert [answer.opened for answer in answers] == [False, opened, opened]
    [lookup] = [each for each in server.seen if each.path.endswith("/detokenize")]
    assert (lookup.path, lookup.body["tokens"]) == ("/detokenize", [1, 2, 3])


async def test_a_vllm_server_that_cannot_say_how_prompts_end_still_answers(
    server, open_engine, wire
):
    cut = {
        "prompt_token_ids": [1, 2, 3],
        **wire.delta("cut", token_ids=[7], finish_reason="length"),
    }

    async def step(exchange):
        if exchange.path.endswith("/detokenize"):
            await exchange.json({"detail": "Not Found"}, 404)
        else:
            await exchange.events([cut])

    server.default = step
    answer = await one(open_engine(dialect="vllm"), wire.ask())
    assert (answer.text, answer.opened) == ("cut", None)


# --- what is sent ---


@pytest.mark.parametrize("given", [{}, {"extra_body": {"chat_template_kwargs": {"tone": "dry"}}}])
async def test_thinking_is_switched_by_a_setting(server, open_engine, wire, given):
    server.script.append(wire.says(wire.chat()))
    await one(open_engine(enable_thinking=False, **given), wire.ask())
    sent = server.seen[0].body["chat_template_kwargs"]
    kept = given.get("extra_body", {}).get("chat_template_kwargs", {})
    assert sent == {**kept, "enable_thinking": False}


def test_thinking_is_switched_in_one_place_only(open_engine):
    twice = {"chat_template_kwargs": {"enable_thinking": True}}
    with pytest.raises(ConfigError, match="set one of them"):
        open_engine(enable_thinking=False, extra_body=twice)


async def test_parameters_are_left_out_by_setting(server, open_engine, wire):
    server.default = wire.says(wire.chat())
    names = ["temperature", "top_p", "seed", "stop", "max_tokens"]
    engine = open_engine(leave_out=names, max_tokens_name="max_completion_tokens")
    await one(engine, wire.ask(seed=1, stop=("x",)))
    assert set(server.seen[0].body) == {"model", "messages"}
    unknown = open_engine(leave_out=["temperature"], extra_body={"temperature": 1})
    await one(unknown, wire.ask())
    assert server.seen[1].body["temperature"] == 1


def test_log_probabilities_that_are_left_out_are_not_given(open_engine):
    assert not open_engine(leave_out=["logprobs"]).capabilities.logprobs


def test_a_parameter_that_there_is_not_cannot_be_left_out(open_engine):
    with pytest.raises(ConfigError, match="leave_out"):
        open_engine(leave_out=["messages"])


def test_settings_that_are_not_used_leave_a_debate_its_id(open_engine):
    from oversight.engines.openai import Config

    new = {"leave_out", "enable_thinking", "prompt_opens_thought", "system_role", "alternate"}
    assert not new & set(Config().identity())
    assert "leave_out" in Config(leave_out=("seed",)).identity()


@pytest.mark.parametrize(
    ("refusal", "advice"),
    [
        (
            {"error": {"message": "Unsupported value", "param": "temperature"}},
            'leave_out = ["temperature"]',
        ),
        (
            {"error": {"message": "give temperature or top_p, not both"}},
            'leave_out = ["temperature"] or leave_out = ["top_p"]',
        ),
        (
            {"error": {"message": "Use 'max_completion_tokens', not 'max_tokens'"}},
            'max_tokens_name = "max_completion_tokens"',
        ),
        ({"error": {"message": "top_logprobs is not supported"}}, "logprobs = false"),
        ({"detail": [{"loc": ["body", "seed"], "msg": "extra"}]}, 'leave_out = ["seed"]'),
        (
            {"error": {"message": "max_tokens is too large: the context has 4096 tokens"}},
            "change the request",
        ),
        ({"error": {"message": "stop doing this"}}, "change the request"),
    ],
)
async def test_a_refused_parameter_is_named_with_the_setting_that_helps(
    server, open_engine, wire, refusal, advice
):
    server.script.append(wire.says(refusal, 400))
    with pytest.raises(EngineRefusedError) as raised:
        await open_engine().generate([wire.ask()])
    assert advice in str(raised.value)


# --- roles ---


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "System role not supported"),
        (400, "Conversation roles must alternate user/assistant/user/assistant/..."),
        (400, "Only user and assistant roles are supported!"),
        (400, "messages[0].role does not support 'system' with this model"),
        (400, "Developer instruction is not enabled for models/g"),
        (422, "Input should be 'user' or 'assistant': unexpected role"),
        (500, "Jinja Exception: System role not supported"),
    ],
)
async def test_roles_that_a_server_refuses_are_folded_at_once_and_from_then_on(
    server, open_engine, wire, caplog, status, words
):
    async def step(exchange):
        roles = [message["role"] for message in exchange.body["messages"]]
        if roles != ["user"]:
            await exchange.json({"error": {"message": words}}, status)
        else:
            await exchange.json(wire.chat("Yes."))

    server.default = step
    engine = open_engine()
    with caplog.at_level(logging.WARNING, logger="oversight.engines.openai"):
        answers = [await one(engine, told()) for _ in range(2)]
    assert [answer.text for answer in answers] == ["Yes.", "Yes."]
    assert len(server.seen) == 3
    [folded] = server.seen[-1].body["messages"]
    assert folded["content"] == "Rules.\n\nOne.\n\nTwo."
    assert caplog.text.count('system_role = "fold"') == 1


async def test_roles_that_cannot_be_folded_are_a_refusal_that_names_the_settings(
    server, open_engine, wire
):
    server.default = wire.says({"error": {"message": "System role not supported"}}, 400)
    with pytest.raises(EngineRefusedError, match=r"system_role = .fold."):
        await open_engine().generate([wire.ask()])
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("settings", "roles"),
    [
        ({}, ["system", "user", "user"]),
        ({"system_role": "fold"}, ["user", "user"]),
        ({"alternate": True}, ["system", "user"]),
        ({"system_role": "fold", "alternate": True}, ["user"]),
    ],
)
async def test_roles_are_sent_as_set(server, open_engine, wire, settings, roles):
    server.default = wire.says(wire.chat())
    await one(open_engine(**settings), told())
    assert [message["role"] for message in server.seen[0].body["messages"]] == roles


async def test_a_busy_system_is_not_a_refused_role(server, open_engine, wire):
    server.script.append(wire.says({"error": {"message": "internal system error"}}, 500))
    server.default = wire.says(wire.chat("Yes."))
    assert (await one(open_engine(), told())).text == "Yes."
    assert server.seen[-1].body["messages"][0]["role"] == "system"


@pytest.mark.parametrize(
    ("settings", "sampling", "told"),
    [
        ({"dialect": "vllm"}, {"temperature": 1.0}, 1.0),
        ({"dialect": "vllm"}, {"temperature": 0.0}, 1.0),
        ({"dialect": "vllm"}, {"temperature": 0.8}, None),
        ({"logprobs_mode": "processed_logprobs"}, {"temperature": 0.8}, 0.8),
        ({"logprobs_mode": "processed_logprobs"}, {"temperature": 0.8, "top_p": 0.9}, None),
        ({"logprobs_mode": "processed_logprobs"}, {"temperature": 0.0, "top_p": 0.9}, 1.0),
        ({"logprobs_mode": "raw_logprobs"}, {"temperature": 0.8, "top_p": 0.9}, 1.0),
        ({"logprobs_mode": "raw_logprobs"}, {"choices": ("A", "B")}, None),
        ({"logprobs_mode": "raw_logprobs", "leave_out": ["temperature"]}, {}, None),
        ({"logprobs_mode": "raw_logprobs", "extra_body": {"top_k": 20}}, {}, None),
        ({}, {"temperature": 1.0}, None),
    ],
)
def test_the_temperature_of_a_servers_log_probabilities_is_told_where_it_is_known(
    settings, sampling, told
):
    config = Config.parse(settings, where="engine")
    assert config.logprobs_temperature(Sampling(logprobs=True, **sampling)) == told
