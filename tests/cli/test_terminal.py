"""The command line as a tool: names completed and corrected, empty results explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from oversight.cli.main import run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with eight debates of two protocols."""
    path = str(tmp_path_factory.mktemp("terminal") / "debates.db")
    words = ["debate", "-d", "world", "--limit", "4", "-p", "naive", "-p", "debate", "--no-live"]
    assert run([*words, "--store", path]) == 0
    return path


@pytest.mark.parametrize(
    "command",
    [
        ["judge", "--linear"],
        ["rate", "pairs", "--linear"],
        ["rate", "pairs", "--model", "seedling"],
        ["report"],
        ["export", "rows.jsonl"],
    ],
)
@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--protocol", "debat"], "has no debate of protocol 'debat'. Did you mean 'debate'?"),
        (["--dataset", "wrld"], "has no debate of data set 'wrld'. Did you mean 'world'?"),
    ],
)
def test_a_name_that_the_store_lacks_is_refused_with_the_nearest(
    store, tmp_path, monkeypatch, capsys, command, given, says
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run([*command, *given, "--store", store]) == 2
    line = capsys.readouterr().err
    assert says in line
    assert line.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_feedback_and_training_name_it_too(store, root, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    feedback = ["feedback", str(root / "recipes" / "feedback.toml"), "--store", store]
    assert run([*feedback, "--set", "protocol=debat"]) == 2
    assert "Did you mean 'debate'?" in capsys.readouterr().err
    Path("sft.toml").write_text(
        f'out = "out"\n[model]\npath = "seedling"\n[data]\nstore = "{store}"\nprotocol = "debat"\n'
    )
    assert run(["train", "sft", "sft.toml", "--dry-run"]) == 2
    assert "Did you mean 'debate'?" in capsys.readouterr().err
