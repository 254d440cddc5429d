"""Judges of a panel by themselves: planted drift and liking are found, thin data is named."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from oversight.evals.findings import frames, to_json
from oversight.evals.reliability import (
    first_place,
    gold_accuracy,
    repeat_consistency,
    session_drift,
)
from oversight.evals.rendering import html
from oversight.evals.report import build_report
from oversight.evals.tables import tables
from oversight.types import JudgeKind, Seat


def test_repeats_are_consistent_by_the_share_that_came_again():
    found = repeat_consistency("abcd", "abcc", [1, 2, 3, 4])
    assert found.value == pytest.approx(0.75)
    assert repeat_consistency([], [], []) is None
    with pytest.raises(ValueError, match="4 answers, 3 repeats"):
        repeat_consistency("abcd", "abc", [1, 2, 3, 4])


def test_a_liking_for_the_first_place_is_found_and_a_fair_judge_has_none():
    rng = np.random.default_rng(0)
    items = list(range(300))
    assert first_place(list(rng.random(300) < 0.65), items).excludes(0.5)
    assert not first_place(list(rng.random(300) < 0.5), items).excludes(0.5)
    assert first_place([True] * 50, [1] * 50) is None


def answers(rng, fall):
    """Right or wrong of 20 answers in each of 15 sessions, by `fall` worse in the later half."""
    places = list(range(20)) * 15
    sessions = [session for session in range(15) for _ in range(20)]
    right = [float(rng.random() < 0.8 - fall * (place >= 10)) for place in places]
    return right, places, sessions, list(range(300))


def test_a_judge_who_tires_drifts_by_what_was_planted_and_a_steady_one_does_not():
    found = session_drift(*answers(np.random.default_rng(1), 0.3))
    assert found.value == pytest.approx(-0.3, abs=0.1)
    assert found.excludes(0.0)
    assert not session_drift(*answers(np.random.default_rng(1), 0.0)).excludes(0.0)
    right, places, sessions, items = answers(np.random.default_rng(1), 0.3)
    assert session_drift(right[:12], places[:12], sessions[:12], items[:12]) is None


def test_few_items_with_a_known_answer_say_nothing_of_accuracy():
    assert gold_accuracy([True] * 9, range(9)) is None
    assert gold_accuracy([True] * 9 + [False], range(10)).value == pytest.approx(0.9)


def debates(judged, number, seed=0, **accuracy):
    """Debates whose judges are right as often as named; a call may give (share, judged by few)."""
    rng = random.Random(seed)
    made = []
    for at in range(number):
        correct = rng.randrange(2)
        sides = rng.sample((0, 1), 2)

        def belief(right, correct=correct):
            return (0.9, 0.1)[right != (correct == 0)]

        said = {
            judge: belief(rng.random() < share)
            for judge, (share, first) in accuracy.items()
            if at < first
        }
        (one, p), *others = said.items()
        made.append(
            judged(
                p,
                question=f"q{at}",
                judge=one,
                more_judges=dict(others),
                correct=correct,
                defends=tuple(sides),
                shown=tuple(rng.sample((Seat.A, Seat.B), 2)),
            )
        )
    return made


ALL = 10**9
THREE = {"ann": (0.9, ALL), "ben": (0.8, ALL), "cleo": (0.65, ALL)}


def table(report, title):
    return next((each for each in tables(report) if each.title == title), None)


def test_accuracy_from_agreement_stands_beside_that_by_known_answers(judged):
    report = build_report(debates(judged, 250, **THREE))
    assert [each.judge for each in report.standings] == ["ann", "ben", "cleo"]
    for each, known in zip(report.standings, (0.9, 0.8, 0.65), strict=True):
        assert each.gold.low <= known <= each.gold.high
        assert each.fitted.low - 0.03 <= known <= each.fitted.high + 0.03
        assert each.flaws == ()
    assert len(table(report, "Judges of the same debates").rows) == 3


def test_the_panels_word_is_held_against_known_answers(judged):
    five = {"ann": (0.95, ALL), "ben": (0.9, ALL)} | dict.fromkeys("xyz", (0.55, ALL))
    (word,) = build_report(debates(judged, 400, **five)).panels
    assert (word.protocol, word.num_judges, word.num_debates) == ("debate", 5, 400)
    assert word.dawid_skene.value > word.majority.value + 0.05
    assert word.one_coin.value > word.majority.value + 0.05
    assert word.num_changed > 20
    assert word.flaw == ""


def test_an_answer_that_stands_first_in_its_data_set_always_gives_no_fit_away(judged):
    """Labels by the option's own place would make any judge look right."""
    rng = random.Random(1)
    made = [
        judged(
            0.9 if rng.random() < 0.6 else 0.1,
            question=f"q{at}",
            judge="ann",
            more_judges={name: 0.9 if rng.random() < 0.6 else 0.1 for name in ("ben", "cleo")},
            defends=tuple(rng.sample((0, 1), 2)),
        )
        for at in range(300)
    ]
    (word,) = build_report(made).panels
    assert word.dawid_skene.value < 0.72
    assert word.one_coin.value == pytest.approx(word.majority.value, abs=0.05)


def test_what_cannot_be_said_of_a_judge_stands_in_words(judged):
    report = build_report(debates(judged, 40, ann=(0.9, ALL), ben=(0.8, ALL)))
    assert all("fewer than 3 judges" in each.flaws[0] for each in report.standings)
    assert report.panels[0].dawid_skene is None
    assert "fewer than 3 judges" in report.panels[0].flaw
    report = build_report(debates(judged, 40, **THREE, dan=(0.9, 3)))
    dan = report.standings[-1]
    assert (dan.judge, dan.gold, dan.fitted) == ("dan", None, None)
    assert dan.flaws == (
        "3 questions with a known answer; 10 are needed",
        "3 debates shared with others; 5 are needed",
    )
    assert table(report, "Judges of the same debates").rows[-1][3:5] == ("–", "–")
    assert report.panels[0].flaw == "left out of the fits, with fewer than 5 votes: dan"


def test_a_single_judge_is_no_panel(judged):
    report = build_report(debates(judged, 40, ann=(0.9, ALL)))
    assert (report.standings, report.panels) == ((), ())
    assert table(report, "Judges together") is None


def test_the_same_words_judged_again_are_repeats(judged):
    once = debates(judged, 30, seed=0, **THREE)
    again = [
        judged(
            each.judgments[0].final.probs[0] if at % 3 else 1 - each.judgments[0].final.probs[0],
            question=each.question.id,
            judge="ann",
            correct=each.question.correct,
            defends=each.debate.orders.defends,
            shown=each.debate.orders.shown,
            seed=1,
        )
        for at, each in enumerate(once)
    ]
    ann, ben, _ = build_report([*once, *again]).standings
    assert ann.repeats.value == pytest.approx(20 / 30)
    assert ben.repeats is None
    few = build_report([*once, *again[:3]]).standings[0]
    assert few.repeats is None
    assert "3 questions came again; 10 are needed" in few.flaws


def test_both_orders_and_the_first_place_are_told_of_each_judge(judged):
    made = [
        judged(0.9, swapped=0.9 if at % 4 else 0.1, question=f"q{at}", more_judges={"ben": 0.9})
        for at in range(40)
    ]
    report = build_report(made)
    ben, judge = report.standings
    assert judge.both_orders.value == pytest.approx(0.75)
    assert ben.both_orders is None
    assert ben.first_place.value == 1.0
    shown = table(report, "Steadiness of judges")
    assert shown.rows[0][:4] == ("debate", "ben", "–", "–")
    assert shown.rows[0][4].startswith("100 %")


def as_person(transcript, at):
    """The same debate with its judgments sent by people, at that time."""
    sent = at.isoformat(timespec="seconds")
    given = (
        each.model_copy(update={"kind": JudgeKind.HUMAN, "sent_at": sent})
        for each in transcript.judgments
    )
    return replace(transcript, judgments=tuple(given))


def test_a_person_who_tires_over_each_session_drifts(judged):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    made = []
    for session in range(4):
        for at in range(20):
            p = 0.9 if at < 10 or at % 2 else 0.1
            when = start + timedelta(hours=5 * session, minutes=2 * at)
            one = judged(p, question=f"q{session}-{at}", judge="ann", more_judges={"ben": 0.9})
            made.append(as_person(one, when))
    ann, ben = build_report(made).standings
    assert ann.drift.value == pytest.approx(-0.5)
    assert ann.drift.excludes(0.0)
    assert ben.drift.value == 0.0
    short = build_report(made[:12]).standings[0]
    assert short.drift is None
    assert "drift needs 10 questions in either half of the sessions" in short.flaws
    untimed = [
        replace(
            each, judgments=tuple(one.model_copy(update={"sent_at": ""}) for one in each.judgments)
        )
        for each in made
    ]
    assert any("no time" in flaw for flaw in build_report(untimed).standings[0].flaws)


def test_a_panel_is_in_the_json_the_frames_and_the_page(judged):
    report = build_report(debates(judged, 40, **THREE))
    plain = to_json(report)
    assert plain["standings"][0]["judge"] == "ann"
    assert plain["panels"][0]["majority"]["value"] > 0.5
    rows = frames(report)
    assert {"gold", "gold_low", "fitted", "fitted_low", "flaws"} <= rows["standings"][0].keys()
    assert {"majority", "dawid_skene_low", "flaw"} <= rows["panels"][0].keys()
    page = html(report)
    assert all(title in page for title in ("Judges together", "Judges of the same debates"))
