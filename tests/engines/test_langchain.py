"""The langchain engine over real chat models of langchain-core, and OpenAI's where installed."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

from oversight.cli.main import run
from oversight.engines import check_engine, identify, open_engine
from oversight.engines.langchain import Config, LangChainEngine
from oversight.errors import (
    AccessError,
    ConfigError,
    EngineError,
    EngineRefusedError,
    EngineTimeoutError,
    EngineUnavailableError,
    MissingDependencyError,
    NoLogprobsError,
    PromptTooLongError,
)
from oversight.store import Store
from oversight.types import Engine, EngineSpec, FinishReason, Message, Prompt, Request, Sampling
from tests.engines.answering import BELIEF, SPEECH, Handler, answer

USAGE = {
    "input_tokens": 11,
    "output_tokens": 4,
    "total_tokens": 15,
    "input_token_details": {"cache_read": 8},
}


class Refused(Exception):
    """An error as providers' packages raise them."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status


class Said(BaseChatModel):
    """A chat model that says what it was made with, or fails so."""

    temperature: float = 1.0
    max_tokens: int = 0
    message: AIMessage = Field(default_factory=lambda: AIMessage(SPEECH, usage_metadata=USAGE))
    error: Any = None
    wait_s: float = 0.0
    seen: list[Any] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "said"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.seen.append((messages, stop, kwargs))
        if self.error is not None:
            raise self.error
        return ChatResult(generations=[ChatGeneration(message=self.message)])

    async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        await asyncio.sleep(self.wait_s)
        return self._generate(messages, *args, **kwargs)

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for word in str(self.message.content).split(" "):
            await asyncio.sleep(self.wait_s)
            yield ChatGenerationChunk(message=AIMessageChunk(word + " "))
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                "", response_metadata={"finish_reason": "stop"}, usage_metadata=USAGE
            )
        )


def ask(**sampling: Any) -> Request:
    messages = (
        Message(role="system", parts=("Be brief.",)),
        Message(role="user", parts=("Who?",)),
    )
    return Request(Prompt(messages=messages), Sampling(**sampling), id="r1")


def engine(monkeypatch: pytest.MonkeyPatch, model: BaseChatModel, **settings: Any) -> Engine:
    """An engine whose chat model is `model`, as a user's own file would give it."""
    made: list[dict[str, Any]] = []

    def own(**given: Any) -> BaseChatModel:
        made.append(given)
        return model

    monkeypatch.setattr("oversight.engines.langchain.load_named", lambda *_: own)
    monkeypatch.setattr("oversight.engines.langchain.content_of", lambda name, _: name)
    opened = open_engine(EngineSpec(engine="langchain", settings={"model": "a.py:own", **settings}))
    assert isinstance(opened, LangChainEngine)
    opened.made = made  # type: ignore[attr-defined]
    return opened


async def one(opened: Engine, request: Request) -> Any:
    [found] = await opened.generate([request])
    return found


async def test_an_answer_has_text_usage_and_model_and_parameters_are_of_the_request(monkeypatch):
    message = AIMessage(
        SPEECH, usage_metadata=USAGE, response_metadata={"model_name": "m-1", "stop_reason": "end"}
    )
    said = Said(message=message)
    opened = engine(monkeypatch, said, options={"base_url": "http://x"})
    found = await one(opened, ask(temperature=0.3, max_tokens=9, stop=("END",), seed=7))
    assert (found.text, found.model, found.engine) == (SPEECH, "m-1", "langchain")
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (11, 4)
    assert found.usage.cached_tokens == 8
    assert found.finish_reason is FinishReason.STOP
    assert not found.token_ids
    [given] = opened.made
    assert (given["temperature"], given["max_tokens"], given["base_url"]) == (0.3, 9, "http://x")
    [(messages, stop, _)] = said.seen
    assert isinstance(messages[0], SystemMessage)
    assert stop == ["END"]
    await opened.generate([ask(temperature=0.3, max_tokens=9, seed=each) for each in range(3)])
    assert len(opened.made) == 1


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"finish_reason": "length"}, FinishReason.LENGTH),
        ({"stop_reason": "max_tokens"}, FinishReason.LENGTH),
        ({"done_reason": "length"}, FinishReason.LENGTH),
        ({"stopReason": "guardrail_intervened"}, FinishReason.CONTENT_FILTER),
        ({"finish_reason": "SAFETY"}, FinishReason.CONTENT_FILTER),
        ({"stop_reason": "refusal"}, FinishReason.REFUSAL),
        ({"stop_reason": "end_turn"}, FinishReason.STOP),
    ],
)
async def test_the_reasons_of_ends_are_read_by_every_providers_name(monkeypatch, metadata, reason):
    message = AIMessage("Half of", response_metadata=metadata)
    assert (await one(engine(monkeypatch, Said(message=message)), ask())).finish_reason is reason


async def test_an_answer_without_a_reason_that_used_all_its_tokens_was_cut(monkeypatch, caplog):
    opened = engine(monkeypatch, Said())
    assert (await one(opened, ask(max_tokens=4))).finish_reason is FinishReason.LENGTH
    assert (await one(opened, ask(max_tokens=5))).finish_reason is FinishReason.STOP
    said = [each for each in caplog.records if "no finish reason" in each.getMessage()]
    assert len(said) == 1


@pytest.mark.parametrize(
    "message",
    [
        AIMessage([{"type": "thinking", "thinking": "So."}, {"type": "text", "text": "Ada."}]),
        AIMessage("Ada.", additional_kwargs={"reasoning_content": "So."}),
        AIMessage(
            [
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "So."}]},
                {"type": "text", "text": "Ada."},
            ]
        ),
    ],
)
async def test_thoughts_are_kept_apart(monkeypatch, message):
    found = await one(engine(monkeypatch, Said(message=message)), ask())
    assert (found.text, found.reasoning) == ("Ada.", "So.")


async def test_a_call_of_a_tool_and_a_refusal_are_no_answers(monkeypatch):
    call = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}])
    found = await one(engine(monkeypatch, Said(message=call)), ask())
    assert found.finish_reason is FinishReason.TOOL_CALLS
    no = AIMessage("", additional_kwargs={"refusal": "I cannot."})
    found = await one(engine(monkeypatch, Said(message=no)), ask())
    assert found.finish_reason is FinishReason.REFUSAL


async def test_a_stream_grows_and_ends_with_the_whole(monkeypatch):
    chunks = [each async for each in engine(monkeypatch, Said()).stream(ask())]
    assert len(chunks) > 5
    whole = chunks[-1].completion
    assert whole is not None
    assert whole.text == "".join(each.text for each in chunks)
    assert whole.usage.completion_tokens == 4


async def test_what_is_cancelled_ends_with_what_had_arrived(monkeypatch):
    opened = engine(monkeypatch, Said(wait_s=0.01))
    chunks = []
    async for chunk in opened.stream(ask()):
        chunks.append(chunk)
        await opened.cancel("r1")
    whole = chunks[-1].completion
    assert whole is not None
    assert whole.finish_reason is FinishReason.CANCELLED
    assert whole.text == "".join(each.text for each in chunks)
    assert len(whole.text) < len(SPEECH)
    slow = engine(monkeypatch, Said(wait_s=60.0))
    asking = asyncio.create_task(one(slow, ask()))
    await asyncio.sleep(0.05)
    await slow.cancel("r1")
    assert (await asking).finish_reason is FinishReason.CANCELLED


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (Refused(401, "bad key"), AccessError, "put a valid key into MY_KEY (api_key_env"),
        (Refused(403, "no"), AccessError, "put a valid key into MY_KEY"),
        (Refused(404, "no such model"), AccessError, "check model (--model)"),
        (Refused(429, "slow down"), EngineUnavailableError, "lower max_in_flight"),
        (Refused(503, "busy"), EngineUnavailableError, "lower max_in_flight"),
        (Refused(400, "prompt is too long: 9 tokens"), PromptTooLongError, "shorten the prompt"),
        (Refused(400, "top_p is not supported"), EngineRefusedError, 'leave_out = ["top_p"]'),
        (ConnectionError("refused"), EngineUnavailableError, "nobody answers"),
        (TimeoutError("read"), EngineTimeoutError, "no answer within timeout_s = 600"),
        (ValueError("odd"), EngineError, "ValueError: odd"),
    ],
)
async def test_a_providers_error_comes_to_ours_with_what_to_do(monkeypatch, error, kind, words):
    monkeypatch.setenv("MY_KEY", "sk-secret-4711-0815")
    opened = engine(monkeypatch, Said(error=error), api_key_env="MY_KEY")
    with pytest.raises(kind) as raised:
        await one(opened, ask())
    assert type(raised.value) is kind
    assert words in str(raised.value)
    assert opened.made[0]["api_key"] == "sk-secret-4711-0815"


async def test_a_slow_answer_ends_with_the_setting(monkeypatch):
    with pytest.raises(EngineTimeoutError, match=r"timeout_s = 0\.05"):
        await one(engine(monkeypatch, Said(wait_s=60.0), timeout_s=0.05), ask())


async def test_a_status_is_found_behind_other_errors_and_a_key_is_not_shown(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret-4711-0815")
    error = RuntimeError("wrapped sk-secret-4711-0815")
    error.__cause__ = Refused(404, "gone")
    with pytest.raises(AccessError) as raised:
        await one(engine(monkeypatch, Said(error=error), api_key_env="MY_KEY"), ask())
    assert "4711" not in str(raised.value)


async def test_log_probabilities_are_given_or_found_out(monkeypatch, caplog):
    found = {"content": [{"token": "A", "logprob": -0.1, "top_logprobs": []}]}
    message = AIMessage("A", response_metadata={"logprobs": found, "finish_reason": "stop"})
    opened = engine(monkeypatch, Said(message=message), logprobs=True)
    given = await one(opened, ask(logprobs=True))
    assert given.logprobs == (-0.1,)
    assert opened.made[0]["logprobs"] is True
    without = engine(monkeypatch, Said(), logprobs=True)
    with pytest.raises(NoLogprobsError):
        await one(without, ask(logprobs=True))
    assert not without.capabilities.logprobs
    assert [each.levelno for each in caplog.records if "judges write" in each.getMessage()] == [
        logging.WARNING
    ]
    with pytest.raises(NoLogprobsError):
        await one(engine(monkeypatch, Said()), ask(logprobs=True))
    with pytest.raises(EngineRefusedError):
        await one(engine(monkeypatch, Said()), ask(choices=("A", "B")))


async def test_a_closed_engine_refuses(monkeypatch):
    opened = engine(monkeypatch, Said())
    await opened.aclose()
    with pytest.raises(EngineUnavailableError):
        await one(opened, ask())


# --- before anything runs ---


def test_what_cannot_be_made_is_told_before_anything_runs(monkeypatch):
    with pytest.raises(ConfigError, match="api_key is a secret"):
        Config.parse({"model": "openai:m", "options": {"api_key": "sk-1234567890"}})
    with pytest.raises(ConfigError, match="temperature is set for each request"):
        Config.parse({"model": "openai:m", "options": {"temperature": 1}})
    spec = EngineSpec(engine="langchain", settings={"model": "openai:m", "api_key_env": "NO_KEY"})
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(ConfigError, match="api_key_env = 'NO_KEY': that environment variable"):
        check_engine(spec)


def test_without_langchain_its_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "langchain", None)
    monkeypatch.setitem(__import__("sys").modules, "langchain.chat_models", None)
    spec = EngineSpec(engine="langchain", settings={"model": "openai:m"})
    with pytest.raises(MissingDependencyError, match=r"pip install \"oversight\[langchain\]\""):
        check_engine(spec)


OWN = """
from langchain_core.language_models import GenericFakeChatModel

def own(**given):
    def words():
        while True:
            yield "Probability of A: 80%. Probability of B: 20%"
    return GenericFakeChatModel(messages=words())
"""


def test_a_model_of_ones_own_debates_from_the_command_line(tmp_path: Path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(OWN)
    spec = EngineSpec(engine="langchain", settings={"model": "mine.py:own"})
    first = identify(spec)
    assert "mine.py" not in str(first.settings["model"])
    words = ["debate", "-d", "world", "--limit", "2", "-p", "debate_single_turn", "--no-live"]
    assert run([*words, "--engine", "langchain", "--model", "mine.py:own"]) == 0
    with Store.open("oversight.db", create=False) as opened:
        found = list(opened.transcripts())
    assert [each.judgments[0].final.method for each in found] == ["parsed", "parsed"]
    said = [each for each in caplog.records if "no log-probabilities" in each.getMessage()]
    assert len(said) <= 2  # of the speakers' engine and of the judge's
    assert said


# --- a provider's own package, against a server on loopback ---


@pytest.fixture
def server() -> Iterator[Any]:
    found: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.daemon_threads = True
    found.lock, found.asked = threading.Lock(), []
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


async def test_openais_own_package_is_asked_through_langchain(server, monkeypatch):
    pytest.importorskip("langchain", reason="needs the extra langchain")
    pytest.importorskip("langchain_openai", reason="needs langchain-openai")
    monkeypatch.setenv("MY_KEY", "sk-loopback-4711")
    settings = {
        "model": "openai:m",
        "api_key_env": "MY_KEY",
        "max_retries": 0,
        "options": {"base_url": f"http://127.0.0.1:{server.server_port}/v1"},
    }
    spec = EngineSpec(engine="langchain", settings=settings)
    check_engine(spec)
    opened = open_engine(spec)
    server.reply = lambda asked, number: answer(BELIEF, "length", role="assistant")
    found = await one(opened, ask(temperature=0.5, max_tokens=30))
    assert (found.text, found.finish_reason) == (BELIEF, FinishReason.LENGTH)
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (11, 4)
    assert server.asked[0]["temperature"] == 0.5
    assert [each["role"] for each in server.asked[0]["messages"]] == ["system", "user"]
    for status, kind in ((401, AccessError), (404, AccessError), (429, EngineUnavailableError)):
        server.reply = lambda asked, number, status=status: (status, {"error": {"message": "no"}})
        with pytest.raises(kind):
            await one(opened, ask(temperature=0.5, max_tokens=30))
