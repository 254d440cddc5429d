"""Weights replaced under a guard that serves: no call is lost, and each ends as it began."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("re2", reason="google-re2 is not installed")

from oversight.cli.main import run
from oversight.errors import ConfigError
from oversight.guard.preparing import GuardFileSettings
from oversight.guard.replacing import read_replacements, write_replacement
from oversight.guard.serving import open_server
from tests.guard.conftest import Running

FILE = """
policy = "basic"

[upstreams.helper]
engine = "transformers"
settings = { model = "porter", num_threads = 1 }

[upstreams.said]
engine = "scripted"
settings = { fallback = "Hello." }
"""


@pytest.fixture
def guard_file(tmp_path: Path) -> Path:
    path = tmp_path / "guard.toml"
    path.write_text(FILE)
    return path


def asked(name: str = "helper", **more: Any) -> dict[str, Any]:
    words = "Badge: Ada. Where does Ada work?"
    return {"model": name, "messages": [{"role": "user", "content": words}], **more}


async def weights(client: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/health")).json()["models"]["helper"]
    return found


async def until(client: httpx.AsyncClient, **wanted: Any) -> dict[str, Any]:
    """The state of the weights once it has these fields."""
    async with asyncio.timeout(120):
        while True:
            found = await weights(client)
            if wanted.items() <= found.items():
                return found
            await asyncio.sleep(0.05)


async def test_calls_end_with_the_weights_that_they_began_with_and_none_is_lost(guard_file) -> None:
    settings = GuardFileSettings.read(guard_file)
    server = await open_server(settings, guard_file.parent)
    answered: list[str] = []
    async with (
        Running(server.app) as running,
        httpx.AsyncClient(base_url=running.url, timeout=120, trust_env=False) as client,
    ):
        is_over = asyncio.Event()

        async def go_on() -> None:
            while not is_over.is_set():
                answer = await client.post(
                    "/v1/chat/completions", json=asked(max_tokens=4, temperature=0)
                )
                assert answer.status_code == 200, answer.text
                answered.append(answer.json()["system_fingerprint"])

        going = asyncio.create_task(go_on())
        streamed: list[str] = []
        body = asked(max_tokens=60, temperature=1, stream=True, n=4)
        async with client.stream("POST", "/v1/chat/completions", json=body) as stream:
            lines = stream.aiter_lines()
            streamed.append(await anext(lines))
            assert run(["guard", "replace", str(guard_file), "helper", "seedling"]) == 0
            streamed += [line async for line in lines]
        await until(client, model="seedling")
        while answered[-1] != "seedling":  # noqa: ASYNC110 - they are asked
            await asyncio.sleep(0.01)
        is_over.set()
        await going
        turned = answered.index("seedling")
        assert set(answered[:turned]) == {"porter"}
        assert set(answered[turned:]) == {"seedling"}, (
            "once replaced, nothing is answered as before"
        )
        events = [json.loads(each[6:]) for each in streamed if each.startswith("data: {")]
        assert {each["system_fingerprint"] for each in events} == {"porter"}
        assert [each for each in streamed if each][-1] == "data: [DONE]"

        assert run(["guard", "replace", str(guard_file), "helper"]) == 0
        await until(client, model="porter")


async def test_weights_that_cannot_be_loaded_change_nothing_and_are_named(
    guard_file, tmp_path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": "llama"}')
    server = await open_server(GuardFileSettings.read(guard_file), tmp_path)
    async with (
        Running(server.app) as running,
        httpx.AsyncClient(base_url=running.url, timeout=120, trust_env=False) as client,
    ):
        (tmp_path / "guard.models").write_text(json.dumps({"helper": str(broken)}))
        async with asyncio.timeout(120):
            while not (found := await weights(client))["failed"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert "broken" in found["failed"]
        assert found["model"] == "porter"
        answer = await client.post("/v1/chat/completions", json=asked(max_tokens=2))
        assert answer.status_code == 200

        (tmp_path / "guard.models").write_text("no JSON")
        await asyncio.sleep(0.6)
        assert (await weights(client))["model"] == "porter"


async def test_a_guard_that_is_started_anew_goes_on_with_the_weights_put_in_place(
    guard_file, tmp_path
) -> None:
    settings = GuardFileSettings.read(guard_file)
    write_replacement(settings.upstreams, tmp_path / "guard.models", "helper", "seedling")
    found = settings.open_upstreams(tmp_path)
    assert found["helper"].model == "seedling"
    for each in found.values():
        await each.aclose()
    (tmp_path / "guard.models").write_text('{"helper": "/nowhere/at/all"}')
    with pytest.raises(ConfigError, match=r"guard\.models: .*nowhere"):
        settings.open_upstreams(tmp_path)


@pytest.mark.parametrize(
    ("name", "model", "said"),
    [
        ("helpr", "seedling", "'helper'"),
        ("said", "seedling", "replace the weights there"),
        ("helper", "/nowhere/at/all", "nowhere"),
    ],
)
def test_what_cannot_be_replaced_is_said_before_anything_is_written(
    guard_file, tmp_path, name, model, said
) -> None:
    settings = GuardFileSettings.read(guard_file)
    with pytest.raises(ConfigError) as error:
        write_replacement(settings.upstreams, tmp_path / "guard.models", name, model)
    assert said in str(error.value)
    assert not (tmp_path / "guard.models").exists()


@pytest.mark.parametrize("content", ["[]", '{"helper": 3}', "no JSON"])
def test_a_file_that_names_no_models_is_refused(tmp_path, content) -> None:
    path = tmp_path / "guard.models"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"guard\.models"):
        read_replacements(path)
