"""A small job by files: its recipe, its waves, and everything that its store ends with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oversight import registry
from oversight.cli import main
from oversight.store import Store

RECIPE = """
store = "{store}"
protocols = ["{protocol}"]
[dataset]
dataset = "prompts"
settings = {{ path = "{prompts}" }}
[agents.responder]
agent = "responder"
engine = "m"
[agents.critic]
agent = "critic"
engine = "m"
settings = {{ constitution = "honesty", num_principles = 1, reasoning = false }}
[engines.m]
engine = "scripted"
[engines.m.settings]
model = "script"
fallback = "A plain answer."
rules = [
  {{ pattern = "at most 150 words(?s:.)*jar 3", answer = "NOTHING TO CHANGE" }},
  {{ pattern = "write only: NO CHANGE", answer = "Another answer." }},
]
"""


NUM_PROMPTS = 4


Damage = Callable[[Path, int], None]


def write_recipe(folder: Path, name: str) -> Path:
    """A recipe over a store of its own, with two rounds at most."""
    prompts, protocol = folder / "asked.txt", folder / "two_rounds.toml"
    prompts.write_text("".join(f"How do I open jar {n}?\n" for n in range(NUM_PROMPTS)))
    shipped = (registry.path("protocols", "constitutional")).read_text()
    protocol.write_text(shipped.replace("rounds = 4", "rounds = 2"))
    path = folder / f"{name}.toml"
    path.write_text(RECIPE.format(store=folder / f"{name}.db", prompts=prompts, protocol=protocol))
    return path


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    """The command's JSON."""
    capsys.readouterr()
    assert main.run([*words, "--json"]) == code
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def content(store: Path) -> dict[str, Any]:
    """Everything that a store says of its runs, but for times."""
    found: dict[str, Any] = {}
    with Store.open(str(store)) as opened:
        assert opened.check() == []
        for transcript in opened.transcripts():
            for turn in transcript.turns:
                row = turn.model_dump(mode="json")
                row.pop("seconds")
                for sample in row["samples"]:
                    sample.pop("seconds")
                    # The scripted engine counts a prompt's parts, which a file joins.
                    sample["usage"].pop("prompt_tokens")
                found[turn.id] = row
    return found


def answer(capsys: pytest.CaptureFixture[str], job: Path, path: Path) -> None:
    """Answer all request files that have no answer file."""
    for requests in sorted((job / "requests").glob("*.jsonl")):
        if not list((job / "answers").glob(f"*{requests.name}")):
            run(capsys, "answer", str(requests), "--recipe", str(path))


def through(
    capsys: pytest.CaptureFixture[str],
    path: Path,
    job: Path,
    damage: Damage = lambda job, wave: None,
    shards: int = 3,
) -> list[dict[str, Any]]:
    """Run waves until nothing waits; `damage` is done to the folder before each."""
    told: list[dict[str, Any]] = []
    for wave in range(40):
        damage(job, wave)
        words = ("critique", str(path), "--batch", str(job), "--shards", str(shards))
        told.append(run(capsys, *words))
        if not told[-1]["waiting"]:
            return told
        answer(capsys, job, path)
    raise AssertionError("the job came to no end")


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]
