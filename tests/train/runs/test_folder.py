from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from oversight.errors import CheckpointError, ConfigError, FileError
from oversight.files import git_revision
from oversight.train.runs.folder import RunFolder, check_begun, resume_command
from oversight.train.runs.metrics import read_metrics


def test_the_folder_tells_what_the_run_is(about: Any, run_path: Path) -> None:
    RunFolder(run_path, about()).close()
    config = json.loads((run_path / "config.json").read_text())
    assert config["config"]["optimizer"] == {"lr": 0.001}
    toml = tomllib.loads((run_path / "config.toml").read_text())
    assert toml["model"] == {"name": 'a "b"'}
    told = json.loads((run_path / "origin.json").read_text())
    assert told["seed"] == 7
    assert told["data"] == {"source": "made up", "rows": 3}
    [start] = told["starts"]
    assert start["versions"]["torch"]
    assert start["command"]


def test_a_run_that_is_there_needs_resume_and_the_message_gives_the_command(
    about: Any, run_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunFolder(run_path, about()).close()
    words = ["/usr/bin/oversight", "train", "dpo", "a b.toml"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(ConfigError, match=r"oversight train dpo 'a b\.toml' --resume"):
        RunFolder(run_path, about())
    RunFolder(run_path, about(), resume=True).close()
    assert len(json.loads((run_path / "origin.json").read_text())["starts"]) == 2


def test_resume_without_a_run_begins_one(about: Any, run_path: Path) -> None:
    RunFolder(run_path, about(), resume=True).close()
    assert (run_path / "config.json").exists()


def test_a_finished_run_says_so(about: Any, run_path: Path) -> None:
    RunFolder(run_path, about()).close()
    (run_path / "model").mkdir()
    with pytest.raises(ConfigError, match="holds a finished run"):
        RunFolder(run_path, about(), resume=True)


def test_other_settings_are_refused_before_training(about: Any, run_path: Path) -> None:
    RunFolder(run_path, about()).close()
    with pytest.raises(CheckpointError, match=r"config\.batch_size was 4 and is now 8"):
        RunFolder(run_path, about(batch_size=8), resume=True)
    # The lock was given back.
    RunFolder(run_path, about(), resume=True).close()


def test_tuples_in_settings_agree_with_themselves(about: Any, run_path: Path) -> None:
    RunFolder(run_path, about(betas=(0.9, 0.999))).close()
    RunFolder(run_path, about(betas=(0.9, 0.999)), resume=True).close()


def test_a_folder_of_something_else_is_left_alone(about: Any, run_path: Path) -> None:
    run_path.mkdir()
    (run_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="is not empty and no run"):
        RunFolder(run_path, about())
    with pytest.raises(ConfigError, match="is a file"):
        RunFolder(run_path / "thesis.tex", about())
    assert [path.name for path in run_path.iterdir()] == ["thesis.tex"]


def test_a_first_start_that_was_killed_half_way_can_begin_again(about: Any, run_path: Path) -> None:
    run_path.mkdir()
    for name in ("lock", "origin.json", ".config.json.part"):
        (run_path / name).write_text("{}")
    RunFolder(run_path, about()).close()


HOLD = """
import sys, time
from pathlib import Path
from oversight.train.runs.folder import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_refused_and_a_dead_ones_lock_taken_over(
    about: Any, run_path: Path
) -> None:
    RunFolder(run_path, about()).close()
    command = [sys.executable, "-c", HOLD, str(run_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ConfigError, match=f"trained in by process {other.pid}"):
            RunFolder(run_path, about(), resume=True)
        other.kill()
        other.wait()
    RunFolder(run_path, about(), resume=True).close()


def test_metrics_are_cut_to_the_checkpoint_on_resume(
    about: Any, run_path: Path, make_toy: Any
) -> None:
    toy = make_toy()
    with RunFolder(run_path, about()) as run:
        assert run.resume(toy.state).step == 0
        for step in (1, 2, 3):
            run.log(step, {"loss": toy.step()})
            if step == 2:
                run.save(step, toy.state)
    with RunFolder(run_path, about(), resume=True) as run:
        assert run.resume(make_toy().state).step == 2
    assert [line["step"] for line in read_metrics(run_path)] == [1, 2]


def test_without_a_checkpoint_a_resumed_run_begins_with_empty_metrics(
    about: Any, run_path: Path, make_toy: Any
) -> None:
    with RunFolder(run_path, about()) as run:
        run.resume(make_toy().state)
        run.log(1, {"loss": 1.0})
    with RunFolder(run_path, about(), resume=True) as run:
        assert run.resume(make_toy().state).step == 0
    assert read_metrics(run_path) == []


def test_the_git_revision_is_that_of_the_folder(tmp_path: Path) -> None:
    assert git_revision(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    clean = git_revision(tmp_path)
    assert clean is not None
    assert len(clean) == 40
    (tmp_path / "new").write_text("x")
    assert git_revision(tmp_path) == clean + "+changes"


def test_resume_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--resume"])
    assert resume_command() == "train.py --resume"


def test_a_run_that_was_only_to_be_planned_is_not_gone_on_with_as_a_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "a.toml", "--dry-run", "--set", "seed=1"])
    assert resume_command() == "train.py a.toml --set seed=1 --resume"


def test_a_run_that_is_not_there_is_told_with_the_command_that_begins_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SimpleNamespace(out=tmp_path / "x", members=2)
    monkeypatch.setattr(sys, "argv", ["oversight", "train", "--resume", "sft", "a b.toml"])
    with pytest.raises(ConfigError, match=r"to begin one: oversight train sft 'a b\.toml'; or"):
        check_begun(settings)
    # One member of an ensemble has been begun: the others follow it.
    (tmp_path / "x" / "member-1").mkdir(parents=True)
    (tmp_path / "x" / "member-1" / "config.json").touch()
    check_begun(settings)


def test_a_folder_that_cannot_be_made_is_named(about: Any) -> None:
    if not Path("/proc/self").exists():
        pytest.skip("needs a folder where nothing can be made")
    with pytest.raises(FileError, match="out = '/proc/none/run' cannot be written"):
        RunFolder(Path("/proc/none/run"), about())
