"""A folder with a tiny trained model, and one to train in."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from oversight.cli.main import run
from tests.cli.tiny_runs import ON_TRAINED, TINY, rows, write


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows, recipes and one finished SFT run."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("OVERSIGHT_CACHE", str(folder / "cache"))
        write("rows.jsonl", rows())
        Path("tiny.toml").write_text(TINY)
        Path("on.toml").write_text(ON_TRAINED)
        assert run(["train", "sft", "tiny.toml", "--out", "trained"]) == 0
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, to be in."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("OVERSIGHT_CACHE", str(tmp_path / "here" / "cache"))
    return tmp_path / "here"
