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


def finish(recipe: Path, folder: Path) -> str:
    """Run to the end; what it prints."""
    done = subprocess.run(command(recipe), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def accuracy(results: dict, name: str, arena: str | None) -> dict:
    [found] = [a for a in results["arms"] if (a["name"], a["arena"]) == (name, arena)]
    return found["accuracy"]


def check_shape(results: dict) -> None:
    """Judges are more right after training for debate, not for consultancy."""
    start = accuracy(results, "start", "debate")["value"]
    methods = ("expert_iteration", "dpo", "ppo", "grpo")
    trained = {name: accuracy(results, name, "debate")["value"] for name in methods}
    best = max(trained, key=trained.__getitem__)
    assert trained[best] > start + 0.1
    assert trained[best] > accuracy(results, best, "consultancy")["value"] + 0.1
    for name in ("start", best):
        assert 0.3 < accuracy(results, name, "consultancy")["value"] < 0.7
    naive = accuracy(results, "naive", None)
    assert naive["low"] is None or naive["low"] <= 0.5 <= naive["high"]
    assert accuracy(results, "expert", None)["value"] > 0.9


# One test: whoever runs it has both runs, and they are minutes each.
def test_a_run_that_was_killed_comes_to_the_same_and_judges_are_more_right(recipe, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    printed = finish(recipe, whole)
    for number in KILLED_AFTER:
        kill_after(recipe, killed, number)
    assert finish(recipe, killed) == printed
    for trained in whole.glob("runs/closed_circle/stages/*/model/model.safetensors"):
        again = killed / trained.relative_to(whole)
        assert again.read_bytes() == trained.read_bytes(), trained
    out = whole / "runs" / "closed_circle"
    check_shape(json.loads((out / "results.json").read_text()))
    for name in ("report.html", "accuracy.png", "curve.png", "baselines.png"):
        assert (out / name).stat().st_size > 10_000
