"""Runs of two processes that are killed, resumed, interrupted, or that fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from oversight.train.runs.metrics import read_metrics

PPO: dict[str, Any] = {"reuse": 2, "mini_batches": 2, "steps": 8, "save_every": 1, "keep": 9}


def run(place: Any, name: str, trainer: str, resume: bool = False, **changes: Any) -> Any:
    return {
        "trainer": trainer,
        "config": place.config(name, trainer, **changes),
        "resume": resume,
    }


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def wait_for(path: Path, timeout_s: float = 100.0) -> None:
    end = time.monotonic() + timeout_s
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_killed_run_of_two_goes_on_bit_for_bit(place: Any, alone: Callable[..., Path]) -> None:
    whole = place.launch([run(place, "whole", "ppo", **PPO)])
    killed = place.launch([run(place, "killed", "ppo", **PPO)])
    # The third step of four on one collection: in the middle of its reuse.
    wait_for(place.folder / "killed" / "checkpoints" / "step-000003")
    killed.kill()
    codes, said = whole.wait()
    assert codes == [0, 0], said
    assert not (place.folder / "killed" / "model").exists()

    codes, said = place.launch([run(place, "killed", "ppo", resume=True, **PPO)]).wait()
    assert codes == [0, 0], said
    assert "going on after step" in said[0]
    expected, found = weights(place.folder / "whole"), weights(place.folder / "killed")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    for a, b in zip(
        read_metrics(place.folder / "whole"), read_metrics(place.folder / "killed"), strict=True
    ):
        drop = {"time", "wall_s"}
        assert {k: v for k, v in a.items() if k not in drop} == {
            k: v for k, v in b.items() if k not in drop
        }


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("trainer", "settings"), [("dpo", {"steps": 6, "save_every": 1}), ("ppo", PPO)]
)
def test_what_two_processes_saved_one_goes_on_with(
    trainer: str, settings: dict[str, Any], place: Any, alone: Callable[..., Path]
) -> None:
    # Without dropout nothing is drawn from the global streams: one process ends where two
    # would have ended. PPO is cut in the middle of a collection's reuse.
    uncut, begun = f"{trainer}-whole", f"{trainer}-cut"
    whole = place.launch([run(place, uncut, trainer, **settings)])
    cut = place.launch([run(place, begun, trainer, **settings)])
    wait_for(place.folder / begun / "checkpoints" / "step-000003")
    cut.kill()
    codes, said = whole.wait()
    assert codes == [0, 0], said
    alone(trainer, place.config(begun, trainer, **settings), resume=True)
    expected, found = weights(place.folder / uncut), weights(place.folder / begun)
    for name, weight in expected.items():
        assert (weight - found[name]).abs().max() <= 1e-4 * weight.abs().max(), name


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_process_that_is_lost_ends_the_other_with_a_line(place: Any) -> None:
    launched = place.launch([run(place, "lost", "sft", steps=100_000, save_every=10)])
    wait_for(place.folder / "lost" / "checkpoints" / "step-000010")
    launched.processes[1].kill()
    said, _ = launched.processes[0].communicate(timeout=30)
    assert launched.processes[0].returncode == 130
    assert "TrainingInterrupted: another process of this run has ended" in said
    assert "Traceback" not in said
    launched.processes[1].communicate()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_processes_with_other_data_are_told(place: Any) -> None:
    start = place.config("differ", "sft")
    launched = place.launch([{"trainer": "sft", "config": start}], RANKS_DIFFER="1")
    codes, said = launched.wait()
    assert codes == [2, 2], said
    assert "read other data or settings than one another" in said[0]


def torchrun(recipe: Path, trainer: str = "sft") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", "-m", "oversight.cli.main", "train", trainer, str(recipe)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def write_recipe(place: Any, name: str, trainer: str = "sft", **changes: Any) -> Path:
    from oversight.files import to_toml

    recipe: Path = place.folder / f"{name}.toml"
    recipe.write_text(to_toml(place.config(name, trainer, **changes)))
    return recipe


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_torchrun_trains_from_the_command_line(place: Any) -> None:
    started = torchrun(write_recipe(place, "by-torchrun"))
    out, error = started.communicate(timeout=200)
    assert started.returncode == 0, error
    assert out.count("the finished model") == 1
    assert "Warning" not in error, error
    assert json.loads((place.folder / "by-torchrun" / "model" / "config.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_ctrl_c_at_torchrun_leaves_a_checkpoint(place: Any) -> None:
    recipe = write_recipe(place, "stopped", steps=100_000, save_every=50_000)
    started = torchrun(recipe)
    wait_for(place.folder / "stopped" / "metrics.jsonl")
    workers = psutil.Process(started.pid).children(recursive=True)
    time.sleep(1.0)
    started.send_signal(signal.SIGINT)
    _, error = started.communicate(timeout=60)
    assert started.returncode != 0
    assert error.count("go on with: ") == 1, error
    assert list((place.folder / "stopped" / "checkpoints").iterdir())
    assert not any(worker.is_running() for worker in workers)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_error_is_told_once(place: Any) -> None:
    started = torchrun(write_recipe(place, "wrong", batch_size=3))
    _, error = started.communicate(timeout=200)
    assert started.returncode != 0
    assert error.count("batch_size = 3 is no multiple of the 2 processes") == 1, error


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_error_of_one_process_is_told_and_ends_both(place: Any) -> None:
    function = f"{place.folder / 'reward.py'}:broken_in_one"
    reward = {"source": "function", "function": function}
    recipe = write_recipe(place, "broken", "grpo", reward=reward)
    _, error = torchrun(recipe, "grpo").communicate(timeout=200)
    assert "process 1 of 2: " in error, error
    assert error.count("is nan, and it has to be a finite number") == 1, error
    assert "Traceback" not in error.split("torch/distributed/elastic")[0], error
