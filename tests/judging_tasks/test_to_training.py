"""From the screen to the trainers: what was rated is exported, and `oversight train` takes it."""

from __future__ import annotations

import json
import re

import pytest

from oversight.cli.main import run
from oversight.types import QuestionsAnswered, Task

TINY = """
batch_size = 2
steps = 1
[model.scratch]
hidden_size = 16
num_layers = 1
vocab_size = 300
max_length = 512
[data]
store = "store.db"
preferences = { kinds = ["pairs", "principles", "revisions"] }
"""


async def rate_all(records, task, judge="anna", **answers):
    desk = records.desk(task, judge, overlap=9, pairs="all")
    for each in desk.queue():
        item, _ = desk.take(each)
        desk.open(item)
        # Longer words score higher: which of them stands where is drawn.
        long = len(item.turns()[0].text) > 60
        given = {q.name: "5" if long else "2" for q in desk.asked}
        if task is Task.PAIRS:
            left, right = (len(turn.text) for turn in item.turns())
            given = {"preferred": "left-2" if left > right else "right-2"}
        item.acts.add(QuestionsAnswered(answers=answers or given))
        await desk.send(item)
        await desk.close(item)


@pytest.fixture
async def rated(records):
    records.best_of()
    records.critique()
    await rate_all(records, Task.PAIRS)
    await rate_all(records, Task.PAIRS, "bob")
    await rate_all(records, Task.PRINCIPLES)
    await rate_all(records, Task.REVISIONS, criticism="right", revision="better")
    return records


def test_the_export_has_a_row_for_everything_that_was_rated(rated, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["export", "rows.jsonl", "--store", "store.db", "--set", 'kinds=["pairs"]']) == 0
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {row["kind"] for row in rows} == {"pairs"}
    assert len(rows) == 3, "three pairs of three candidates, by two judges each"
    for row in rows:
        assert len(row["chosen"][0]["content"]) > len(row["rejected"][0]["content"])
        assert row["judges"] == ["anna", "bob"]
        assert row["soft_label"] == pytest.approx(5 / 6)
        assert len(row["rating_ids"]) == 2
        assert row["chosen_ids"]
    capsys.readouterr()
    assert run(["export", "all.jsonl", "--store", "store.db", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    lines = (tmp_path / "all.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert sorted(set(kinds)) == ["pairs", "principles", "revisions", "siblings"]
    assert told["dropped"]["alone"] == 3, "the three speeches of the critique have no siblings"


@pytest.mark.parametrize("trainer", ["reward", "dpo"])
def test_the_trainers_take_what_was_rated(rated, monkeypatch, tmp_path, capsys, trainer):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OVERSIGHT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.toml").write_text(TINY)
    assert run(["train", trainer, "tiny.toml", "--out", "x", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"rows read +5\n", said)
    assert re.search(r"soft labels +4\n", said), "the one by principles has none"
    assert not (tmp_path / "x").exists()


def test_a_reward_model_learns_from_what_was_rated(rated, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OVERSIGHT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny.toml").write_text(TINY)
    assert run(["train", "reward", "tiny.toml", "--out", "run"]) == 0
    assert (tmp_path / "run" / "model").is_dir()


def test_the_command_says_what_is_wrong(records, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["rate", "pears", "--store", "store.db"]) == 2
    assert "pears" in capsys.readouterr().err
    assert run(["rate", "pairs", "--store", "gone.db"]) != 0
    assert "there is no store at" in capsys.readouterr().err
    assert run(["rate", "principles", "--store", "store.db", "--constitution", "nice"]) == 2
    assert "there is no constitution 'nice'" in capsys.readouterr().err
    assert run(["rate", "pairs", "--store", "store.db", "--set", "pairz=all"]) == 2
    assert "pairs" in capsys.readouterr().err
    (tmp_path / "study.toml").write_text('overlap = "many"\n')
    assert run(["rate", "pairs", "study.toml"]) == 2
    assert "study.toml: overlap = " in capsys.readouterr().err
