"""`oversight audit judge` from the command line to the page, over stores and over data sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

import oversight as ov
from oversight.audits.editing import edit_of, edited, seats_of
from oversight.audits.interventions import BUILT_IN
from oversight.cli.main import run, way_on
from oversight.store import Store
from oversight.types import Seat, Transcript
from tests.audits.biased_judges import p_of_a
from tests.audits.test_interventions import judges_view

Audit = Callable[..., dict[str, Any]]


@pytest.fixture
def audit(
    held: Path, judges_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Audit:
    """Runs the command with a biased judge over the debates that were held; its JSON."""

    def go(lean: str, *more: str, p: float = 0.9, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()
        words = ["audit", "judge", "--store", str(held), "-p", "debate_single_turn"]
        words += ["--judge", f"{judges_file}:Biased", "--into", str(tmp_path / "audit.db")]
        words += ["--set", f"judge.lean={lean}", "--set", f"judge.p={p}", "--json", *more]
        assert run(words) == code
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return go


def effects(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in found["effects"]}


def planted(debates: list[Transcript], name: str, lean: str, p: float) -> float:
    """The mean gain of the changed side that a judge with this bias has by an intervention."""
    gains = []
    for before in debates:
        for seat in seats_of(before, BUILT_IN[name], 0):
            after = edited(before, BUILT_IN[name], seat)
            if after is not None:
                old, new = (p_of_a(judges_view(each), lean, p) for each in (before, after))
                gains.append(new - old if seat is Seat.A else old - new)
    return fmean(gains)


@pytest.mark.parametrize(
    ("lean", "name"),
    [
        ("longer", "verbosity"),
        ("eminent", "authority"),
        ("ordered", "instructions"),
        ("quoting", "fabricated_quotes"),
        ("verified", "marks_removed"),
    ],
)
def test_the_audit_finds_a_planted_bias_at_its_size(
    audit: Audit, debates: list[Transcript], lean: str, name: str
) -> None:
    found = effects(audit(lean, "-i", name))[name]
    size = planted(debates, name, lean, 0.9)
    assert abs(size) > 0.3
    assert found["belief"]["low"] <= size <= found["belief"]["high"]
    assert found["p_holm"] < 0.05
    assert found["num"] == 2 * len(debates)


def test_a_position_bias_is_found_and_no_intervention(audit: Audit) -> None:
    found = audit("first", "-i", "authority", "-i", "instructions")
    assert found["same"]["value"] < 0.3
    gain = found["order"]["gain"]
    assert gain["low"] <= 0.9 <= gain["high"]
    assert not [each["name"] for each in found["effects"] if (each["p_holm"] or 1) < 0.05]


def test_a_fair_judge_shows_no_effect_and_the_page_says_what_that_does_not_show(
    audit: Audit,
) -> None:
    found = audit("nothing")
    assert not [each["name"] for each in found["effects"] if (each["p_holm"] or 1) < 0.05]
    said = " ".join(each["says"] for each in found["claims"])
    assert "No effect is shown of verbosity" in said
    limits = " ".join(each["limit"] for each in found["claims"])
    assert "that there is none" in limits
    assert all(each["control"] and each["limit"].startswith("Not ") for each in found["claims"])


def test_a_judge_that_checks_nothing_and_one_that_checks_are_told_apart(audit: Audit) -> None:
    both = ("-i", "fabricated_quotes", "-i", "marks_removed")
    says = [claim["says"] for claim in audit("quoting", *both)["claims"]]
    assert any(line.startswith("It does not check what it is told") for line in says)
    says = [claim["says"] for claim in audit("verified", *both)["claims"]]
    assert any(line.startswith("It goes by what was checked") for line in says)


def test_answers_that_cannot_be_read_are_reported(audit: Audit) -> None:
    found = audit("nothing", "--set", "judge.invalid=0.3", "-i", "authority")
    assert found["invalid"]["low"] <= 0.3 <= found["invalid"]["high"]
    by_name = effects(found)
    assert 0.1 < by_name["authority"]["invalid_after"] < 0.5
    assert by_name["authority"]["belief"]["num"] < by_name["authority"]["num"]
    assert any("INVALID answers" in note for note in found["notes"])


def test_a_second_run_finds_everything_done(
    audit: Audit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = audit("eminent", "-i", "authority", "--run", "mine")
    with Store.open(tmp_path / "audit.db") as store:
        before = store.counts()
    again = audit("eminent", "-i", "authority", "--run", "mine")
    assert again == first
    with Store.open(tmp_path / "audit.db") as store:
        assert store.counts() == before
        assert store.check() == []
        [stored] = store.runs()
        assert stored.name == "mine"
        # Transcripts, two sides of two interventions, one of the control, and direct answers.
        assert stored.num_debates == 24 * (1 + 2 + 2 + 1 + 1)
    assert way_on(["audit", "judge"]).startswith("; the same command goes on")


def test_an_audit_that_was_stopped_goes_on(audit: Audit, tmp_path: Path) -> None:
    audit("eminent", "-i", "authority", "--limit", "4")
    whole = audit("eminent", "-i", "authority")
    assert whole["num_transcripts"] == 24
    alone = ["--into", str(tmp_path / "other.db")]
    other = audit("eminent", "-i", "authority", *alone)
    assert {**other, "store": "", "run": "", "methods": ""} == {
        **whole,
        "store": "",
        "run": "",
        "methods": "",
    }


def test_every_pair_leads_to_its_transcripts(audit: Audit, held: Path, tmp_path: Path) -> None:
    found = audit("eminent", "-i", "authority")
    with Store.open(tmp_path / "audit.db", create=False) as store:
        for each in found["pairs"]:
            before, after = (store.transcript(each[key]) for key in ("original", "edited"))
            edit = edit_of(after.debate)
            assert edit is not None
            assert (edit.debate_id, edit.intervention) == (before.debate.id, each["intervention"])
            [judgment] = after.judgments
            assert judgment.final.model_dump(mode="json")["probs"] == each["after"]["probs"]
    with Store.open(held, create=False) as store:
        assert not any(edit_of(t.debate) for t in store.transcripts())


def test_the_store_that_is_audited_is_not_written_to(audit: Audit, held: Path) -> None:
    before = held.read_bytes()
    audit("nothing", "-i", "authority", "--limit", "3")
    assert held.read_bytes() == before


def test_the_audits_store_may_be_that_of_the_debates(
    held: Path, judges_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "both.db"
    copy.write_bytes(held.read_bytes())
    words = ["audit", "judge", "--store", str(copy), "--into", str(copy), "--limit", "5"]
    words += ["--judge", f"{judges_file}:Biased", "-i", "authority", "--json"]
    assert run(words) == 0
    first = json.loads(capsys.readouterr().out)
    assert run(words) == 0
    again = json.loads(capsys.readouterr().out)
    # Edited debates are no transcripts to be audited.
    assert again["pairs"] == first["pairs"]
    with Store.open(copy) as store:
        assert store.check() == []


def test_debates_are_held_over_a_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, picture = tmp_path / "audit.html", tmp_path / "audit.png"
    words = ["audit", "judge", "-d", "world", "--limit", "8", "--into", str(tmp_path / "a.db")]
    words += ["--html", str(page), "--png", str(picture)]
    assert run(words) == 0
    said = capsys.readouterr().out
    assert "Audit of a judge" in said
    assert "judge lexical" in said
    assert "8 questions only" in said
    assert "control:" in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    text = page.read_text(encoding="utf-8")
    assert "I hold a chair" in text  # an example of each intervention
    assert text.count("Control: ") == text.count("Not shown: ") + text.count("Not measured: ") > 5
    assert "oversight show ID --store" in text
    assert run(words) == 0
    assert "0 answered" in capsys.readouterr().out


def test_consultancies_have_one_side_and_no_other(
    held: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["audit", "judge", "--store", str(held), "-p", "consultancy", "--json"]
    assert run([*words, "--into", str(tmp_path / "a.db"), "--limit", "6"]) == 0
    found = json.loads(capsys.readouterr().out)
    by_name = effects(found)
    assert by_name["authority"]["num"] == 6
    assert (by_name["claimed_agreement"]["num"], by_name["claimed_agreement"]["num_without"]) == (
        0,
        6,
    )
    assert any("Nothing to change" in note for note in found["notes"])
    assert found["same"] is None  # one side alone is in no order
    assert any(each["says"].startswith("The order of the sides is not") for each in found["claims"])


def test_sides_that_speak_in_turn_are_judged_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["audit", "judge", "-d", "world", "--limit", "4", "-p", "debate_sequential", "--json"]
    assert run([*words, "--into", str(tmp_path / "a.db"), "-i", "authority"]) == 0
    assert json.loads(capsys.readouterr().out)["same"] is None
    with Store.open(tmp_path / "a.db") as store:
        assert not any(j.swapped for each in store.transcripts() for j in each.judgments)


def test_whoever_speaks_is_asked_directly(
    held: Path, judges_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["audit", "judge", "--store", str(held), "-p", "debate_single_turn", "--json"]
    words += ["--into", str(tmp_path / "a.db"), "-i", "authority", "--set", "expert.agent=lexical"]
    assert run([*words, "--judge", f"{judges_file}:Biased"]) == 0
    direct = json.loads(capsys.readouterr().out)["direct"]
    assert direct["expert_reads_source"] is True
    assert direct["expert"]["accuracy_all"]["value"] > 0.8
    assert direct["knows_more"]["low"] > 0
    assert direct["alone"]["num"] == 24


def scripted(tmp_path: Path, **settings: Any) -> list[str]:
    """A judge that thinks with the scripted engine, over debates held by programs."""
    words = ["audit", "judge", "-d", "world", "--limit", "6", "-p", "debate_single_turn", "--json"]
    words += ["-i", "authority", "--into", str(tmp_path / "a.db"), "--concurrency", "1"]
    words += ["--judge-model", "scripted", "--judge-engine", "scripted"]
    words += ["--set", "engines.judge.settings.beliefs={A=0.7, B=0.3}"]
    for name, value in settings.items():
        words += ["--set", f"engines.judge.settings.{name}={value}"]
    return words


def test_a_judge_with_an_engine_goes_on_after_calls_that_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The first twelve calls decide the debates; two judgments of changed ones fail.
    assert run(scripted(tmp_path, fail_calls=[20, 21])) == 1
    broken = json.loads(capsys.readouterr().out)
    assert broken["num_failed"] == 2
    assert any("2 answers could not be had" in note for note in broken["notes"])
    assert run(scripted(tmp_path)) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["num_failed"] == 0
    assert len(whole["pairs"]) == len(broken["pairs"]) + 2
    assert whole["model"] == "scripted"


def test_an_audit_stops_at_its_budget_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*scripted(tmp_path), "--max-tokens", "9000"]) != 0
    assert "stopped at" in capsys.readouterr().err
    with Store.open(tmp_path / "a.db") as store:
        judged = store.counts()["judgments"]
    assert judged > 6
    assert run(scripted(tmp_path)) == 0
    found = json.loads(capsys.readouterr().out)
    with Store.open(tmp_path / "a.db") as store:
        assert store.counts()["judgments"] > judged
        assert store.check() == []
    # It chooses by the letter, which stands for either side alike.
    assert effects(found)["authority"]["belief"]["value"] == 0.0


# --- bad input ---


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "an audit needs transcripts: name a store of debates"),
        (["--from-run", "x", "-d", "world"], "name that store (--store)"),
        (["-d", "world", "-p", "naive"], "nobody argues in it"),
        (["-d", "world", "-i", "authorit"], "Did you mean 'authority'?"),
        (["-d", "world", "--judge", "human"], "an audit is of a judge that is a program"),
        (["-d", "world", "--limit", "1"], "'--limit': '1'"),
        (["--store", "nowhere.db"], "nowhere.db"),
        (["--store", "{held}", "-p", "debatt"], "debatt"),
        (["--store", "{held}", "--from-run", "nobody"], "nobody"),
        (["--store", "{held}", "-p", "naive"], "no complete debate in which somebody argues"),
        (["-d", "world", "--html", "{held}/a.html"], "debates.db"),
    ],
)
def test_what_cannot_be_audited_is_refused_in_one_line(
    words: list[str],
    said: str,
    held: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [word.format(held=held) for word in words]
    assert run(["audit", "judge", *filled]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert said in told[-1]
    assert told[-1].startswith("oversight: ")


def test_one_question_bears_no_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    questions = ov.datasets.load("world", limit=1).questions
    ov.debate(questions, protocol="debate", sides="both", store="one.db", progress=False)
    assert run(["audit", "judge", "--store", "one.db"]) == 2
    assert "debates on one question alone" in capsys.readouterr().err
