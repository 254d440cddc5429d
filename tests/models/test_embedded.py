"""Models that ship with the package: found by name, small, and whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from oversight.models import EMBEDDED, SEEDLING, resolve

MAX_BYTES = 10 * 2**20


@pytest.mark.parametrize("name", EMBEDDED)
def test_an_embedded_model_is_whole_and_small(name: str) -> None:
    folder = EMBEDDED[name].folder
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(sizes)
    assert sum(sizes.values()) <= MAX_BYTES


def test_a_name_is_resolved_and_a_path_of_the_same_name_is_not(tmp_path: Path) -> None:
    assert resolve(SEEDLING) == str(EMBEDDED[SEEDLING].folder)
    for other in (f"./{SEEDLING}", f"runs/{SEEDLING}", "organisation/model", str(tmp_path)):
        assert resolve(other) == other


def test_the_command_lists_them() -> None:
    command = [sys.executable, "-m", "oversight.cli.main", "models", "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [row["name"] for row in json.loads(run.stdout)["embedded"]] == list(EMBEDDED)
