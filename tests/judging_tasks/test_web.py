"""Rating in a browser: what the page would send and show, over a real server and its WebSocket."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from oversight.cli.main import run

pytest.importorskip("textual_serve", reason="textual-serve is not installed")
aiohttp = pytest.importorskip("aiohttp")


@pytest.fixture
def serve(records, tmp_path) -> Iterator[Callable[..., str]]:
    """Start the server on the store, on a free port; its address."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> str:
        command = [sys.executable, "-m", "oversight.cli.main", "rate", *words]
        process = subprocess.Popen(
            [*command, "--web", "--port=0", f"--store={records.store.url}"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Judging at http://127.0.0.1:"), line + process.stdout.read()
        return line.split()[2]

    yield start
    for process in started:
        process.terminate()
        process.wait(timeout=30)
        assert process.stdout is not None
        process.stdout.close()


async def test_a_pair_is_compared_in_a_browser(records, serve):
    records.best_of()
    address = serve("pairs", "--judge=a nna; --light", "--set=name='pilot'")
    seen = b""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"{address}/ws?width=100&height=30", headers={"Origin": address}
        ) as socket,
    ):

        async def until(word: bytes) -> None:
            nonlocal seen
            async with asyncio.timeout(60):
                while word not in seen:
                    message = await socket.receive()
                    assert message.type is aiohttp.WSMsgType.BINARY, (message, seen[-500:])
                    seen += message.data

        await until(b"takes the pair under the cursor")
        for keys, word in (("\r", b"Which of the two"), ("b", b"Both are bad"), ("\r", b"1 sent")):
            await socket.send_str(json.dumps(["stdin", keys]))
            await until(word)
    (sent,) = records.ratings()
    assert (sent.answer.preferred, sent.judge, sent.study) == (
        "both_bad",
        "a nna; --light",
        "pilot",
    )


def test_what_cannot_begin_is_said_before_anything_is_served(records, capsys):
    store = f"--store={records.store.url}"
    assert run(["rate", "pairs", store, "--web", "--linear"]) == 2
    assert "choose one" in capsys.readouterr().err
    assert run(["rate", "principles", store, "--web", "--constitution", "nice"]) == 2
    assert "there is no constitution 'nice'" in capsys.readouterr().err
    assert run(["rate", "pairs", store, "--web", "--set", "keys.lefft='h'"]) == 2
    assert "keys.lefft" in capsys.readouterr().err
