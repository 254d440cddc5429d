"""From a task in a file of one's own to training: rated, exported, trained, by command."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from oversight.cli.main import run
from oversight.types import OwnAnswer, Task

MINE = """
from oversight.judging.tasks import Choice, RatingTask, TaskQuestion
from oversight.types import Record, Task

class KinderAnswer(Record):
    kinder: str

class Kinder(RatingTask):
    name = "kinder"
    turns = Task.PAIRS
    record = KinderAnswer
    asks = "Which of the two is kinder?"
    names = ("Left", "Right")

    def questions(self, constitution=None):
        choices = (
            Choice("left", "left", "The left one."),
            Choice("right", "right", "The right one."),
            Choice("neither", "neither", "Neither."),
        )
        return (TaskQuestion("kinder", "Kinder", choices),)

    def answer(self, given, constitution=None):
        return KinderAnswer(kinder=given["kinder"])

    def preference(self, answer):
        return {"left": 0.9, "right": 0.1}.get(answer.kinder)

class Short(Kinder):
    name = "short"
    turns = Task.PRINCIPLES
    names = ("The response",)

    def preference(self, answer):
        return {"left": 1.0, "right": 0.25}.get(answer.kinder)

class Mended(Kinder):
    name = "mended"
    turns = Task.REVISIONS
    names = ("Speech", "Criticism", "Revision")

class Silent(Kinder):
    name = "silent_one"
    preference = RatingTask.preference

class Wrong(Kinder):
    name = "wrong"

    def preference(self, answer):
        return 7
"""
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
preferences = { kinds = ["kinder"] }
"""


@pytest.fixture
def mine(records, tmp_path, monkeypatch):
    """Rates in plain lines, as a pipe does."""
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    monkeypatch.chdir(tmp_path)

    def rate(task: str, lines: str, judge: str = "anna") -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        command = ["rate", f"{path}:{task}", "--linear", "--store", "store.db", "--judge", judge]
        assert run([*command, "--set", "pairs=all", "--set", "overlap=3"]) == 0

    return rate


def exported(capsys, *sets: str) -> tuple[list[dict], dict[str, int]]:
    given = [part for each in sets for part in ("--set", each)]
    capsys.readouterr()
    command = ["export", "rows.jsonl", "--store", "store.db", "--layout", "kwise", "--json"]
    assert run([*command, *given]) == 0
    told = json.loads(capsys.readouterr().out)
    return [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()], told[
        "dropped"
    ]


def test_candidates_rated_in_ones_own_task_are_rows_under_its_name(records, mine, capsys):
    turns = {turn.id: turn for turn in records.best_of("One.", "Two two.", "Three three three.")}
    mine("Kinder", "1\n\n2\n\n3\n\n")
    Path("mine.py").unlink()
    rows, dropped = exported(capsys, 'kinds=["kinder"]')
    assert dropped == {"says_nothing": 1}
    given = [each for each in records.ratings() if each.answer.preference is not None]
    best = {each.id: each.turn_ids[0 if each.answer.preference > 0.5 else 1] for each in given}
    assert len(rows) == len(given) == 2
    for row in rows:
        assert row["kind"] == "kinder"
        assert row["soft_label"] == 0.9
        assert row["ranks"] == [0, 1]
        assert row["turn_ids"][0] == best[row["rating_ids"][0]]
        assert row["completions"][0][0]["content"] == turns[row["turn_ids"][0]].text
        assert row["judges"] == ["anna"]


def test_several_raters_of_ones_own_task_are_averaged(records, mine, capsys):
    records.best_of("One.", "Two two.")
    mine("Kinder", "1\n\n")
    mine("Kinder", "2\n\n", judge="bob")
    mine("Kinder", "1\n\n", judge="carl")
    rows, _ = exported(capsys, 'kinds=["kinder"]')
    (row,) = rows
    assert row["judges"] == ["anna", "bob", "carl"]
    assert row["soft_label"] == pytest.approx((0.9 + 0.1 + 0.9) / 3)


def test_single_responses_of_ones_own_task_are_ranked_by_its_scores(records, mine, capsys):
    records.best_of("One.", "Two two.", "Three three three.")
    mine("Short", "1\n\n2\n\n3\n\n")
    rows, dropped = exported(capsys, 'kinds=["short"]', 'siblings="kwise"')
    (row,) = rows
    assert (row["kind"], row["scores"], row["ranks"]) == ("short", [1.0, 0.25], [0, 1])
    assert dropped == {"unscored": 1}


def test_revisions_of_ones_own_task_are_responses_to_the_first_prompt(records, mine, capsys):
    speech, _, revision = records.critique("First.", "Not so.", "Second.")
    mine("Mended", "1\n\n")
    rows, _ = exported(capsys, 'kinds=["mended"]')
    (row,) = rows
    assert row["turn_ids"] == [revision.id, speech.id]
    assert row["soft_label"] == 0.9


def test_all_kinds_take_tasks_of_ones_own_too_and_others_do_not(records, mine, capsys):
    records.best_of("One.", "Two two.")
    mine("Kinder", "1\n\n")
    assert [row["kind"] for row in exported(capsys)[0]] == ["siblings", "kinder"]
    assert [row["kind"] for row in exported(capsys, 'kinds=["siblings"]')[0]] == ["siblings"]


def test_a_task_that_makes_no_rows_is_named_by_the_export(records, mine, capsys):
    records.best_of("One.", "Two two.")
    mine("Silent", "1\n\n")
    (sent,) = records.ratings()
    assert sent.answer == OwnAnswer(task="silent_one", fields={"kinder": "left"})
    rows, dropped = exported(capsys)
    assert [row["kind"] for row in rows] == ["siblings"]
    assert dropped == {"task 'silent_one' makes no rows": 1}
    assert run(["export", "rows.jsonl", "--store", "store.db"]) == 0
    assert "  1 dropped: task 'silent_one' makes no rows\n" in capsys.readouterr().out


def test_a_task_that_nothing_was_rated_in_is_refused_with_those_that_are(records, mine, capsys):
    records.best_of("One.", "Two two.")
    mine("Kinder", "1\n\n")
    assert run(["export", "rows.jsonl", "--store", "store.db", "--set", 'kinds=["clearer"]']) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "kinds = 'clearer': nothing was rated in a task of that name" in said
    assert "tasks of your own there: kinder" in said
    assert not Path("rows.jsonl").exists()
    assert run(["export", "rows.jsonl", "--store", "store.db", "--set", 'kinds=["siblinks"]']) == 2
    assert "Did you mean 'siblings'?" in capsys.readouterr().err


def test_what_is_no_number_from_0_to_1_is_not_sent_and_the_person_is_told(records, mine, capsys):
    records.best_of("One.", "Two two.")
    mine("Wrong", "1\n\n")
    said = " ".join(capsys.readouterr().out.split())
    assert "Not sent: task 'wrong': preference() gave 7; return a number from 0 to 1" in said
    assert records.ratings() == []


def test_what_it_says_for_training_stands_in_the_record(records, mine):
    records.best_of("One.", "Two two.")
    mine("Kinder", "2\n\n")
    (sent,) = records.ratings()
    assert sent.answer == OwnAnswer(
        task="kinder", fields={"kinder": "right"}, turns=Task.PAIRS, preference=0.1
    )


@pytest.mark.parametrize("source", ["store", "file"])
def test_a_reward_model_learns_from_ones_own_task(records, mine, monkeypatch, tmp_path, source):
    records.best_of("One.", "Two two.", "Three three three.")
    mine("Kinder", "1\n\n1\n\n2\n\n")
    Path("mine.py").unlink()
    monkeypatch.setenv("OVERSIGHT_CACHE", str(tmp_path / "cache"))
    recipe = TINY
    if source == "file":
        out = ["export", "rows.parquet", "--store", "store.db", "--set", 'kinds=["kinder"]']
        assert run(out) == 0
        recipe = TINY.partition("[data]")[0] + '[data]\npath = "rows.parquet"\n'
    Path("tiny.toml").write_text(recipe)
    assert run(["train", "reward", "tiny.toml", "--out", "run"]) == 0
    assert (tmp_path / "run" / "model").is_dir()
