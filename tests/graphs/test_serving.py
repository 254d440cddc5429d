"""The graphs behind LangGraph's own development server, through its own client."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from oversight.store import Store
from oversight.types import Question

START_TIMEOUT_S = 90


@pytest.fixture(scope="module")
def server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address of a running server and its store."""
    pytest.importorskip("langgraph_cli", reason="LangGraph's server is not installed")
    folder = tmp_path_factory.mktemp("served")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = json.loads((root / "langgraph.json").read_text()) | {"dependencies": [str(root)]}
    (folder / "langgraph.json").write_text(json.dumps(config))
    store = folder / "served.db"
    environment = os.environ | {
        "OVERSIGHT_STORE": str(store),
        "LANGSMITH_TRACING": "false",
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    }
    log = (folder / "log.txt").open("w")
    command = [
        str(Path(sys.executable).with_name("langgraph")), "dev", "--no-browser", "--no-reload",
        "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(url, process, folder / "log.txt")
        yield url, store
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=20)
        log.close()


def wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the server ended: {log.read_text()[-2000:]}")
        try:
            if httpx.get(f"{url}/ok", timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    pytest.fail(f"the server did not come up: {log.read_text()[-2000:]}")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("graph", ["debate", "consultancy", "critique", "direct_qa"])
async def test_a_debate_runs_through_the_sdk(
    server: tuple[str, Path], question: Question, graph: str
) -> None:
    from langgraph_sdk import get_client

    url, path = server
    async with get_client(url=url) as client:
        thread = await client.threads.create()
        given = {"question": question.model_dump(mode="json"), "seed": 5}
        state = await client.runs.wait(thread["thread_id"], graph, input=given)
    assert isinstance(state, dict)
    result = state["result"]
    assert sum(result["probs"]) == pytest.approx(1.0)
    with Store.open(str(path), create=False) as store:
        transcript = store.transcript(result["debate_id"])
    assert transcript.debate.seed == 5
    assert len(transcript.spoken()) == result["num_turns"]
    assert len(transcript.judgments) == 1


@pytest.mark.timeout(180)
async def test_a_self_critique_runs_through_the_sdk(server: tuple[str, Path]) -> None:
    from langgraph_sdk import get_client

    url, path = server
    asked = Question(id="jar", dataset="test", text="How do I open a jar?")
    async with get_client(url=url) as client:
        thread = await client.threads.create()
        given = {"question": asked.model_dump(mode="json"), "seed": 5}
        state = await client.runs.wait(thread["thread_id"], "self_critique", input=given)
    assert isinstance(state, dict)
    with Store.open(str(path), create=False) as store:
        transcript = store.transcript(state["result"]["debate_id"])
    assert transcript.question == asked
    assert len(transcript.spoken()) == state["result"]["num_turns"] == 3
    assert transcript.judgments == ()
