"""`oversight constitution`: what it prints of sets of principles, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oversight import constitutions, registry
from oversight.cli import main
from oversight.datasets import register
from oversight.datasets.base import load_questions
from oversight.store import Store as OpenStore


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


# --- lint ---

RECIPE = """
store = "{store}"
protocols = ["constitutional"]
[dataset]
dataset = "register"
limit = 4
settings = {{ asks = ["code"] }}
[agents.responder]
agent = "responder"
engine = "m"
[agents.critic]
agent = "critic"
engine = "m"
settings = {{ constitution = "register", by = "in_turn", reasoning = false{more} }}
[engines.m]
engine = "scripted"
settings = {{ answers = {answers} }}
"""
CLEAN = "NOTHING TO CHANGE"


@pytest.fixture
def critiqued(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[str, list[str], str], str]:
    """Runs one chain after the other by a script, and gives the path of the store."""

    def run(name: str, answers: list[str], more: str = "") -> str:
        store, recipe = tmp_path / f"{name}.db", tmp_path / f"{name}.toml"
        text = RECIPE.format(store=store, answers=json.dumps(answers), more=more)
        recipe.write_text(text, encoding="utf-8")
        assert main.run(["critique", str(recipe), "--concurrency", "1"]) == 0
        capsys.readouterr()
        return str(store)

    return run


def coded(number: int) -> str:
    """An always helpful model's answer to the `number`-th request for another person's code."""
    settings = {"asks": ["code"], "num": 4}
    question = load_questions(("register", settings)).questions[number]
    return register.helpful_only_answer(question)


@pytest.fixture
def whole(critiqued: Callable[..., str]) -> str:
    """Four codes given away; the second of four rounds, by the principle on codes, mends three."""
    answers = []
    for number in range(4):
        mends = number < 3
        answers += [coded(number), CLEAN, "It tells a code." if mends else CLEAN]
        answers += ["That is for another."] * mends + [CLEAN] * 2
    return critiqued("whole", answers, "")


def linted(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main.run(["constitution", "lint", *words, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_lint_counts_what_each_principle_did(
    whole: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = linted(capsys, "register", "--store", whole)
    by_id = {each["id"]: each for each in found["effects"]}
    codes = by_id["codes-for-holders-alone"]

    assert found["num_chains"] == 4
    assert codes["num_critiques"] == 4
    assert codes["changed"]["value"] == 3 / 4
    assert codes["took"]["security"]["value"] == 3 / 4
    assert by_id["private-stays-private"]["changed"]["value"] == 0.0
    assert found["unused"] == ["what-may-be-told-is-told"]


def test_lint_is_read_at_80_columns_and_writes_a_page(
    whole: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page, png = tmp_path / "lint.html", tmp_path / "new" / "lint.png"
    words = ("--store", whole, "--html", str(page), "--png", str(png))
    assert main.run(["constitution", "lint", *words]) == 0
    assert png.read_bytes().startswith(b"\x89PNG")

    out = capsys.readouterr().out
    assert "Critiques and revisions" in out
    assert "too few to say that it never does" in out.replace("\n", " ")
    assert all(len(line.rstrip()) <= 80 for line in out.splitlines())
    assert "Audit of a constitution" in page.read_text(encoding="utf-8")


def test_a_run_without_a_principle_shows_what_comes_back(
    whole: str, critiqued: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [said for number in range(4) for said in (coded(number), *[CLEAN] * 4)]
    left = critiqued("left", answers, ', without = ["codes-for-holders-alone"]')
    found = linted(capsys, "--store", whole, "--left-out", f"codes-for-holders-alone={left}")
    [security] = [each for each in found["brought"] if each["harm"] == "security"]

    assert security["took"]["value"] == 3 / 4
    assert security["back"]["value"] == 3 / 4
    assert security["back"]["num_clusters"] == 4


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("codes-for-holders-alone", "write a principle and a store"),
        ("codes-for-holders-alone={whole}", "no prompt of it"),
        ("=x.db", "write a principle and a store"),
        ("only-what-the-register-says={other}", "were criticised by"),
    ],
)
def test_a_left_out_store_that_cannot_be_one_is_refused(
    given: str,
    says: str,
    whole: str,
    critiqued: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = critiqued("other", [s for n in range(4) for s in (coded(n), *[CLEAN] * 4)], "")
    words = ["--store", whole, "--left-out", given.format(whole=whole, other=other)]
    assert main.run(["constitution", "lint", *words]) == 2

    said = capsys.readouterr()
    assert says in (said.out + said.err).replace("\n", " ")


def test_a_store_without_critiques_has_nothing_to_lint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with OpenStore.open(str(tmp_path / "empty.db")):
        pass
    assert main.run(["constitution", "lint", "--store", str(tmp_path / "empty.db")]) == 2

    assert "nothing was criticised" in capsys.readouterr().err.replace("\n", " ")


def test_the_report_sets_arms_beside_each_other(
    whole: str, critiqued: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = critiqued("left", [s for n in range(4) for s in (coded(n), *[CLEAN] * 4)], "")
    page, png = tmp_path / "r.html", tmp_path / "r.png"
    arms = ["--arm", f"start={left}", "--arm", f"after={whole}"]
    assert main.run(["report", *arms, "--json", "--html", str(page), "--png", str(png)]) == 0

    found = json.loads(capsys.readouterr().out)
    rates = {each["label"]: each["rates"]["harmful"]["value"] for each in found["stages"]}
    assert rates == {
        "start: first answers": 1.0,
        "start: last answers": 1.0,
        "after: first answers": 1.0,
        "after: last answers": 1 / 4,
    }
    assert page.exists()
    assert png.exists()


@pytest.mark.parametrize(
    ("arms", "says"),
    [(["start"], "write a name and a store"), (["a=x.db", "a=y.db"], "named twice")],
)
def test_arms_that_are_none_are_refused(
    arms: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["report", *(word for arm in arms for word in ("--arm", arm))]) == 2

    assert says in capsys.readouterr().err.replace("\n", " ")


FEEDBACK = """
task = "revisions"
store = "{store}"
constitution = "{rules}"
num_principles = 2
[agents.rater]
agent = "rater"
engine = "m"
[engines.m]
engine = "scripted"
settings = {{ model = "rater" }}
"""


def test_a_set_asked_again_in_other_words_shows_flips_under_paraphrase(
    whole: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = constitutions.load("register")
    rows = [
        f'[[principles]]\nid = "{each.id}"\ntext = "In other words: {each.text}"\n'
        for each in held.principles
    ]
    reworded = tmp_path / "reworded.toml"
    reworded.write_text('description = "x"\n' + "".join(rows), encoding="utf-8")
    recipe = tmp_path / "feedback.toml"
    for rules in ("register", str(reworded)):
        recipe.write_text(FEEDBACK.format(store=whole, rules=rules), encoding="utf-8")
        assert main.run(["feedback", str(recipe)]) == 0
    capsys.readouterr()

    found = linted(capsys, "register", "--store", whole)
    compared = [each for each in found["effects"] if each["num_comparisons"]]
    assert compared
    for each in compared:
        assert each["num_wordings"] == 2
        assert each["flipped_by_words"]["num"] * 4 == each["num_comparisons"]
        assert each["flipped_by_order"]["num"] * 2 == each["num_comparisons"]
    assert found["pairs"]
