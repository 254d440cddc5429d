"""Starts that fail, and what is left of a real server when the process that owns it is killed."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from oversight.chat import plain_text
from oversight.engines import openai
from oversight.engines.vllm import Config, build
from oversight.errors import EngineError, EngineUnavailableError
from oversight.types import Engine, Message, Prompt, Request, Sampling

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

PARENT = """
import asyncio, json, sys
from oversight.engines.vllm import Config, build

async def main():
    engine = build(Config.parse(json.loads(sys.argv[1])))
    starting = asyncio.create_task(engine.start())
    while not engine._replicas or engine._replicas[0].server._launcher is None:
        await asyncio.sleep(0.05)
    print(json.dumps([engine._replicas[0].server._launcher.pid, engine.urls[0]]), flush=True)
    await starting
    print("ready", flush=True)
    await asyncio.sleep(1000)

asyncio.run(main())
"""


def settings(model: Path, python: str, **others: object) -> dict[str, object]:
    return {
        "model": str(model),
        "python": python,
        "dtype": "float32",
        "max_model_len": 1024,
        "kv_cache_gib": 0.25,
        "extra_args": ["--enforce-eager"],
        **others,
    }


def family(launcher_pid: int) -> list[psutil.Process]:
    launcher = psutil.Process(launcher_pid)
    return [launcher, *launcher.children(recursive=True)]


def wait_until_gone(processes: list[psutil.Process], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while left := [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.1)


class Parent:
    """A process that starts a server with our engine, for somebody to kill."""

    def __init__(self, given: dict[str, object]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PARENT, json.dumps(given)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.launcher_pid, self.url = json.loads(self.process.stdout.readline())

    def wait_until_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def parent(
    tiny_model_without_template: Path, vllm_python: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Parent]:
    """With a model that has no chat template, and the server's own mode of log-probabilities."""
    others = {"logprobs_mode": "raw_logprobs", "log_dir": str(tmp_path_factory.mktemp("logs"))}
    parent = Parent(settings(tiny_model_without_template, vllm_python, **others))
    try:
        parent.wait_until_ready()
        yield parent
    finally:
        parent.kill()


def client(parent: Parent, api: str) -> Engine:
    """The engine for servers that somebody else runs."""
    return openai.build(openai.Config(base_url=parent.url, api=api, dialect="vllm", max_retries=0))


def request(**sampling: object) -> Request:
    prompt = Prompt(messages=(Message(role="user", parts=("Which answer is right, A or B? ",)),))
    return Request(prompt, Sampling(**sampling), id="q")


async def test_a_model_without_a_chat_template_is_refused_in_chat_and_says_why(parent):
    engine = client(parent, "chat")
    try:
        with pytest.raises(EngineError, match="chat template"):
            await engine.generate([request(max_tokens=4)])
    finally:
        await engine.aclose()


async def test_a_model_without_a_chat_template_continues_text(
    parent, tiny_model_without_template: Path
):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_without_template)
    engine = client(parent, "completions")
    try:
        asked = request(max_tokens=4, logprobs=True)
        (completion,) = await engine.generate([asked])
        assert list(completion.prompt_ids) == tokenizer.encode(plain_text(asked.prompt))
        assert len(completion.logprobs) == len(completion.token_ids) > 0
    finally:
        await engine.aclose()


async def test_also_in_raw_mode_a_choice_is_masked_before_its_values_are_taken(parent):
    """The finding that the engine's second request rests on."""
    engine = client(parent, "completions")
    try:
        asked = request(max_tokens=4, choices=("A", "B"), logprobs=True, top_logprobs=5)
        (completion,) = await engine.generate([asked])
        assert {text for text, _ in completion.top[0]} == {"A", "B"}
        assert math.fsum(math.exp(value) for _, value in completion.top[0]) == pytest.approx(1)
    finally:
        await engine.aclose()


def test_nothing_is_left_when_the_parent_is_killed(parent):
    processes = family(parent.launcher_pid)
    assert len(processes) >= 4
    parent.process.kill()
    wait_until_gone(processes, 30)


def test_nothing_is_left_when_the_parent_is_killed_while_the_server_starts(
    tiny_model, vllm_python, tmp_path
):
    parent = Parent(settings(tiny_model, vllm_python, log_dir=str(tmp_path)))
    time.sleep(4)
    processes = family(parent.launcher_pid)
    assert len(processes) >= 2
    parent.kill()
    wait_until_gone(processes, 30)


async def failure_of(given: dict[str, object]) -> str:
    """Message of the error with which a start fails."""
    engine = build(Config.parse(given))
    try:
        with pytest.raises(EngineUnavailableError) as raised:
            await engine.start()
        with pytest.raises(EngineUnavailableError):  # at once, and not by another start
            await asyncio.wait_for(engine.start(), 1.0)
    finally:
        await engine.aclose()
    return str(raised.value)


async def test_an_option_that_the_server_does_not_know_fails_with_its_words(
    tiny_model, vllm_python, tmp_path
):
    logs = tmp_path / "logs" / "here"
    given = settings(tiny_model, vllm_python, extra_args=["--no-such-option"], log_dir=str(logs))
    message = await failure_of(given)
    assert "vllm replica 0 ended while it started" in message
    assert "unrecognized arguments: --no-such-option" in message
    (log,) = logs.iterdir()
    assert str(log) in message


async def test_a_context_longer_than_the_models_fails_with_the_cause(tiny_model, vllm_python):
    message = await failure_of(settings(tiny_model, vllm_python, max_model_len=100_000))
    assert "Cause: " in message
    assert "max_model_len" in message
    remove_log(message)


def remove_log(message: str) -> None:
    """Remove the temporary log, which is kept after a failed start."""
    log = Path(message.split("Log: ")[1].split(". Cause")[0])
    assert "api_server.py: error" in log.read_text() or "Traceback" in log.read_text()
    log.unlink()
    log.parent.rmdir()


async def test_a_server_that_is_not_ready_in_time_is_ended(tiny_model, vllm_python, tmp_path):
    given = settings(tiny_model, vllm_python, start_timeout_s=2, log_dir=str(tmp_path))
    message = await failure_of(given)
    assert "was not healthy after start_timeout_s = 2" in message
