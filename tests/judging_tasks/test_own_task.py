"""A task in a file outside the package: by command, on the screen, and read without its file."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from oversight.cli.main import run
from oversight.errors import ConfigError, UnknownNameError
from oversight.judging.tasks import load, names
from oversight.store import Store
from oversight.types import OwnAnswer

CLARITY = """
from oversight.judging.tasks import Choice, RatingTask, TaskQuestion
from oversight.types import Record

class ClarityAnswer(Record):
    clear: bool
    length: int

class Clarity(RatingTask):
    name = "clarity"
    record = ClarityAnswer
    asks = "Is it clear, and how long should it be?"

    def questions(self, constitution=None):
        yes_or_no = (Choice("yes", "yes", "It is clear."), Choice("no", "no", "It is not clear."))
        lengths = (Choice("-1", "shorter", "Shorter."), Choice("0", "as it is", "As it is."))
        return (
            TaskQuestion("clear", "Clear", yes_or_no),
            TaskQuestion("length", "Length", lengths, digits="89"),
        )

    def check(self, given):
        if given == {"clear": "no", "length": "0"}:
            return "What is not clear cannot stay as it is."

    def answer(self, given, constitution=None):
        return ClarityAnswer(clear=given["clear"] == "yes", length=int(given["length"]))

class Nameless(Clarity):
    name = "Pairs of mine"

class Taken(Clarity):
    name = "pairs"

class Lacking(RatingTask):
    name = "lacking"
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(CLARITY)
    return str(path)


def by_command(store: Store, task: str, lines: str) -> subprocess.CompletedProcess[str]:
    """`oversight rate TASK --linear` in a process of its own."""
    command = [sys.executable, "-m", "oversight.cli.main", "rate", task, "--linear"]
    command += ["--store", store.url, "--judge", "anna"]
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        command,
        input=lines,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
        timeout=120,
        check=False,
    )


def test_a_task_in_a_file_outside_the_package_is_rated_by_command(records, own):
    (turn,) = records.debate("It is in the cellar, I think, or so they say.")
    done = by_command(records.store, f"{own}:Clarity", "2\n9\n\nundo\n8\n\n")
    assert done.returncode == 0, done.stderr
    assert f"task: importing {own}, whose code runs as part of this command" in done.stderr
    assert "Clear? 1 It is clear, 2 It is not clear." in done.stdout
    assert "Length? 8 Shorter, 9 As it is." in done.stdout
    assert "What is not clear cannot stay as it is." in done.stdout
    assert "1 sent now" in done.stdout
    (sent,) = records.ratings()
    assert sent.answer == OwnAnswer(task="clarity", fields={"clear": False, "length": -1})
    assert (sent.task, sent.turn_ids, sent.judge) == ("clarity", (turn.id,), "anna")


async def test_it_is_shown_and_answered_on_the_screen_with_digits(records, rating, own):
    records.debate("It is in the cellar.")
    async with rating(f"{own}:Clarity") as screen:
        await screen.see("Enter takes the item")
        await screen.press("enter")
        await screen.see("Is it clear, and how long", "The response", "Clear: 1 It is clear, 2 It")
        await screen.press("2")
        await screen.see("Length: 8 Shorter, 9 As it is.")
        await screen.press("9")
        await screen.press("enter")
        await screen.see("What is not clear cannot stay as it is.")
        await screen.press("k", "1")
        await screen.see("It is clear. As it is. Enter sends it.")
        await screen.press("enter")
        await screen.see("1 sent now")
    (sent,) = records.ratings()
    assert sent.answer == OwnAnswer(task="clarity", fields={"clear": True, "length": 0})


def test_its_ratings_are_read_without_its_file(records, own, capfd):
    records.best_of()
    by_command(records.store, f"{own}:Clarity", "1\n8\n\n" * 3)
    Path(own).unlink()
    assert run(["store", "check", "--store", records.store.url]) == 0
    capfd.readouterr()
    assert run(["report", "--store", records.store.url, "--json"]) == 0
    (rater,) = json.loads(capfd.readouterr().out)["raters"]
    assert (rater["task"], rater["rater"], rater["num_items"]) == ("clarity", "anna", 3)


def test_a_rating_whose_column_names_another_task_is_refused_by_name(records, own, capfd):
    records.debate("One speech.")
    by_command(records.store, f"{own}:Clarity", "1\n8\n\n")
    with sqlite3.connect(records.store.url) as connection:
        connection.execute("UPDATE ratings SET task = 'clarify'")
    assert run(["report", "--store", records.store.url]) == 2
    assert "ratings row" in (said := capfd.readouterr().err)
    assert "column task is 'clarify'" in said


def test_what_is_no_task_is_refused_with_what_would_be(own):
    for name, words in {
        "Nameless": "name = 'Pairs of mine' is not accepted",
        "Taken": "name = 'pairs' is not accepted",
        "Lacking": "the class lacks answer, questions",
        "ClarityAnswer": "this class is no task; derive it from oversight.judging.tasks.RatingTask",
        "Absent": "has no class 'Absent'",
    }.items():
        with pytest.raises(ConfigError, match=words.replace(".", r"\.")):
            load(f"{own}:{name}")


def test_a_model_is_not_asked_about_a_task_of_ones_own(records, own, capfd):
    records.debate("One speech.")
    command = ["rate", f"{own}:Clarity", "--store", records.store.url, "--model", "seedling"]
    assert run(command) == 2
    assert "task 'clarity' is asked of people" in capfd.readouterr().err


def test_tasks_are_listed_by_their_files():
    assert names() == ["flagged", "pairs", "principles", "revisions"]
    with pytest.raises(UnknownNameError, match="Did you mean 'pairs'"):
        load("pair")
