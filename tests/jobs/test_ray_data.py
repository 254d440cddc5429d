"""A request file answered by workers of Ray Data: all of it, once, whatever becomes of a worker."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from oversight.cli import main

RECIPE = """
[engines.m]
engine = "scripted"
[engines.m.settings]
fallback = "A plain answer."
latency_s = {latency_s}
logprobs = false
rules = [{{ pattern = "case 7 ", answer = "Another answer." }}]
"""
LIMIT_S = 240
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason='needs Ray: pip install "oversight[ray]"'
)


def write_job(folder: Path, num_calls: int, latency_s: float = 0.0) -> tuple[Path, Path]:
    """A request file and a recipe; every tenth call asks for what the engine refuses."""
    requests = folder / "job" / "requests" / "wave-001-shard-000-of-001.jsonl"
    requests.parent.mkdir(parents=True)
    rows = []
    for number in range(num_calls):
        content = f"Where does case {number} belong?"
        body: dict[str, Any] = {"messages": [{"role": "user", "content": content}], "seed": number}
        if number % 10 == 9:
            body["logprobs"] = True
        url = "/v1/chat/completions"
        rows.append({"custom_id": f"call-{number}", "method": "POST", "url": url, "body": body})
    requests.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(latency_s=latency_s))
    return requests, recipe


def start(*words: str) -> subprocess.Popen[str]:
    """The command in a process of its own, which is Ray's too."""
    code = "import sys; from oversight.cli import main; sys.exit(main.run(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *words, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_worker_niceness": "0"},
    )


def told(process: subprocess.Popen[str], code: int) -> dict[str, Any]:
    try:
        out, errors = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        for each in (*psutil.Process(process.pid).children(recursive=True), process):
            each.kill()
        pytest.fail(f"no end within {LIMIT_S} s: {process.communicate()}")
    assert process.returncode == code, errors[-3000:]
    found: dict[str, Any] = json.loads(out)
    return found


def answers(path: Path) -> dict[str, Any]:
    """Answers in a file by the id of their call, each checked to be there once."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    found = {row["custom_id"]: row["error"] or row["response"]["body"]["choices"] for row in rows}
    assert len(found) == len(rows)
    return found


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The actors of Ray Data that answer for a process."""
    return [
        each
        for each in psutil.Process(process.pid).children(recursive=True)
        if each.name().startswith("ray::") and "MapWorker" in " ".join(each.cmdline())
    ]


@needs_ray
@pytest.mark.timeout(300)
def test_a_worker_that_is_killed_loses_and_doubles_nothing(tmp_path: Path) -> None:
    requests, recipe = write_job(tmp_path, 400, latency_s=0.2)
    alone, out = tmp_path / "alone.jsonl", tmp_path / "out.jsonl"
    common = ("answer", str(requests), "--recipe", str(recipe), "--concurrency", "8")
    assert main.run([*common, "-o", str(alone), "--concurrency", "400"]) == 1

    process = start(*common, "-o", str(out), "--ray", "2")
    while not out.exists() or out.read_bytes().count(b"\n") < 40:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    found = workers(process)
    os.kill(found[0].pid, signal.SIGKILL)
    done = told(process, code=1)

    assert len(found) == 2
    assert answers(out) == answers(alone)
    assert (done["requests"], done["answered"], done["failed"]) == (400, 360, 40)


@needs_ray
@pytest.mark.timeout(300)
def test_workers_go_on_behind_what_is_answered(tmp_path: Path) -> None:
    requests, recipe = write_job(tmp_path, 40)
    alone, out = tmp_path / "alone.jsonl", tmp_path / "out.jsonl"
    common = ("answer", str(requests), "--recipe", str(recipe))
    assert main.run([*common, "-o", str(alone)]) == 1
    good = [row for row in alone.read_text().splitlines(keepends=True) if '"error":null' in row]
    out.write_text("".join(good[:10]))

    done = told(start(*common, "-o", str(out), "--ray", "1"), code=1)

    assert (done["found"], done["answered"], done["failed"]) == (10, 26, 4)
    assert answers(out) == answers(alone)


def test_an_engine_that_cannot_be_opened_is_refused_before_workers_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    requests, recipe = write_job(tmp_path, 8)
    recipe.write_text('[engines.m]\nengine = "openai"\n[engines.m.settings]\nmodel = "m"\n')
    monkeypatch.setenv("OPENAI_API_KEY", "a\nb")

    code = main.run(["answer", str(requests), "--recipe", str(recipe), "--ray", "1"])

    assert code == 2
    assert "holds characters that no key has" in capsys.readouterr().err


def test_without_ray_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    requests, recipe = write_job(tmp_path, 1)
    monkeypatch.setitem(sys.modules, "ray", None)

    code = main.run(["answer", str(requests), "--recipe", str(recipe), "--ray", "2"])

    assert code == 2
    assert 'pip install "oversight[ray]"' in capsys.readouterr().err
