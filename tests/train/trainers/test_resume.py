"""A run that was cut short goes on bit for bit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from oversight.errors import CheckpointError, ConfigError, TrainingInterrupted
from oversight.train.runs.folder import RunFolder
from oversight.train.runs.metrics import read_samples

NAMES = ["sft", "reward", "dpo", "dpo-in-loop", "kto", "grpo", "grpo-dynamic", "ppo"]
QUICK = ["sft", "dpo", "grpo", "ppo"]
"""Of these the rest is tested with the slow ones."""


class Cut(BaseException):
    """The process is gone."""


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Makes the run end inside `RunFolder.log` or `RunFolder.save` of a step."""
    kept = {name: getattr(RunFolder, name) for name in ("log", "save")}

    def arm(where: str, at: int) -> None:
        def ending(self: RunFolder, step: int, *given: Any, **named: Any) -> Any:
            if step == at:
                raise Cut
            return kept[where](self, step, *given, **named)

        for name, whole in kept.items():
            monkeypatch.setattr(RunFolder, name, ending if name == where else whole)

    return arm


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NAMES]
)
def test_a_run_cut_between_its_steps_ends_as_if_it_never_was(
    cases: ModuleType,
    whole_run: Callable[[str], Path],
    cut: Callable[[str, int], None],
    tmp_path: Path,
    name: str,
) -> None:
    run, whole = cases.CASES[name], whole_run(name)
    # Before the first checkpoint; in the middle of a collection's reuse; when all is learnt.
    for number, (where, at) in enumerate([("log", 1), ("save", 7), ("save", 10)]):
        cut(where, at)
        with pytest.raises(Cut):
            run(tmp_path / "cut", resume=number > 0)
    cut("log", -1)
    run(tmp_path / "cut", resume=True)
    assert cases.same(whole, tmp_path / "cut")
    kept = {each["step"] for each in read_samples(whole)}
    assert kept == ({1, 5, 9} if name in ("grpo", "ppo") else set()) or name == "grpo-dynamic"


def test_a_run_that_saves_seldom_does_its_lost_steps_again(
    cases: ModuleType,
    whole_run: Callable[[str], Path],
    cut: Callable[[str, int], None],
    tmp_path: Path,
) -> None:
    cut("log", 7)
    with pytest.raises(Cut):
        cases.CASES["ppo"](tmp_path / "cut", save_every=3)
    cut("log", -1)
    cases.CASES["ppo"](tmp_path / "cut", save_every=4, keep=1, resume=True)
    assert cases.same(whole_run("ppo"), tmp_path / "cut")


@pytest.mark.parametrize("name", ["dpo", "ppo"])
def test_a_run_that_is_asked_to_stop_leaves_a_checkpoint_to_go_on_from(
    cases: ModuleType,
    whole_run: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
) -> None:
    run = cases.CASES[name]
    log = RunFolder.log

    def asking(self: RunFolder, step: int, *given: Any, **named: Any) -> None:
        log(self, step, *given, **named)
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(RunFolder, "log", asking)
    with pytest.raises(TrainingInterrupted, match="stopped after step 5"):
        run(tmp_path / "cut", save_every=100)
    monkeypatch.setattr(RunFolder, "log", log)
    assert (tmp_path / "cut" / "checkpoints" / "step-000005").is_dir()
    run(tmp_path / "cut", save_every=100, resume=True)
    assert cases.same(whole_run(name), tmp_path / "cut")


def test_a_finished_run_is_not_trained_again(cases: ModuleType, tmp_path: Path) -> None:
    cases.CASES["sft"](tmp_path / "run", steps=1)
    with pytest.raises(ConfigError, match="holds a finished run"):
        cases.CASES["sft"](tmp_path / "run", steps=1)


@pytest.mark.parametrize(
    ("name", "named", "changes"),
    [
        ("sft", "batch_size", {"batch_size": 3}),
        ("sft", "seed", {"seed": 4}),
        ("dpo", "options", {"options": {"beta": 0.3}}),
        ("ppo", "mini_batches", {"mini_batches": 1}),
        ("grpo", "kl_coefficient", {"kl_coefficient": 0.1}),
    ],
)
def test_a_run_does_not_go_on_with_another_setting(
    cases: ModuleType,
    cut: Callable[[str, int], None],
    tmp_path: Path,
    name: str,
    named: str,
    changes: dict[str, Any],
) -> None:
    cut("log", 2)
    with pytest.raises(Cut):
        cases.CASES[name](tmp_path / "run")
    before = cases.timeless(tmp_path / "run")
    with pytest.raises(CheckpointError, match=named):
        cases.CASES[name](tmp_path / "run", resume=True, **changes)
    assert cases.timeless(tmp_path / "run") == before


def test_a_run_does_not_go_on_with_another_rate_model_or_data(
    cases: ModuleType, cut: Callable[[str, int], None], tmp_path: Path
) -> None:
    cut("log", 2)
    with pytest.raises(Cut):
        cases.CASES["sft"](tmp_path / "run")
    scratch = cases.TINY.scratch.model_copy(update={"num_layers": 2})
    wider = cases.TINY.model_copy(update={"scratch": scratch})
    faster = cases.OPTIMIZER.model_copy(update={"lr": 1e-2})
    for named, changes in (
        (r"optimizer\.lr", {"optimizer": faster}),
        (r"model\.scratch\.num_layers", {"model": wider}),
        ("data", {"data": cases.DataSettings(eval_rows=3, split_seed=5)}),
    ):
        with pytest.raises(CheckpointError, match=named):
            cases.CASES["sft"](tmp_path / "run", resume=True, **changes)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_runs_killed_at_random_moments_end_as_if_they_never_were(
    cases: ModuleType, tmp_path: Path
) -> None:
    script = Path(__file__).with_name("killed_trainers.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), os.environ.get("KILL_SEED", "7"), *NAMES],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    kills = json.loads(done.stdout)
    for name in NAMES:
        assert kills[name]["kills"] >= 3, kills
        assert cases.same(tmp_path / name / "whole", tmp_path / name / "cut"), name
    # Kills that never met a started run would show nothing.
    assert sum(found["after_steps"] for found in kills.values()) >= len(NAMES), kills


@pytest.mark.parametrize("name", ["sft", "reward", "dpo", "kto", "grpo", "ppo"])
def test_going_on_with_a_finished_run_gives_its_model_and_trains_nothing(
    cases: ModuleType, whole_run: Callable[[str], Path], name: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole_run(name), run)
    before = cases.timeless(run)

    assert cases.CASES[name](run, resume=True) == run / "model"
    assert cases.timeless(run) == before


def test_a_finished_run_of_other_settings_is_not_given_as_this_one(
    cases: ModuleType, whole_run: Callable[[str], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole_run("sft"), run)

    with pytest.raises(CheckpointError, match=r"config\.steps was 10 and is now 11"):
        cases.CASES["sft"](run, resume=True, steps=11)


def test_a_finished_run_on_other_rows_is_not_given_as_this_one(
    cases: ModuleType, whole_run: Callable[[str], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole_run("sft"), run)
    config = cases.sft.Config(**cases.common(run, **cases.held_out()))

    with pytest.raises(CheckpointError, match="data was"):
        cases.sft.train(config, rows=cases.demonstrations(13), resume=True)
