"""What the README shows runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


def blocks(root: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)


def test_the_python_example_runs(root: Path, tmp_path: Path) -> None:
    [example] = blocks(root, "python")
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "num_debates=20" in done.stdout


def test_every_command_that_needs_no_model_runs(root: Path, tmp_path: Path) -> None:
    text = blocks(root, "bash")[1].replace("\\\n", " ").replace("--limit 200", "--limit 3")
    lines = [line.split("#")[0].split() for line in text.splitlines()]
    commands = [words[1:] for words in lines if words[:1] == ["oversight"]]
    assert len(commands) == 8
    for words in commands:
        done = subprocess.run(
            [sys.executable, "-m", "oversight.cli.main", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr)
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "preferences.parquet").exists()


def test_every_link_leads_somewhere(root: Path) -> None:
    for page in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/datasets.md"):
        text = (root / page).read_text()
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
            if "://" not in target:
                assert (root / page).parent.joinpath(target).exists(), (page, target)


@pytest.mark.parametrize("target", ["demo", "test", "bench", "bench-vllm"])
def test_every_make_target_named_exists(root: Path, target: str) -> None:
    assert f"make {target}" in (root / "README.md").read_text()
    assert re.search(rf"^{target}:", (root / "Makefile").read_text(), re.MULTILINE)
