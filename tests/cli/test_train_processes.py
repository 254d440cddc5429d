"""`oversight train` as processes: stopped by Ctrl-C, and several under torchrun."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from oversight.cli.main import run


def test_other_processes_than_the_first_print_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    assert run(["train", "sft", "on.toml", "--out", "x", "--dry-run"]) == 0
    assert capsys.readouterr() == ("", "")


def start(args: list[str], cwd: Path, *before: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *before, "-m", "oversight.cli.main", "train", *args],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OVERSIGHT_CACHE": str(cwd / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def interrupt(process: subprocess.Popen[str], run: Path) -> None:
    """Ctrl-C, once the run has taken some steps."""
    log = run / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.exists() and log.read_text().count("\n") > 5):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_ctrl_c_saves_the_step_and_the_command_it_names_goes_on_bit_for_bit(here: Path) -> None:
    args = ["dpo", "on.toml", "--set", "steps=100", "--set", "log_every=1"]
    process = start([*args, "--out", "cut"], here)
    interrupt(process, here / "cut")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "finishing this step and saving it" in said
    last = said.strip().splitlines()[-1]
    step, command = re.fullmatch(
        r"oversight: stopped after step (\d+); go on with: python -m oversight\.cli\.main (.*)",
        last,
    ).groups()  # type: ignore[union-attr]
    assert 5 < int(step) < 100
    again = start(command.split()[1:], here)
    out, said = again.communicate(timeout=200)
    assert again.returncode == 0, said
    assert f"going on after step {step} of 100" in said
    assert "cut/model: the finished model" in out
    assert run(["train", *args, "--out", "whole"]) == 0
    ours, theirs = (load_file(here / name / "model/model.safetensors") for name in ("cut", "whole"))
    assert all(bool((ours[name] == theirs[name]).all()) for name in theirs)


TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_ctrl_c_under_torchrun_is_answered_once(here: Path) -> None:
    args = ["sft", "on.toml", "--out", "cut", "--set", "steps=1000", "--set", "log_every=1"]
    process = start(args, here, *TORCHRUN)
    interrupt(process, here / "cut")
    _, said = process.communicate(timeout=200)
    assert said.count("finishing this step and saving it") == 1, said
    assert said.count("go on with: torchrun") == 1, said


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_under_torchrun_one_process_speaks(here: Path) -> None:
    done = start(["sft", "on.toml", "--out", "x"], here, *TORCHRUN)
    out, said = done.communicate(timeout=200)
    assert done.returncode == 0, said
    assert out.count("x/model: the finished model") == 1
    assert said.count("rows read") == 1
    again = start(["sft", "on.toml", "--out", "x"], here, *TORCHRUN)
    _, said = again.communicate(timeout=200)
    assert again.returncode != 0
    assert said.count("oversight: out = 'x' holds a finished run") == 1
