"""Files and paths that are wrong end a command in one line that names them."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from oversight.cli import main

SMALL = 36_000
"""Bytes that a file may have: enough to open a store, too few to write much."""
ASKING = """
protocols = ["constitutional"]
dataset = { dataset = "prompts", settings = { path = "asked.txt" } }
engines.m = { engine = "scripted", settings = { fallback = "So." } }
agents.responder = { agent = "responder", engine = "m" }
agents.critic = { agent = "critic", engine = "m", settings = { constitution = "honesty" } }
"""
"""A recipe of prompts that are answered and criticised."""
SCRATCH = "[model.scratch]\nhidden_size = 16\nnum_layers = 1\nvocab_size = 300\nmax_length = 128\n"
BROKEN_TOML = {
    "deep": "x = " + "[" * 100_000,
    "a long number": "seed = " + "9" * 5_000,
    "cut off": "[dataset]\nlimit = ",
    "a NUL": 'store = "a\0b"',
}


def one_line(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    assert main.run(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    return said


@pytest.mark.parametrize("damage", BROKEN_TOML)
@pytest.mark.parametrize(
    "words",
    [
        ["debate", "x.toml"],
        ["judge", "x.toml", "--linear"],
        ["rate", "pairs", "x.toml", "--linear"],
        ["train", "dpo", "x.toml"],
        ["run", "x.toml"],
        ["pixels", "x.toml"],
        ["debate", "-d", "world", "--limit", "1", "-p", "x.toml"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_broken_recipe_study_or_protocol_is_one_line(
    capsys, tmp_path, monkeypatch, damage, words
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.toml").write_text(BROKEN_TOML[damage])
    assert "x.toml" in one_line(capsys, words)


GUARD = """
policy = "absent.toml"
[upstreams.m]
engine = "scripted"
"""


@pytest.mark.parametrize(
    ("words", "noun"),
    [
        (["train", "sft", "absent.toml"], "recipe"),
        (["report", "--groups", "absent.toml"], "file of groups"),
        (["judge", "absent.toml", "--linear"], "study"),
        (["guard", "check", "absent.toml"], "guard's file"),
        (["guard", "check", "guard.toml"], "policy"),
        (
            ["debate", "-d", "world", "--limit", "1", "--max-cost", "1", "--prices", "absent.toml"],
            "price table",
        ),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_a_file_that_is_not_there_is_called_what_it_would_be(
    capsys, tmp_path, monkeypatch, words, noun
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("guard.toml").write_text(GUARD)
    assert (
        one_line(capsys, words) == f"oversight: {noun} 'absent.toml': No such file or directory\n"
    )


def test_what_a_file_lacks_is_to_be_given_in_it_and_by_set_in_a_recipe_alone(
    capsys, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.toml").write_text("port = 1\n")
    said = one_line(capsys, ["guard", "check", "x.toml"])
    assert "setting 'upstreams' is missing; give it in the guard's file\n" in said
    Path("x.toml").write_text("currency = 'EUR'\n")
    priced = ["debate", "-d", "world", "--limit", "1", "--max-cost", "1", "--prices", "x.toml"]
    said = one_line(capsys, priced)
    assert "setting 'models' is missing; give it in the price table\n" in said


def test_a_value_of_set_that_is_too_deep_is_one_line(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "seed" in one_line(capsys, ["debate", "--set", "seed=" + "[" * 100_000])[:200]


@pytest.mark.parametrize("damage", [b"[" * 100_000, b"\xff", b"7", b"9" * 5_000])
def test_broken_metrics_are_named_with_their_line(capsys, tmp_path, damage) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(damage + b"\n")
    assert "metrics.jsonl:1:" in one_line(capsys, ["plot", str(tmp_path)])


def test_half_of_a_surrogate_pair_is_a_row_that_is_refused(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    row = {"prompt": "\ud800", "chosen": "a", "rejected": "b"}
    Path("rows.jsonl").write_text(json.dumps(row) + "\n")
    Path("x.toml").write_text('out = "run"\nsteps = 1\n[data]\npath = "rows.jsonl"\n' + SCRATCH)
    said = one_line(capsys, ["train", "dpo", "x.toml", "--dry-run"])
    assert "surrogate" in said
    assert "rows.jsonl" in said


@pytest.mark.parametrize("words", [["demo", "--folder"], ["pixels", "-o"]], ids=" ".join)
def test_a_folder_that_is_a_file_is_named(capsys, tmp_path, words) -> None:
    path = tmp_path / "notes"
    path.write_text("")
    said = one_line(capsys, [*words, str(path)])
    assert f"'{path}' cannot be written: it is a file" in said


def test_a_session_whose_store_cannot_be_written_ends_and_says_so(tmp_path) -> None:
    command = [sys.executable, "-m", "oversight.cli.main"]
    debates = ["debate", "-d", "world", "--limit", "1", "--no-live", "--store", "d.db"]
    assert subprocess.run([*command, *debates], cwd=tmp_path, check=False).returncode == 0
    done = subprocess.run(
        [*command, "judge", "--linear", "--store", "d.db"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        input="1\nbelief 70\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, SMALL)),
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("place", ["/proc/nope", "file/below"])
@pytest.mark.parametrize(
    "words",
    [
        "train sft RECIPES/training/sft.toml --dry-run --out PLACE",
        "train sft RECIPES/training/sft.toml --out PLACE",
        "report --store none.db --html PLACE/x.html",
        "report --store none.db --png PLACE/x.png",
        "export PLACE/x.parquet --store none.db",
        "plot none --out PLACE/x.png",
        "run RECIPES/closed_circle.toml --quick --out PLACE",
        "run RECIPES/constitutional_sl.toml --quick --out PLACE",
        "demo --folder PLACE",
        "pixels --out PLACE",
        "propose RECIPES/propose.toml --out PLACE/x.jsonl",
        "prompts debater --copy PLACE/x.toml",
        "store seal --store none.db --out PLACE/x",
        "constitution lint --store none.db --html PLACE/x.html",
        "inspect --store none.db --html PLACE/x.html",
        "inspect --store none.db --png PLACE",
        "guard evaluate RECIPES/guard/register.toml -d register --png PLACE/x.png",
        "redteam run RECIPES/redteam/policy.toml --html PLACE/x.html",
        "redteam run RECIPES/redteam/policy.toml --folder PLACE",
        "redteam mend none.jsonl RECIPES/redteam/policy.toml --into PLACE",
        "redteam loop RECIPES/redteam_judge.toml --quick --out PLACE",
        "redteam attacker RECIPES/redteam/attacker.toml --quick --out PLACE",
        "measure RECIPES/measured/suite.toml --quick --out PLACE",
        "debate --store PLACE/x.db",
        "critique c.toml --store PLACE/x.db",
        "critique c.toml --batch PLACE",
        "answer requests.jsonl --recipe RECIPES/vllm_debate.toml --out PLACE/x.jsonl",
    ],
)
def test_a_place_for_results_that_cannot_be_written_is_refused_before_anything_runs(
    capsys, tmp_path, monkeypatch, words, place
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "file": "",
        "requests.jsonl": "",
        "asked.txt": "Why?",
        "c.toml": ASKING,
    }.items():
        Path(name).write_text(text)
    before = sorted(os.listdir())
    recipes = str(Path(__file__).parents[2] / "recipes")
    given = [word.replace("PLACE", place).replace("RECIPES", recipes) for word in words.split()]
    assert place in one_line(capsys, given)
    assert sorted(os.listdir()) == before
