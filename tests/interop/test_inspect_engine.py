"""The inspect engine over real models of inspect-ai: its mock provider, and its OpenAI one."""

from __future__ import annotations

import asyncio
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oversight.engines import check_engine, identify, open_engine
from oversight.engines.inspect import Config, InspectEngine
from oversight.errors import (
    AccessError,
    BudgetExceededError,
    ConfigError,
    EngineError,
    EngineRefusedError,
    EngineTimeoutError,
    EngineUnavailableError,
    MissingDependencyError,
    NoLogprobsError,
)
from oversight.types import EngineSpec, FinishReason, Message, Prompt, Request, Sampling

MODELS = pytest.importorskip(
    "inspect_ai.model", reason="needs inspect-ai: pip install oversight[inspect]"
)

# Inspect's own calls of tenacity, whose newest version has another word for one argument.
pytestmark = pytest.mark.filterwarnings("ignore:The 'initial' parameter:DeprecationWarning")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mock model counts bytes: its own vocabulary would be fetched from the network."""
    tiktoken = pytest.importorskip("tiktoken")
    monkeypatch.setattr(tiktoken, "get_encoding", tiktoken.get_encoding)
    runpy.run_path(str(Path(__file__).parent / "offline" / "sitecustomize.py"))


def ask(**sampling: Any) -> Request:
    messages = (
        Message(role="system", parts=("Be brief.",)),
        Message(role="user", parts=("Who?",)),
        Message(role="user", parts=("Say.",)),
    )
    return Request(Prompt(messages=messages), Sampling(**sampling), id="r1")


class Said:
    """A mock model of Inspect's that keeps what it was given."""

    def __init__(self, answer: Any = "Ada.", wait_s: float = 0.0, **changes: Any) -> None:
        self.answer, self.wait_s, self.changes = answer, wait_s, changes
        self.seen: list[tuple[Any, Any]] = []

    async def __call__(self, given: Any, tools: Any, choice: Any, config: Any) -> Any:
        self.seen.append((given, config))
        await asyncio.sleep(self.wait_s)
        if isinstance(self.answer, Exception):
            raise self.answer
        output = MODELS.ModelOutput.from_content("mock-1", self.answer)
        for name, value in self.changes.items():
            target = output.choices[0] if hasattr(output.choices[0], name) else output
            setattr(target, name, value)
        return output


def engine(said: Said, **settings: Any) -> InspectEngine:
    model = MODELS.get_model("mockllm/model", custom_outputs=said)
    given = {"model": "mockllm/model", "max_retries": 0, **settings}
    return InspectEngine(Config.parse(given, where="engine"), model)


async def one(opened: Any, request: Request) -> Any:
    [found] = await opened.generate([request])
    return found


async def test_an_answer_has_text_usage_and_model_and_parameters_are_of_the_request():
    usage = MODELS.ModelUsage(
        input_tokens=11, output_tokens=4, total_tokens=23, input_tokens_cache_read=8
    )
    said = Said(usage=usage)
    opened = engine(said, options={"reasoning_effort": "low"})
    request = ask(temperature=0.3, max_tokens=9, top_p=0.5, stop=("END",), seed=7)
    found = await one(opened, request)
    assert (found.text, found.model, found.engine) == ("Ada.", "mock-1", "inspect")
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (19, 4)
    assert found.usage.cached_tokens == 8
    assert found.finish_reason is FinishReason.STOP
    assert not found.token_ids
    [(messages, config)] = said.seen
    assert messages[0].role == "system"
    assert (config.temperature, config.max_tokens, config.top_p, config.seed) == (0.3, 9, 0.5, 7)
    assert (config.stop_seqs, config.reasoning_effort) == (["END"], "low")
    assert (config.max_retries, config.timeout) == (0, 600)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("max_tokens", FinishReason.LENGTH),
        ("model_length", FinishReason.LENGTH),
        ("content_filter", FinishReason.CONTENT_FILTER),
        ("tool_calls", FinishReason.TOOL_CALLS),
        ("stop", FinishReason.STOP),
    ],
)
async def test_the_reason_of_an_end_is_told(given, reason):
    found = await one(engine(Said(stop_reason=given)), ask())
    assert found.finish_reason is reason


async def test_an_end_without_a_reason_is_a_cut_where_the_tokens_are_used_up():
    usage = MODELS.ModelUsage(input_tokens=1, output_tokens=5, total_tokens=6)
    found = await one(engine(Said(stop_reason="unknown", usage=usage)), ask(max_tokens=5))
    assert found.finish_reason is FinishReason.LENGTH


async def test_a_thought_and_a_refusal_are_kept_apart_from_the_text():
    from inspect_ai.model import ContentReasoning, ContentText

    thought = [ContentReasoning(reasoning="Hm."), ContentText(text="Ada.")]
    found = await one(engine(Said(thought)), ask())
    assert (found.text, found.reasoning) == ("Ada.", "Hm.")
    refused = await one(engine(Said([ContentText(text="I will not.", refusal=True)])), ask())
    assert refused.finish_reason is FinishReason.REFUSAL
    hidden = [ContentReasoning(reasoning="Zm9v", redacted=True), ContentText(text="Ada.")]
    assert (await one(engine(Said(hidden)), ask())).reasoning == ""


async def test_log_probabilities_are_given_where_the_provider_has_them(caplog):
    from inspect_ai.model import Logprob, Logprobs, TopLogprob

    token = Logprob(token="Ada", logprob=-0.1, top_logprobs=[TopLogprob(token="Bo", logprob=-2.5)])
    said = Said(logprobs=Logprobs(content=[token]))
    found = await one(engine(said, logprobs=True), ask(logprobs=True, top_logprobs=1))
    assert (found.logprobs, found.top) == ((-0.1,), ((("Bo", -2.5),),))
    assert (said.seen[0][1].logprobs, said.seen[0][1].top_logprobs) == (True, 1)
    opened = engine(Said(), logprobs=True)
    with pytest.raises(NoLogprobsError, match="sent no log-probabilities"):
        await one(opened, ask(logprobs=True))
    assert not opened.capabilities.logprobs
    with pytest.raises(NoLogprobsError, match="logprobs = False"):
        await one(engine(Said()), ask(logprobs=True))


async def test_roles_are_laid_together_where_a_provider_wants_turns():
    said = Said()
    await one(engine(said, system_role="fold", alternate=True, leave_out=["seed"]), ask(seed=3))
    [(messages, config)] = said.seen
    assert [(each.role, each.text) for each in messages] == [("user", "Be brief.\n\nWho?\n\nSay.")]
    assert config.seed is None


async def test_a_choice_is_refused_before_anything_is_asked():
    said = Said()
    with pytest.raises(EngineRefusedError, match="Inspect enforces no choices"):
        await one(engine(said), ask(choices=("A", "B")))
    assert said.seen == []


class Refused(Exception):
    """An error as providers' packages raise them."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (Refused(401, "bad key"), AccessError, "valid key into ACME_KEY"),
        (Refused(404, "no such model"), AccessError, "check model"),
        (ConnectionError("refused"), EngineUnavailableError, "nobody answers"),
        (ValueError("odd"), EngineError, "ValueError: odd"),
    ],
)
async def test_errors_of_providers_are_those_of_engines(error, kind, said):
    opened = engine(Said(error), api_key_env="ACME_KEY")
    with pytest.raises(kind, match=said) as told:
        await one(opened, ask())
    assert "Inspect's mockllm/model: request 'r1'" in str(told.value)


async def test_a_limit_of_the_evaluation_ends_the_run():
    from inspect_ai.util import LimitExceededError

    error = LimitExceededError("token", value=11, limit=10)
    with pytest.raises(BudgetExceededError, match="Inspect's limit is reached") as told:
        await one(engine(Said(error)), ask())
    assert told.value.__cause__ is error


async def test_no_answer_in_time_is_an_error_and_a_cancelled_request_gives_what_it_has():
    with pytest.raises(EngineTimeoutError, match=r"timeout_s = 0\.05"):
        await one(engine(Said(wait_s=5.0), timeout_s=0.05), ask())
    opened = engine(Said(wait_s=5.0))
    asked = asyncio.create_task(one(opened, ask()))
    await asyncio.sleep(0.05)
    await opened.cancel("r1")
    found = await asked
    assert (found.finish_reason, found.text) == (FinishReason.CANCELLED, "")
    await opened.aclose()
    with pytest.raises(EngineUnavailableError, match="closed"):
        await one(opened, ask())


async def test_a_stream_ends_with_the_whole_answer():
    chunks = [each async for each in engine(Said("Ada did.")).stream(ask())]
    assert "".join(each.text for each in chunks) == "Ada did."
    assert chunks[-1].completion.text == "Ada did."


async def test_pieces_come_as_they_are_written_and_not_those_of_an_attempt_that_failed():
    from inspect_ai.model._stream import report_model_stream_delta

    class Streaming(Said):
        async def __call__(self, *given: Any) -> Any:
            from inspect_ai.model import StreamTextEvent

            for word in ("Ada ", "did."):
                await report_model_stream_delta(StreamTextEvent(text=word))
            return await super().__call__(*given)

    chunks = [each async for each in engine(Streaming("Ada did.")).stream(ask())]
    assert [each.text for each in chunks] == ["Ada ", "did.", ""]


async def test_many_requests_are_under_way_together_and_no_more_than_allowed():
    said = Said(wait_s=0.05)
    opened = engine(said, max_in_flight=2)
    begin = asyncio.get_running_loop().time()
    found = await opened.generate([ask() for _ in range(4)])
    assert len(found) == 4
    assert asyncio.get_running_loop().time() - begin >= 0.1


def test_a_model_that_cannot_be_made_is_refused_before_anything_runs(monkeypatch):
    def check(**settings: Any) -> None:
        check_engine(EngineSpec(engine="inspect", settings=settings))

    check(model="mockllm/model")
    with pytest.raises(ConfigError, match="provider/name"):
        check(model="nobody/model")
    with pytest.raises(ConfigError, match=r"ACME_KEY.*is not set"):
        check(model="mockllm/model", api_key_env="ACME_KEY")
    with pytest.raises(ConfigError, match=r"options\.efort is no option"):
        check(model="mockllm/model", options={"efort": 1})
    with pytest.raises(ConfigError, match="Inspect refuses them"):
        check(model="mockllm/model", options={"reasoning_effort": "huge"})
    with pytest.raises(ConfigError, match="temperature is set for each request"):
        check(model="mockllm/model", options={"temperature": 1})
    with pytest.raises(ConfigError, match="model"):
        check(model="gpt-4o")
    with pytest.raises(MissingDependencyError, match="anthropic"):
        check(model="anthropic/claude")


def test_an_address_is_no_part_of_what_a_debate_is_known_by():
    spec = identify(
        EngineSpec(
            engine="inspect",
            settings={"model": "openai/x", "base_url": "http://a", "model_args": {"a": 1}},
        )
    )
    assert "base_url" not in spec.settings
    assert (spec.settings["model"], spec.settings["model_args"]) == ("openai/x", {"a": 1})


async def test_the_engine_makes_its_own_model_and_closes_it():
    opened = open_engine(EngineSpec(engine="inspect", settings={"model": "mockllm/model"}))
    found = await one(opened, ask())
    assert found.text == "Default output from mockllm/model"
    await opened.aclose()


def test_without_the_package_the_engine_says_what_to_install():
    script = (
        "import sys\n"
        "sys.modules['inspect_ai'] = None\n"
        "from oversight.cli.main import main\n"
        "main(['debate', '-d', 'world', '--limit', '1', '--engine', 'inspect', '--model', 'a/b'])\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'pip install "oversight[inspect]"' in done.stderr
