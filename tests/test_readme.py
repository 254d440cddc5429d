"""The README's examples run as they stand."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TRAINERS = ["sft", "reward", "dpo", "ppo", "grpo"]


def blocks(root: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)


def python(example: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", example], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_python_example_runs(root: Path, tmp_path: Path) -> None:
    example = next(block for block in blocks(root, "python") if "ov.debate(" in block)
    done = python(example, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "40 debates · 20 questions" in done.stdout
    again = python(example, tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout


def test_training_from_python_runs(root: Path, tmp_path: Path) -> None:
    example = next(
        block for block in blocks(root, "python") if "train.sft" in block and "rows = [" in block
    )
    assert len(example.splitlines()) <= 10
    done = python(example, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "runs/sums/model" in done.stdout
    claim = re.search(
        r"loss falls from ([\d.]+), .* to below ([\d.]+)", (root / "README.md").read_text()
    )
    assert claim is not None
    log = (tmp_path / "runs" / "sums" / "metrics.jsonl").read_text().splitlines()
    first, last = (json.loads(log[place])["loss"] for place in (0, -1))
    assert f"{first:.1f}" == claim[1]
    assert last < float(claim[2])
    again = python(example, tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout
    assert (tmp_path / "runs" / "sums" / "metrics.jsonl").read_text().splitlines() == log


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_trainer_runs_on_what_export_made(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "recipes" / "training", tmp_path / "recipes" / "training")
    text = next(block for block in blocks(root, "bash") if "oversight train" in block)
    lines = [line.split("#")[0].split() for line in text.splitlines()]
    commands = [words[1:] for words in lines if words[:1] == ["oversight"]]
    trained = [words[1] for words in commands if words[0] == "train" and "--dry-run" not in words]
    assert trained == TRAINERS
    commands[:0] = [
        ["debate", "--dataset", "world", "--limit", "60", "-p", "debate", "--both-sides"],
        ["export", "preferences.parquet"],
    ]
    for words in commands:
        done = subprocess.run(
            [sys.executable, "-m", "oversight.cli.main", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr)
    for trainer in TRAINERS:
        assert (tmp_path / "runs" / trainer / "model" / "config.json").exists()


def test_every_command_that_needs_no_model_runs(root: Path, tmp_path: Path) -> None:
    [text] = [b for b in blocks(root, "bash") if "oversight datasets" in b]
    text = text.replace("\\\n", " ").replace("--limit 200", "--limit 3")
    lines = [line.split("#")[0].split() for line in text.splitlines()]
    commands = [words[1:] for words in lines if words[:1] == ["oversight"]]
    assert len(commands) == 10
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


@pytest.mark.parametrize("target", ["demo", "test", "bench", "bench-training", "bench-vllm"])
def test_every_make_target_named_exists(root: Path, target: str) -> None:
    assert f"make {target}" in (root / "README.md").read_text()
    assert re.search(rf"^{target}:", (root / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_walk_from_debates_to_a_policy_trained_on_ones_own_judgments(
    root: Path, tmp_path: Path
) -> None:
    """As docs/judging.md tells it, on fewer debates and judged line by line."""
    page = (root / "docs" / "judging.md").read_text()
    shutil.copytree(root / "recipes" / "judging", tmp_path / "recipes" / "judging")
    walk = page.split("```bash\n", 1)[1].split("```", 1)[0].replace("\\\n", " ")
    lines = [line.split("#")[0] for line in walk.splitlines()]
    commands = [shlex.split(line)[1:] for line in lines if line.startswith("oversight")]
    assert [words[0] for words in commands] == ["judge", "report", "export", "train", "debate"]
    demo = [
        str(root / "oversight" / "cli" / "demo.toml"),
        "--limit",
        "6",
        "--store",
        "demo/demo.db",
    ]
    judged = "next\nb A 80\nverdict decided\nsend\n" * 4 + "quit\n"
    for words in [["debate", *demo], *commands[:-1], ["debate", "--model", "runs/judged/model"]]:
        is_judging = words[0] == "judge"
        done = subprocess.run(
            [sys.executable, "-m", "oversight.cli.main", *words, *["--linear"] * is_judging],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            input=judged if is_judging else "",
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        if is_judging:
            assert done.stdout.count("Sent.") == 4, done.stdout
    assert (tmp_path / "runs" / "judged" / "model").is_dir()
