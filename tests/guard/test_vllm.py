"""A guard before a real vLLM server: whole and streamed answers of the real openai client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("re2", reason="google-re2 is not installed")

from oversight.engines import vllm
from oversight.models import SEEDLING
from oversight.types import Message, Prompt, Request, Sampling
from tests.engines.conftest import vllm_python
from tests.guard.conftest import Start
from tests.guard.test_openai_client import client_of

openai = pytest.importorskip("openai", reason="openai is not installed")

__all__ = ["vllm_python"]
pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

POLICY = """
[system]
template = "You answer questions about {{ town }}."
values = { town = "Ivybridge" }

[checks.the]
check = "words"
action = "replace"
replacement = "THE"
settings = { words = ["the"] }

[checks.bad]
check = "words"
on = "input"
action = "refuse"
settings = { words = ["forbidden"] }
"""
HELLO: list[Any] = [{"role": "user", "content": "Where is the globe?"}]
OPTIONS: dict[str, Any] = {"model": "seedling", "temperature": 0.0, "max_tokens": 24}


async def test_a_real_server_behind_the_guard_streams_what_it_says_whole(
    guarded: Start, vllm_python: str, tmp_path: Path
) -> None:
    server = vllm.build(
        vllm.Config(
            model=SEEDLING,
            python=vllm_python,
            dtype="float32",
            block_size=32,
            kv_cache_gib=0.25,
            log_dir=str(tmp_path),
            extra_args=("--enforce-eager",),
        )
    )
    try:
        prompt = Prompt(messages=(Message(role="user", parts=("Hello?",)),))
        await server.generate([Request(prompt, Sampling(max_tokens=2), id="r")])
        upstream = {"base_url": f"{server.urls[0].removesuffix('/v1')}/v1", "model": SEEDLING}
        guard = await guarded(
            POLICY, more={"seedling": upstream}, store=str(tmp_path / "calls.db"), sample=1.0
        )
        async with client_of(guard.url) as client:
            whole = await client.chat.completions.create(messages=HELLO, logprobs=True, **OPTIONS)
            text = whole.choices[0].message.content
            assert text
            assert whole.usage.completion_tokens <= 24
            assert whole.choices[0].finish_reason in ("stop", "length")
            streamed = await client.chat.completions.create(
                messages=HELLO, stream=True, stream_options={"include_usage": True}, **OPTIONS
            )
            pieces = [chunk async for chunk in streamed]
            said = "".join(c.choices[0].delta.content or "" for c in pieces if c.choices)
            assert said == text
            assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
            with pytest.raises(openai.BadRequestError, match="greedy"):  # the server's own error
                await client.chat.completions.create(messages=HELLO, n=2, **OPTIONS)
            drawn = OPTIONS | {"temperature": 1.0}
            both = await client.chat.completions.create(messages=HELLO, n=2, **drawn)
            assert [each.index for each in both.choices] == [0, 1]
            plain = await client.completions.create(prompt="The globe is", **OPTIONS)
            assert plain.choices[0].text
            stopped = await client.chat.completions.create(
                messages=[{"role": "user", "content": "Something forbidden?"}], **OPTIONS
            )
            assert stopped.choices[0].finish_reason == "content_filter"
        written = [each.choices[0].written for each in guard.calls[:2]]
        assert written[0] == written[1]  # as the server wrote it, whole and in pieces
        assert "THE" in text or "the" not in written[0].lower().split()
        counted = guard.counted()
        assert counted["answered"] == 4.0
        assert counted["refused"] == counted["failed"] == 1.0
    finally:
        await server.aclose()
