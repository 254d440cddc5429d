"""`oversight constitution`: what it prints of sets of principles, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oversight import constitutions, registry
from oversight.cli import main


def test_the_list_names_every_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["constitution", "list", "--json"]) == 0

    listed = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in listed] == list(registry.names("constitutions"))
    assert all(each["description"].endswith(".") for each in listed)


def test_a_set_is_printed_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["constitution", "show", "harmlessness", "--tag", "privacy"]) == 0

    out = capsys.readouterr().out
    assert "privacy-of-others  privacy, weight 2" in out
    assert "comparison: Which answer gives away less" in out
    assert "no-sermons" not in out


def test_as_json_a_set_has_its_fingerprint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["constitution", "show", "honesty", "--json"]) == 0

    shown = json.loads(capsys.readouterr().out)
    read = constitutions.load("honesty")
    assert shown["fingerprint"] == read.fingerprint
    assert [each["id"] for each in shown["principles"]] == [p.id for p in read.principles]


def test_foreign_words_cannot_take_the_terminal_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.txt"
    path.write_text("Be kind.\x1b]52;c;AAAA\x07 [bold]Be [/oops] brief.\n", encoding="utf-8")

    assert main.run(["constitution", "show", str(path)]) == 0

    out = capsys.readouterr().out
    assert "\x1b]52" not in out
    assert "[bold]Be [/oops] brief." in out


def test_all_named_sets_are_checked_and_each_fault_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("description = 'x'\n[[principles]]\nid = 'a'\ntext = 'Look at {it}.'\n")

    assert main.run(["constitution", "check", "honesty", str(broken), "nowhere"]) == 2

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("honesty: sound, 8 principles, 8 critique requests")
    assert "principles.0.text" in lines[1]
    assert "{it} is a hole" in lines[1]
    assert lines[2].startswith("nowhere: there is no constitution 'nowhere'")
