"""The quick form of the closed circle: killed and resumed as if nothing had been, and its shape."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

KILLED_AFTER = (3, 14, 24)
"""Pieces that are done when the run is killed: in debates, in training, in the arms after it."""
HARD = 1.5
"""Seconds into the next piece."""


def command(recipe: Path) -> list[str]:
    return [sys.executable, "-m", "oversight.cli.main", "run", str(recipe), "--quick"]


def pieces_done(folder: Path) -> int:
    return len(list(folder.glob("runs/closed_circle/stages/*/done.json")))


def kill_after(recipe: Path, folder: Path, number: int) -> None:
    """Run until `number` pieces are done and others are under way, and kill it hard."""
    process = subprocess.Popen(
        command(recipe), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while pieces_done(folder) < number and process.poll() is None:
        time.sleep(0.2)
    time.sleep(HARD)
    assert process.poll() is None, "it ended before it could be killed"
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive, "processes outlived the one that began them"


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    done = subprocess.run(command(recipe), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (folder / "stdout.txt").write_text(done.stdout)
    return folder / "runs" / "closed_circle"


@pytest.fixture(scope="module")
def results(whole: Path) -> dict:
    return json.loads((whole / "results.json").read_text())


def accuracy(results: dict, name: str, arena: str | None) -> dict:
    [found] = [a for a in results["arms"] if (a["name"], a["arena"]) == (name, arena)]
    return found["accuracy"]


def test_a_run_that_was_killed_comes_to_the_same(recipe, whole, tmp_path):
    for number in KILLED_AFTER:
        kill_after(recipe, tmp_path, number)
    done = subprocess.run(
        command(recipe), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (whole.parent.parent / "stdout.txt").read_text()
    for trained in whole.glob("stages/*/model/model.safetensors"):
        again = tmp_path / "runs" / "closed_circle" / trained.relative_to(whole)
        assert again.read_bytes() == trained.read_bytes(), trained


def test_judges_are_more_right_after_training_for_debate(results):
    start = accuracy(results, "start", "debate")["value"]
    trained = {
        name: accuracy(results, name, "debate")["value"]
        for name in ("expert_iteration", "dpo", "ppo", "grpo")
    }
    assert max(trained.values()) > start + 0.1
    best = max(trained, key=trained.__getitem__)
    assert trained[best] > accuracy(results, best, "consultancy")["value"] + 0.1


def test_a_judge_alone_is_at_chance_and_with_the_source_right(results):
    naive = accuracy(results, "naive", None)
    assert naive["low"] is None or naive["low"] <= 0.5 <= naive["high"]
    assert accuracy(results, "expert", None)["value"] > 0.9


def test_training_for_consultancy_leaves_the_judge_where_it_was(results):
    for name in ("start", "grpo"):
        assert 0.3 < accuracy(results, name, "consultancy")["value"] < 0.7


def test_what_it_leaves_can_be_looked_at(whole):
    for name in ("report.html", "accuracy.png", "curve.png", "baselines.png"):
        assert (whole / name).stat().st_size > 10_000
