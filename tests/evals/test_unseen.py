"""Reports on judgments that people gave with turns unread."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from oversight.evals.findings import to_json, warnings
from oversight.evals.rendering import render_text
from oversight.evals.report import build_report
from oversight.evals.tables import tables
from oversight.types import JudgeKind


@pytest.fixture
def by_person(judged):
    """A debate that a person judged, so much of its turns on the screen."""

    def make(p, number, unseen, kind=JudgeKind.HUMAN):
        made = judged(p, question=f"q{number}")
        changes = {"kind": kind, "unseen": unseen}
        return replace(made, judgments=tuple(j.model_copy(update=changes) for j in made.judgments))

    return make


@pytest.fixture
def report(by_person):
    """Six read and right, three unread and wrong, one of which nobody recorded it."""
    given = [*[(0.8, {})] * 6, *[(0.2, {"t1": 0.0})] * 3, (0.8, None)]
    return build_report(by_person(p, number, left) for number, (p, left) in enumerate(given))


def test_a_report_counts_judgments_with_turns_unread_and_gives_accuracy_without_them(report):
    (found,) = report.unseen
    assert (found.label, found.num, found.num_unseen, found.num_unrecorded) == ("debate", 10, 3, 1)
    assert found.accuracy.accuracy.value == pytest.approx(0.7)
    assert found.accuracy_without.accuracy.value == 1.0
    assert found.accuracy_without.num == 7
    assert to_json(report)["unseen"][0]["num_unseen"] == 3


def test_the_terminal_shows_them_in_a_table_and_as_a_warning(report):
    console = Console(file=io.StringIO(), width=80)
    console.print(render_text(report))
    shown = console.file.getvalue()
    assert "Unread turns" in shown
    assert "debate: 3 of 10 judgments by people, given with turns unread." in warnings(report)
    (table,) = [each for each in tables(report) if each.title == "Unread turns"]
    assert table.rows[0][:4] == ("debate", "10", "3", "1")
    assert table.rows[0][4].startswith("70 %")
    assert table.rows[0][5].startswith("100 %")


def test_where_all_was_read_there_is_a_count_and_no_second_accuracy(by_person):
    report = build_report(by_person(0.8, number, {}) for number in range(3))
    (table,) = [each for each in tables(report) if each.title == "Unread turns"]
    assert table.rows[0][:4] == ("debate", "3", "0", "0")
    assert table.rows[0][5] == "–"
    assert not [each for each in warnings(report) if "unread" in each]


def test_where_nothing_was_read_nothing_is_left_to_be_measured(by_person):
    report = build_report(by_person(0.8, number, {"t": 0.5}) for number in range(2))
    assert report.unseen[0].accuracy_without is None
    (table,) = [each for each in tables(report) if each.title == "Unread turns"]
    assert table.rows[0][5] == "–"


def test_models_have_no_screen(by_person):
    report = build_report([by_person(0.8, 0, None, kind=JudgeKind.MODEL)])
    assert report.unseen == ()
    assert "Unread turns" not in {each.title for each in tables(report)}
