"""A store from before chains and open prompts opens, says the same, and is gone on with.

`before/store.sql.gz` is such a store as SQL: six debates of three protocols, which a program and
anna judged, with her ratings of all three tasks, and one that bob has answered and not sent.
`before/kwise.jsonl` is what it was exported as then. Both were written by commit 2176ccf.
"""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from oversight.cli.main import run
from oversight.store import Store
from oversight.types import PairAnswer, Preferred

BEFORE = Path(__file__).parent / "before"


@pytest.fixture
def before(tmp_path, monkeypatch):
    """The store, in the working directory."""
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("store.db")) as connection:
        connection.executescript(gzip.decompress((BEFORE / "store.sql.gz").read_bytes()).decode())
    return "store.db"


def ratings(url: str) -> list:
    with Store.open(url) as store:
        return [each for transcript in store.transcripts() for each in transcript.ratings]


def test_it_is_sound_and_holds_what_people_said(before, capsys):
    assert run(["store", "check", "--store", before]) == 0
    assert "all sound" in capsys.readouterr().out
    assert Counter(each.task for each in ratings(before)) == {
        "pairs": 4,
        "principles": 6,
        "revisions": 2,
    }
    with Store.open(before) as store:
        judges = Counter(j.judge for t in store.transcripts() for j in t.judgments)
    assert judges == {"anna": 2, "lexical": 6}


def test_its_export_has_the_rows_that_it_had(before):
    assert run(["export", "rows.jsonl", "--store", before, "--layout", "kwise"]) == 0
    then, now = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (BEFORE / "kwise.jsonl", Path("rows.jsonl"))
    )
    added = [row.pop("num_unseen") for row in now]
    margins = [row.pop("margin") for row in now]
    told = [row.pop("completion_logprobs_temperature") for row in now]
    assert now == then
    assert margins == [None] * len(then)
    assert all(each is None for row in told for each in row), "a program has no log-probabilities"
    assert added == [[]] * len(then), "nobody recorded yet what had been on a screen"


def test_what_was_answered_in_it_and_not_sent_is_sent_by_an_empty_line(before, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    command = ["rate", "pairs", "--linear", "--store", before, "--judge", "bob"]
    assert run([*command, "--set", "overlap=2", "--set", "pairs=all"]) == 0
    assert "You said: Left is slightly better." in capsys.readouterr().out
    (sent,) = [each for each in ratings(before) if each.judge == "bob"]
    assert sent.answer == PairAnswer(preferred=Preferred.LEFT, strength=1)
    assert run(["store", "check", "--store", before]) == 0


def test_its_debates_are_found_complete_by_the_command_that_made_them(before, capsys):
    protocols = ["-p", "debate", "-p", "debate_single_turn_best_of_n", "-p", "critique"]
    command = ["debate", "--dataset", "world", *protocols, "--limit", "2", "--no-live", "--json"]
    assert run([*command, "--store", before]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["debates"], told["run"], told["found_complete"]) == (6, 0, 6)
