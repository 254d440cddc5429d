"""Rounds, characters, quotes and belief by judge turn, by protocol."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace

import pytest

from oversight.evals.course import belief_by_turn, turns_of
from oversight.evals.findings import frames
from oversight.evals.report import build_report
from oversight.evals.tables import tables
from oversight.types import Act, QuoteStatus, Seat, Slot, Step


def shown(report):
    return {table.title: table for table in tables(report)}


def test_a_belief_before_anybody_spoke_is_turn_zero():
    assert turns_of([(0, 0.5), (2, 0.6), (4, None), (6, 0.8)], 1) == [(0, 0.5), (1, 0.6), (3, 0.8)]
    assert turns_of([(1, 0.6), (3, 0.7)], 0) == [(1, 0.6), (2, 0.7)]
    assert turns_of([], 0) == []
    assert turns_of([(0, 0.5)], None) == [(0, 0.5)]


def test_debates_are_counted_once_however_many_judged_them(judged):
    quotes = {Seat.A: [QuoteStatus.VERIFIED], Seat.B: [QuoteStatus.NEAR, QuoteStatus.NEAR]}
    made = [
        judged(0.9, question=f"q{i}", quotes=quotes, path=(0.6, 0.7), more_judges={"bob": 0.2})
        for i in range(3)
    ]
    report = build_report(made)
    [course] = report.courses
    assert (course.label, course.sizes.num_debates, course.num_questions) == ("debate", 3, 3)
    assert course.sizes.rounds.value == 3.0
    assert course.judge_turns.value == 2.0
    assert course.sizes.characters.value == 6 * len("words")
    assert course.sizes.quotes.value == 9.0


def test_accuracy_by_protocol_is_of_the_judges_who_sat_in_the_debate(judged):
    made = []
    for number in range(10):
        own = judged(0.9, question=f"q{number}", judge=f"judge {number}", path=(0.6,))
        offline = own.judgments[0].model_copy(
            update={"judge": "offline", "trajectory": (), "final": judged(0.1).judgments[0].final}
        )
        made.append(replace(own, judgments=(*own.judgments, offline)))
    report = build_report(made)
    [course] = report.courses
    assert course.accuracy.accuracy.value == 1.0
    assert course.accuracy.num == 10
    assert len(report.arms) == 11


def test_belief_by_turn_is_of_the_debates_that_came_to_it(judged):
    made = [
        judged(0.9, question="a", path=(0.6, 0.8)),
        judged(0.9, question="b", path=(0.4,)),
        judged(0.2, question="c", correct=1, path=(0.3, 0.1, 0.2)),
    ]
    found = {each.turn: each.belief for each in build_report(made).turn_beliefs}
    assert {turn: each.num for turn, each in found.items()} == {1: 3, 2: 2, 3: 1, None: 3}
    assert found[1].value == pytest.approx((0.6 + 0.4 + 0.7) / 3)
    assert found[2].value == pytest.approx((0.8 + 0.9) / 2)
    assert found[None].value == pytest.approx((0.9 + 0.9 + 0.8) / 3)


def test_protocols_whose_judge_believes_before_the_first_speech_have_a_turn_zero(judged, protocols):
    believe = Step(slots=(Slot(seat=Seat.JUDGE, act=Act.BELIEVE),))
    asked_first = protocols["debate"].model_copy(update={"opening": (believe,)})
    report = build_report([judged(0.9, protocol=asked_first, path=(0.5, 0.7, 0.8))])
    assert [each.turn for each in report.turn_beliefs] == [0, 1, 2, None]
    [course] = report.courses
    assert course.judge_turns.value == 2.0
    assert report.arms[0].priced.value == pytest.approx(-0.152 - 0.1, abs=1e-3)


def test_a_judgment_without_speakers_has_no_course(judged, protocols):
    report = build_report([judged(0.9, protocol=protocols["naive"])])
    assert report.courses == report.turn_beliefs == ()


def test_the_figures_stand_in_tables_and_frames(simulated, protocols):
    report = build_report(simulated(20, protocols["debate"], 0.8))
    assert shown(report)["Debates"].columns[4:] == (
        *("rounds", "judge turns", "characters", "quotes"),
    )
    [row] = shown(report)["Belief by judge turn"].rows
    assert row[1].endswith("(20)")
    [frame] = frames(report)["courses"]
    assert {"sizes_rounds", "judge_turns", "sizes_characters", "accuracy_accuracy"} <= frame.keys()
    assert [each["turn"] for each in frames(report)["turn_beliefs"]] == [1, 2, 3, None]


def test_real_judges_beliefs_rise_in_debates_as_published(shared_data):
    """Human debate .51, .59, .70, .72 and human consultancy .50, .53, .54, .54 on the whole set;
    here on a quarter of it."""
    folder = shared_data / "nyu-debates"
    if not folder.is_dir():
        pytest.skip(f"no NYU debates at {folder}")
    about = {
        row["name"]: row
        for row in map(json.loads, (folder / "debates-metadata.jsonl").read_text().splitlines())
    }
    beliefs, clusters = defaultdict(list), defaultdict(list)
    for file in sorted((folder / "debates").glob("*.json")):
        setting, record = about[file.stem]["setting"], json.loads(file.read_text())
        judged = [r["JudgeFeedback"] for r in record["rounds"] if "JudgeFeedback" in r]
        if not (setting["isHuman"] and about[file.stem]["includedInPaper"]):
            continue
        if not judged[-1]["endDebate"]:
            continue
        right = record["setup"]["correctAnswerIndex"]
        path = [(2 * turn, each["distribution"][right]) for turn, each in enumerate(judged)]
        kind = "debate" if setting["isDebate"] else "consultancy"
        beliefs[kind].append(turns_of(path, 1))
        clusters[kind].append(record["setup"]["question"])
    for kind, published in (
        ("debate", (0.51, 0.59, 0.70, 0.72)),
        ("consultancy", (0.50, 0.53, 0.54, 0.54)),
    ):
        found = dict(belief_by_turn(beliefs[kind], clusters[kind]))
        for turn, mean in enumerate(published):
            assert found[turn].value == pytest.approx(mean, abs=0.06)
