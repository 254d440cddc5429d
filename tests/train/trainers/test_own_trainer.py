"""A trainer that a user adds in a file of their own: `oversight train file.py:function`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from safetensors.torch import load_file

from oversight.cli.main import run
from oversight.errors import ConfigError, UnknownNameError
from oversight.train import registered

MINE = '''
"""SFT on the shortest responses alone."""

from pathlib import Path

from pydantic import Field

from oversight.train import sft
from oversight.train.data.loading import load_demonstrations
from oversight.train.plan import Plan, begin_alone
from oversight.train.registered import trainer


class Config(sft.Config):
    """Settings of it."""

    most: int = Field(default=8, ge=1)


def kept(config, examples):
    return [each for each in examples if len(each.row.response_ids) <= config.most]


def plan(config):
    start = begin_alone(config)
    loaded = start.load(load_demonstrations, config.data, config.batch_size)
    groups = [[each.row] for each in kept(config, loaded.examples)]
    return Plan("shortest", config, start, loaded, groups, ["only short ones"])


@trainer(Config, plan=plan)
def train(config, *, rows=None, resume=False) -> Path:
    """Train."""
    return sft.train(config, rows=rows, resume=resume)


def plain(config):
    return None
'''
RECIPE = """
batch_size = 4
steps = 2
out = "o"
[model]
device = "cpu"
[model.scratch]
hidden_size = 16
num_layers = 1
vocab_size = 300
max_length = 64
[data]
path = "rows.jsonl"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with a recipe, rows, and the user's file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(RECIPE)
    (tmp_path / "mine.py").write_text(MINE)
    rows = [{"prompt": f"Who is {i}?", "completion": f" Ada {i}."} for i in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_it_is_run_from_the_command_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "mine.py:train", "tiny.toml", "--set", "most=6"]) == 0
    said = capsys.readouterr()
    assert "mine.py, whose code runs as part of this command" in said.err.replace("\n", "")
    assert "Next: oversight plot o" in said.out
    assert run(["train", "sft", "tiny.toml", "--out", "plain"]) == 0
    own, known = (load_file(f"{out}/model/model.safetensors") for out in ("o", "plain"))
    assert all(own[name].equal(known[name]) for name in known)
    assert run(["train", "mine.py:train", "tiny.toml", "--set", "most=6", "--resume"]) == 0


def test_its_plan_is_printed_and_nothing_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "mine.py:train", "tiny.toml", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for line in ("shortest of random weights", "only short ones", "2 of 4 examples", "in all"):
        assert line in printed
    assert not (here / "o").exists()


def test_its_settings_are_checked(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "mine.py:train", "tiny.toml", "--set", "mostly=6"]) == 2
    assert "unknown setting 'mostly'. Did you mean 'most'?" in capsys.readouterr().err
    assert run(["train", "mine.py:train", "tiny.toml", "--set", "most=0", "--dry-run"]) == 2
    assert "most = 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mine.py:plain", r"this function is not registered as a trainer; put @trainer\("),
        ("mine.py:Config", "this ModelMetaclass is not registered as a trainer"),
        ("mine.py:nope", "'mine.py' has no function 'nope'"),
        ("away.py:train", "there is no such file"),
    ],
)
def test_what_is_no_trainer_is_refused_by_name(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=f"^trainer = '{name}': .*{told}"):
        registered.load(name)
    assert run(["train", name, "tiny.toml"]) == 2
    assert re.search(told, " ".join(capsys.readouterr().err.split()))


def test_every_file_with_a_trainer_is_a_command(root: Path) -> None:
    files = (root / "oversight" / "train").glob("*.py")
    found = {path.stem for path in files if "\n@trainer(" in path.read_text(encoding="utf-8")}
    assert {"sft", "reward", "dpo", "ppo", "grpo"} <= found == set(registered.names())
    for name in found:
        assert registered.summary(name).endswith(".")
    with pytest.raises(UnknownNameError, match="Did you mean 'sft'"):
        registered.load("sfft")


def test_a_file_that_is_put_beside_the_trainers_is_a_command(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registered, "__file__", str(here / "registered.py"))
    registered._files.cache_clear()
    try:
        assert registered.names() == ["mine"]
        assert registered.summary("mine") == "SFT on the shortest responses alone."
    finally:
        registered._files.cache_clear()
