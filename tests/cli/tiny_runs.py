"""Recipes and rows of tiny training runs, and what a refused one says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from oversight.cli.main import run

TINY = """
batch_size = 4
steps = 2
[model.scratch]
hidden_size = 16
num_layers = 1
vocab_size = 300
max_length = 128
[data]
path = "rows.jsonl"
"""


ON_TRAINED = """
batch_size = 4
steps = 2
[model]
path = "trained/model"
[data]
path = "rows.jsonl"
"""


SAMPLES = ["--set", "reward.source=length", "--set", "sampling.max_new_tokens=8"]


def by(source: str, setting: str) -> list[str]:
    """The flags of a source of reward."""
    return ["--set", f"reward.source={source}", "--set", f"reward.{setting}"]


def rows(num: int = 8, **changes: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"r{i}", "prompt": f"Who is number {i}?", "chosen": f"It is Ada {i}."}
        | {"rejected": f"It is Bo {i}."}
        | changes
        for i in range(num)
    ]


def write(path: str, found: list[dict[str, Any]]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in found))


def refused(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line fails with one line of its own, which the user can mend."""
    capsys.readouterr()
    code = run(["train", *args])
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert code == 2
    assert said.count("oversight: ") == 1
    assert said.splitlines()[-1].startswith("oversight: ")
    assert "Traceback" not in said
