from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from oversight.train.runs.metrics import read_metrics

SCRIPT = Path(__file__).with_name("killed_run.py")
TOTAL = 40


def start(path: Path, step_s: float = 0.0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(path), str(TOTAL), str(step_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def timeless(path: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in line.items() if name not in ("time", "wall_s")}
        for line in read_metrics(path)
    ]


def uninterrupted(path: Path) -> Path:
    process = start(path)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 0, said
    return path


def same(first: Path, second: Path) -> None:
    assert (first / "final.safetensors").read_bytes() == (second / "final.safetensors").read_bytes()
    assert timeless(first) == timeless(second)
    walls = [line["wall_s"] for line in read_metrics(second)]
    assert walls == sorted(walls)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_killed_at_random_moments_ends_as_if_it_never_was(tmp_path: Path) -> None:
    whole = uninterrupted(tmp_path / "whole")
    cut = tmp_path / "cut"
    moments = random.Random(os.environ.get("KILL_SEED", "5"))
    kills = steps_lost = last = 0
    while True:
        process = start(cut, step_s=0.002)
        assert process.stdout is not None
        seen = [int(process.stdout.readline() or TOTAL)]
        # Somewhere in the coming steps: in an update, a line, a checkpoint, or its removal.
        time.sleep(moments.uniform(0.0, 0.12))
        if kills < 8:
            process.kill()
        rest, said = process.communicate(timeout=100)
        seen += [int(line) for line in rest.split()]
        assert process.returncode in (0, -signal.SIGKILL), said
        if process.returncode == 0:
            break
        kills += 1
        steps_lost += max(0, last - seen[0] + 1)
        last = seen[-1]
    assert kills >= 4
    same(whole, cut)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ctrl_c_finishes_the_step_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    whole = uninterrupted(tmp_path / "whole")
    cut = tmp_path / "cut"
    process = start(cut, step_s=0.05)
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=100)
    assert "TrainingInterrupted: stopped after step" in said
    assert "go on with: this script again" in said
    newest = max((cut / "checkpoints").iterdir()).name
    assert newest == f"step-{timeless(cut)[-1]['step']:06d}"
    uninterrupted(cut)
    same(whole, cut)
