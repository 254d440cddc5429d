"""Runs on the command line: made by commands, listed, chosen and compared."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from oversight.cli.main import run
from oversight.store import Store

DEBATE = ["debate", "-d", "world", "--no-live"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two stores: runs base and wide in one, base alone in the other."""
    found = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found)
        base = [*DEBATE, "--limit", "4", "--run", "base", "--tag", "size=small"]
        assert call(*base, "--store", "a.db") == 0
        assert call(*DEBATE, "--limit", "6", "--run", "wide", "--store", "a.db") == 0
        other = [*base, "--seed", "1", "--both-sides"]
        assert call(*other, "--store", "b.db") == 0
    return found


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def call(*words: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["oversight", *words])
        return run(list(words))


def said(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert call(*words) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert call(*words) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


def test_runs_are_listed_with_what_they_made_and_found(capsys):
    base, wide = said(capsys, "runs", "--store", "a.db", "--json")
    assert (base["run"], base["tags"], base["complete"]) == ("base", {"size": "small"}, 4)
    assert (wide["run"], wide["debates"], wide["seeds"]) == ("wide", 6, [0])
    assert base["starts"][0]["command"].startswith("oversight debate -d world --no-live --limit 4")
    assert base["starts"][0]["versions"]["oversight"]
    [one] = said(capsys, "runs", "wide", "--store", "a.db", "--json")
    assert one == wide
    [small] = said(capsys, "runs", "--store", "a.db", "--tag", "size=small", "--json")
    assert small["run"] == "base"


def test_the_list_and_one_run_are_shown_to_people(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    assert call("runs", "--store", "a.db") == 0
    shown = capsys.readouterr().out
    assert "base size=small" in shown
    assert re.search(r"debate +– +0 +6 +–", shown)
    assert call("runs", "base", "--store", "a.db") == 0
    shown = capsys.readouterr().out
    assert "4 debates, 4 complete" in shown
    assert "oversight debate -d world" in shown


def test_a_command_without_a_name_is_a_run_by_its_time(tmp_path, capsys):
    store = str(tmp_path / "s.db")
    document = said(capsys, *DEBATE, "--limit", "1", "--store", store, "--json")
    [found] = said(capsys, "runs", "--store", store, "--json")
    assert found["run"] == document["run_name"]
    assert found["run"].endswith("-debate")
    assert not found["starts"][0]["named"]


def test_the_same_name_goes_on_with_a_run(tmp_path, capsys):
    store = str(tmp_path / "s.db")
    for limit in ("1", "3"):
        assert call(*DEBATE, "--limit", limit, "--store", store, "--run", "x") == 0
    capsys.readouterr()
    [found] = said(capsys, "runs", "--store", store, "--json")
    assert (found["debates"], len(found["starts"])) == (3, 2)


def test_a_recipe_may_name_its_run(tmp_path, capsys):
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        'run = "mine"\ntags = { a = "b" }\ndataset = { dataset = "world", limit = 1 }'
    )
    store = str(tmp_path / "s.db")
    assert call("debate", str(recipe), "--store", store, "--tag", "c=d", "--no-live") == 0
    capsys.readouterr()
    [found] = said(capsys, "runs", "--store", store, "--json")
    assert (found["run"], found["tags"]) == ("mine", {"a": "b", "c": "d"})
    assert found["starts"][0]["recipe"] == str(recipe)


def test_a_report_of_a_run_has_its_debates_alone_and_says_what_it_is_of(capsys):
    found = said(capsys, "report", "--store", "a.db", "--run", "base", "--json")
    assert found["num_debates"] == 4
    origin = found["origin"]
    assert (origin["runs"], origin["seeds"]) == (["base"], [0])
    assert origin["stores"] == ["a.db"] or origin["stores"][0].endswith("/a.db")
    assert origin["command"] == "oversight report --store a.db --run base --json"
    assert "--run base" in origin["run_commands"][0]
    tagged = said(capsys, "report", "--store", "a.db", "--tag", "size=small", "--json")
    assert tagged["num_debates"] == 4


def test_two_runs_stand_side_by_side_with_their_paired_difference(capsys):
    found = said(capsys, "report", "--store", "a.db", "--run", "wide", "--run", "base", "--json")
    assert sorted(arm["label"] for arm in found["arms"]) == ["debate · base", "debate · wide"]
    [gap] = found["run_differences"]
    assert (gap["first"], gap["second"], gap["protocol"]) == ("wide", "base", "debate")
    # Both are asked the same four questions, which are one and the same debates.
    assert (gap["difference"]["value"], gap["difference"]["num_clusters"]) == (0.0, 4)


def test_two_stores_stand_side_by_side(capsys):
    found = said(capsys, "report", "a.db", "b.db", "--json")
    labels = {arm["arm"]["group"] for arm in found["arms"]}
    assert labels == {"a.db", "b.db"}
    assert [(each["first"], each["second"]) for each in found["run_differences"]] == [
        ("a.db", "b.db")
    ]
    both = said(capsys, "report", "a.db", "b.db", "--run", "base", "--json")
    assert both["num_debates"] == 12


def test_accuracy_by_a_property_counts_each_debate_under_its_values(capsys):
    words = [word for by in ("run", "tag", "difficulty", "dataset") for word in ("--by", by)]
    found = said(capsys, "report", "--store", "a.db", *words, "--json")
    counted = {
        (each["by"], each["value"]): each["accuracy"]["num_debates"] for each in found["breakdowns"]
    }
    assert counted == {
        ("dataset", "world"): 6,
        ("difficulty", "2"): 6,
        ("run", "base"): 4,
        ("run", "wide"): 6,
        ("tag", "size=small"): 4,
        ("tag", "–"): 2,
    }


def test_the_report_is_shown_with_its_origin_as_text_and_as_a_page(tmp_path, capsys):
    page = tmp_path / "r.html"
    words = ["--run", "wide", "--run", "base", "--by", "run", "--html", str(page)]
    assert call("report", "--store", "a.db", *words) == 0
    shown = capsys.readouterr().out
    assert "Differences between runs" in shown
    assert "By run" in shown
    for text in (" ".join(shown.split()), page.read_text("utf-8")):
        assert "made by: oversight debate" in text
        assert "seed 0" in text


def test_figures_are_written_as_csv(tmp_path, capsys):
    assert call("report", "a.db", "b.db", "--csv", str(tmp_path / "arms.csv")) == 0
    rows = list(csv.DictReader((tmp_path / "arms.csv").read_text("utf-8").splitlines()))
    assert {row["arm_group"] for row in rows} == {"a.db", "b.db"}
    assert all(0.0 <= float(row["accuracy_accuracy_all"]) <= 1.0 for row in rows)
    assert call("report", "a.db", "b.db", "--by", "run", "--csv", str(tmp_path / "all")) == 0
    names = {path.name for path in (tmp_path / "all").iterdir()}
    assert {"arms.csv", "run_differences.csv", "breakdowns.csv"} <= names


def test_export_takes_the_rows_of_a_run(tmp_path, capsys):
    out = str(tmp_path / "t.jsonl")
    words = ["export", out, "--layout", "transcripts", "--store", "a.db", "--json"]
    assert said(capsys, *words)["rows"] == 6
    assert said(capsys, *words, "--run", "base")["rows"] == 4
    assert said(capsys, *words, "--tag", "size=small")["rows"] == 4


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["report", "--store", "a.db", "--run", "bas"], "no run 'bas'. Did you mean 'base'"),
        (["report", "a.db", "b.db", "--run", "bas"], "no run 'bas'"),
        (["report", "--store", "a.db", "--tag", "size"], "--tag 'size': write NAME=VALUE"),
        (["report", "--store", "a.db", "--tag", "size=big"], "no run has --tag size=big"),
        (["report", "a.db", "a.db"], "named twice"),
        (["report", "a.db", "--store", "b.db"], "stores are named by --store already"),
        (["report", "--store", "a.db", "--by", "juge"], "no such property. Did you mean 'judge'"),
        (["export", "x.jsonl", "--store", "a.db", "--run", "bas"], "no run 'bas'"),
        (["diff", "--store", "a.db", "--run", "bas"], "no run 'bas'"),
        (["runs", "bas", "--store", "a.db"], "no run 'bas'"),
        (["judge", "--linear", "--store", "a.db", "--from-run", "bas"], "no run 'bas'"),
        ([*DEBATE, "--store", "a.db", "--run", "a/b"], "run = 'a/b': a run's name is letters"),
        ([*DEBATE, "--store", "a.db", "--tag", "a=1", "--tag", "a=2"], "a is given twice"),
        (
            [*DEBATE, "--limit", "1", "--store", "a.db", "--run", "base", "--tag", "size=big"],
            "run 'base' was begun with size=small",
        ),
    ],
)
def test_what_cannot_be_chosen_is_one_line(capsys, words, reason):
    assert reason in refused(capsys, *words)


def test_nothing_refused_has_left_a_run(folder):
    with Store.open(folder / "a.db") as store:
        assert [each.name for each in store.runs()] == ["base", "wide"]
        assert store.check() == []
