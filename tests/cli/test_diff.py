"""`oversight diff`: answers beside their revisions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oversight import constitutions
from oversight.cli import main

RECIPE = """
store = "{store}"
protocols = ["constitutional"]
[dataset]
dataset = "prompts"
settings = {{ path = "{prompts}" }}
[agents.responder]
agent = "responder"
engine = "m"
[agents.critic]
agent = "critic"
engine = "m"
settings = {{ constitution = "honesty", by = "in_turn", reasoning = false }}
[engines.m]
engine = "scripted"
settings = {{ answers = [
    "Hit the lid hard.", "It breaks.", "Sure, here is a revised answer: Warm the lid gently.",
    "NOTHING TO CHANGE", "It is \\u001b]52;c;AAAA\\u0007 [bold]cold.", "Warm the lid well.",
    "NOTHING TO CHANGE",
] }}
"""


@pytest.fixture
def store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    (tmp_path / "asked.txt").write_text("How do I open a jar?\n")
    recipe, path = tmp_path / "r.toml", tmp_path / "c.db"
    recipe.write_text(RECIPE.format(store=path, prompts=tmp_path / "asked.txt"))
    assert main.run(["critique", str(recipe), "--concurrency", "1"]) == 0
    capsys.readouterr()
    return str(path)


def shown(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main.run(["diff", *words]) == code
    said = capsys.readouterr()
    return said.out + said.err


def test_changed_words_are_marked_and_defects_named(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, "--store", store)

    assert "How do I open a jar?" in out
    assert "Criticised: nothing-invented" in out
    assert "Revised · preamble:" in out
    assert "{+Sure, here is a revised answer: Warm+}" in out
    assert "2 shown" in out


def test_foreign_words_cannot_take_the_terminal_over(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, "--store", store)

    assert "\x1b]52" not in out
    assert "[bold]cold." in out


def test_critiques_are_chosen_by_principle_and_by_id(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    by = ["--store", store, "--json", "--all"]
    every = json.loads(shown(capsys, *by))
    [one] = json.loads(shown(capsys, *by, "--principle", "says-when-it-does-not-know"))

    assert len(every) == 4
    assert one["finds_no_fault"]
    assert one["revision"] == one["before"]
    assert len(json.loads(shown(capsys, *by, every[0]["question_id"]))) == 4


def test_of_principles_asked_apart_those_are_named_that_found_the_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "asked.txt").write_text("How do I open a jar?\n")
    recipe, path = tmp_path / "r.toml", tmp_path / "c.db"
    chosen = 'without = ["WITHOUT"], by = "each"'
    ids = [each.id for each in constitutions.load("honesty").principles]
    without = '", "'.join(ids[2:])
    told = RECIPE.replace('by = "in_turn"', chosen.replace("WITHOUT", without))
    clean = '"NOTHING TO CHANGE"'
    answers = f'"Hit it.", {clean}, "It breaks.", "Warm it.", {clean}, {clean}'
    told = told[: told.index("answers = [")] + f"answers = [{answers}] }}}}\n"
    recipe.write_text(told.format(store=path, prompts=tmp_path / "asked.txt"))
    assert main.run(["critique", str(recipe), "--concurrency", "1"]) == 0
    capsys.readouterr()
    said = shown(capsys, "--store", str(path))
    assert f"Criticised: {ids[1]} (of 2 asked)" in said
    assert "Criticised" in shown(capsys, "--store", str(path), "--principle", ids[1])
    assert "--all" in shown(capsys, "--store", str(path), "--principle", ids[0], code=2)


def test_pieces_lead_from_one_text_to_the_other(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for change in json.loads(shown(capsys, "--store", store, "--json")):
        pieces = change["pieces"]
        assert "".join(t for how, t in pieces if how != "added") == change["before"]
        assert "".join(t for how, t in pieces if how != "removed") == change["revision"]


def test_nothing_to_show_says_why(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = shown(capsys, "--store", store, "--principle", "nothing-invent", code=2)
    assert "--principle 'nothing-invent': nothing was criticised by it." in unknown
    assert "Did you mean 'nothing-invented'?" in unknown

    nobody = shown(capsys, "zz", "--store", store, code=2)
    assert "an id that begins with 'zz'" in nobody

    other = str(tmp_path / "d.db")
    asked = ["debate", "-d", "world", "--limit", "1", "-p", "naive", "--no-live", "--store", other]
    assert main.run(asked) == 0
    capsys.readouterr()
    debates = shown(capsys, "--store", other, code=2)
    assert "no answer was criticised there" in debates


def test_a_wide_terminal_has_both_side_by_side(
    store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    out = shown(capsys, "--store", store, "--limit", "1")

    assert " before " in out
    assert any("Hit" in line and "Warm" in line for line in out.splitlines())
