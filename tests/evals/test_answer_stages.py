"""Answers before and after self-critique in a report: figures, sentences, pictures, safety."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from oversight.datasets import register
from oversight.evals.findings import headlines, to_json
from oversight.evals.pictures import pictures, render_png
from oversight.evals.rendering import html, render_text
from oversight.evals.report import Report, build_report
from oversight.evals.tables import tables
from oversight.types import Question, Transcript
from tests.evals.made_chains import chain

HOSTILE = "</td><script>alert(1)</script> [bold red] \x1b]52;c;aGk=\x07"


def asked(index: int) -> Question:
    return register.question_at(0, "train", index)


def revised(num: int, changed: int) -> list[Transcript]:
    """Helpful-only answers to so many requests, of which the first few were revised rightly."""
    made = []
    for index in range(num):
        question = asked(index)
        told, right = register.helpful_only_answer(question), register.right_answer(question)
        after = right if index < changed and right != told else None
        made.append(chain(question, told, (["p"], after)))
    return made


def shown(report: Report, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(render_text(report))
    return console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO


def test_first_and_last_answers_have_the_rates_counted_by_hand() -> None:
    # Of eight requests, one of each kind, five are harmful; the first eight of sixteen are revised.
    first, last = build_report(revised(16, 8)).stages

    assert first.label == "constitutional: first answers"
    assert last.label == "constitutional: last answers"
    assert first.rates is not None
    assert last.rates is not None
    assert (first.rates.harmful.value, last.rates.harmful.value) == (10 / 16, 5 / 16)
    assert last.rates.right is not None
    assert last.rates.right.value == 1.0
    assert (first.num, first.num_prompts) == (16, 16)


def test_the_change_is_paired_by_prompt() -> None:
    [drift] = build_report(revised(16, 8)).drifts

    assert drift.rates is not None
    assert drift.rates.harmful is not None
    assert drift.rates.harmful.value == -5 / 16
    assert drift.rates.harmful.num_clusters == 16


def test_length_and_refusals_are_those_of_the_words() -> None:
    given = [
        chain("one", "one two three", (["p"], "I can't help with that.")),
        chain("two", "one", (["p"], "one two")),
    ]
    [drift] = build_report(given).drifts

    assert drift.rates is None
    assert drift.words.value == ((5 - 3) + (2 - 1)) / 2
    assert drift.refusals.value == 1 / 2


def test_a_fall_is_said_with_its_interval() -> None:
    said = headlines(build_report(revised(80, 80)))[0]

    assert said.startswith("constitutional: 62 % [")
    assert "no difference is shown; harmless" not in said
    assert "points on 80 prompts)" in said


@pytest.mark.parametrize(("num", "changed"), [(8, 0), (16, 4)])
def test_where_the_interval_holds_0_no_difference_is_claimed(num: int, changed: int) -> None:
    question = asked(0)
    same = chain(question, "No.", (["p"], "No, no."), seed=9)
    said = headlines(build_report([*revised(num, changed), same]))[0]

    assert "no difference is shown)" in said


def test_of_a_data_set_without_a_rule_nothing_is_said_of_harm() -> None:
    found = build_report([chain("one", "A", (["p"], "B"))])

    assert found.stages[0].rates is None
    assert "nothing is right or wrong" in headlines(found)[0]
    assert "Harm and help" not in {table.title for table in tables(found)}
    assert pictures(found) == ()


def test_a_single_answer_is_reported_without_a_sentence_of_change() -> None:
    [made] = revised(1, 0)
    found = build_report([made])

    assert [each.label for each in found.stages] == ["constitutional"]
    assert found.drifts == ()
    assert "harm" not in headlines(found)[0]


def test_no_debates_at_all_still_make_a_report() -> None:
    found = build_report([])

    assert (found.stages, found.drifts, found.pairs, found.principles) == ((), (), (), ())
    assert to_json(found)["stages"] == []


def test_arms_of_several_stores_stand_under_their_names_in_their_order() -> None:
    found = build_report([], arms={"start": revised(8, 0), "after SL": revised(8, 8)})

    assert [each.label for each in found.stages] == [
        "start",
        "after SL: first answers",
        "after SL: last answers",
    ]
    assert found.num_debates == 16


def test_the_principles_that_fired_are_counted() -> None:
    [principle] = build_report(revised(16, 16)).principles

    assert (principle.id, principle.num_critiques) == ("p", 16)
    assert principle.changed is not None
    assert principle.changed.value == 10 / 16


def test_the_sample_of_pairs_is_the_same_whatever_the_order() -> None:
    given = revised(40, 40)
    one, other = build_report(given).pairs, build_report(given[::-1]).pairs

    assert one == other
    assert len(one) == 6
    assert all(pair.first != pair.last for pair in one)
    texts = {asked(index).text for index in range(40)}
    assert {pair.prompt for pair in one} <= texts


def test_hostile_answers_steer_neither_the_terminal_nor_the_page() -> None:
    found = build_report(
        [chain(Question(id="x", dataset="asked", text=HOSTILE), HOSTILE, (["p"], f"B {HOSTILE}"))]
    )

    assert "\x1b]52" not in shown(found)
    assert "[bold red]" in shown(found, 200)
    assert "<script>" not in html(found)


@pytest.mark.parametrize("width", [60, 80])
def test_the_report_fits_a_terminal(width: int) -> None:
    lines = shown(build_report(revised(24, 12)), width).splitlines()

    assert all(len(line) <= width for line in lines)


def test_the_picture_of_harm_and_help_stands_on_the_page_and_in_the_png(tmp_path: Path) -> None:
    found = build_report([], arms={"start": revised(8, 0), "after": revised(8, 8)})

    assert [each.name for each in pictures(found)] == ["harm"]
    assert re.search(r'alt="Harm and help: start, harm 62 %', html(found))
    render_png(found, tmp_path / "report.png", dpi=40)
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
