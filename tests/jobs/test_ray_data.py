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
MORTAL = '''
"""The scripted engine, of which the first so many processes die at their first call."""

import os
import signal
from pathlib import Path

from oversight.config import Settings
from oversight.engines import scripted


class Config(Settings):
    graves: str
    deaths: int
    fallback: str = ""
    latency_s: float = 0.0
    logprobs: bool = True
    rules: tuple[dict[str, str], ...] = ()


class Mortal(scripted.ScriptedEngine):
    def __init__(self, config):
        self.left = config
        settings = config.model_dump(exclude={"graves", "deaths"})
        super().__init__(config=scripted.Config.model_validate(settings))

    async def generate(self, requests):
        for number in range(self.left.deaths if self.left else 0):
            try:
                (Path(self.left.graves) / str(number)).mkdir()
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
        self.left = None
        return await super().generate(requests)


build = Mortal
'''
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


def mortal(folder: Path, recipe: Path, deaths: int) -> dict[str, str]:
    """Make the recipe's engine one whose processes die; the environment that it is found in."""
    installed = folder / "installed"
    about = installed / "mortal-1.0.dist-info"
    about.mkdir(parents=True)
    (installed / "mortal_engine.py").write_text(MORTAL)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mortal\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[oversight.engines]\nmortal = mortal_engine\n")
    graves = folder / "graves"
    graves.mkdir()
    text = recipe.read_text().replace('"scripted"', '"mortal"')
    recipe.write_text(f'{text}deaths = {deaths}\ngraves = "{graves}"\n')
    paths = (str(installed), os.environ.get("PYTHONPATH", ""))
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def start(*words: str, **environment: str) -> subprocess.Popen[str]:
    """The command in a process of its own, which is Ray's too."""
    code = "import sys; from oversight.cli import main; sys.exit(main.run(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *words, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_worker_niceness": "0", **environment},
    )


def ended(process: subprocess.Popen[str], code: int) -> tuple[str, str]:
    """Output of a process on both streams; it must end with that code, in time."""
    try:
        out, errors = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        for each in (*psutil.Process(process.pid).children(recursive=True), process):
            each.kill()
        pytest.fail(f"no end within {LIMIT_S} s: {process.communicate()}")
    assert process.returncode == code, errors[-3000:]
    return out, errors


def told(process: subprocess.Popen[str], code: int) -> dict[str, Any]:
    out, _ = ended(process, code)
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
def test_a_worker_dead_at_its_start_and_one_killed_in_the_middle_lose_and_double_nothing(
    tmp_path: Path,
) -> None:
    requests, recipe = write_job(tmp_path, 200, latency_s=0.2)
    alone, out = tmp_path / "alone.jsonl", tmp_path / "out.jsonl"
    common = ("answer", str(requests), "--recipe", str(recipe), "--concurrency", "8")
    assert main.run([*common, "-o", str(alone), "--concurrency", "400"]) == 1
    good = [row for row in alone.read_text().splitlines(keepends=True) if '"error":null' in row]
    out.write_text("".join(good[:10]))

    process = start(*common, "-o", str(out), "--ray", "2", **mortal(tmp_path, recipe, deaths=1))
    while out.read_bytes().count(b"\n") < 40:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    found = workers(process)
    os.kill(found[0].pid, signal.SIGKILL)
    done = told(process, code=1)

    assert len(list((tmp_path / "graves").iterdir())) == 1
    assert answers(out) == answers(alone)
    counts = [done[name] for name in ("requests", "found", "answered", "failed")]
    assert counts == [200, 10, 170, 20]


ENDLESS = """
import asyncio, sys
from pathlib import Path
import ray
from oversight.cli.batch import _engines
from oversight.config import read_toml
from oversight.jobs.answering import answer_file
from oversight.jobs.ray_data import RayRunner, _connect
from oversight.types import EngineSpec
requests, recipe, out = map(Path, sys.argv[1:])
engine = _engines(read_toml(recipe), "")["m"]
spec = EngineSpec(engine=engine.engine, settings=engine.settings)
_connect(ray, 1)
for how in ({"gpus": 64}, {"max_restarts": 1}, {"max_restarts": 1}, {"cpus": 64, "start_s": 1}):
    try:
        done = asyncio.run(answer_file(requests, out, RayRunner(spec, 1, **how)))
        print("-", done.done, done.num_failed)
    except Exception as error:
        print(f"- {type(error).__name__}: {error}")
"""


@needs_ray
@pytest.mark.timeout(300)
def test_nothing_is_waited_for_without_end(tmp_path: Path) -> None:
    requests, recipe = write_job(tmp_path, 12)
    out = tmp_path / "out.jsonl"
    environment = os.environ | mortal(tmp_path, recipe, deaths=3)
    words = [sys.executable, "-c", ENDLESS, str(requests), str(recipe), str(out)]
    pipe = subprocess.PIPE

    said, _ = ended(
        subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=environment), code=0
    )

    told_of = [line for line in said.splitlines() if line.startswith("- ")]
    assert len(told_of) == 4, said
    no_gpu, dies, goes_on, no_room = told_of
    assert "ConfigError: --gpus 64: 1 workers (--ray) are to have so many, and" in no_gpu
    assert "not all of 1 workers, of 64 CPUs each, were started in time" in no_room
    assert "EngineUnavailableError: Ray Data: a worker died and is not started anew" in dies
    assert "the same command goes on behind what is answered" in dies
    assert goes_on.split() == ["-", "11", "1"]  # after a third death
    assert len(answers(out)) == 12


@needs_ray
def test_a_cluster_where_nobody_answers_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    requests, recipe = write_job(tmp_path, 1)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")

    assert main.run(["answer", str(requests), "--recipe", str(recipe), "--ray", "1"]) == 2

    said = " ".join(capsys.readouterr().err.split())
    assert "RAY_ADDRESS = '127.0.0.1:9': nobody answers" in said


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
