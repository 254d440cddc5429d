"""Reports on raters: order effects of models, agreement with people."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from oversight import constitutions
from oversight.evals.findings import warnings
from oversight.evals.report import Report, build_report
from oversight.evals.tables import SAME_ANSWER, tables
from oversight.judging.model_ratings import ModelRatings
from oversight.judging.settings import RatingSettings
from oversight.types import (
    CriticismIs,
    Feedback,
    PairAnswer,
    Preferred,
    PrinciplesAnswer,
    RevisionAnswer,
    RevisionIs,
    Task,
    Turn,
)
from oversight.types.ratings import Answer, item_id


def by_model(records: Any, task: Task, beliefs: dict[str, float], **changes: Any) -> None:
    script = {"engine": "scripted", "settings": {"beliefs": beliefs}}
    given = {
        "agents": {"rater": {"agent": "rater", "engine": "script"}},
        "engines": {"script": script},
        **changes,
    }
    asyncio.run(ModelRatings(records.store, RatingSettings.parse(given), task).run())


def by_person(records: Any, answer: Answer, *turns: Turn, judge: str = "ann") -> None:
    ids = tuple(turn.id for turn in turns)
    rules = answer.constitution if isinstance(answer, PrinciplesAnswer) else ""
    item = item_id(answer.task, ids, rules)
    records.store.add(
        Feedback(debate_id=turns[0].debate_id, item=item, turn_ids=ids, judge=judge, answer=answer)
    )


def report(records: Any) -> Report:
    return build_report(records.store.transcripts())


def titles(found: Report) -> dict[str, Any]:
    return {table.title: table for table in tables(found)}


def test_a_model_that_likes_what_stands_first_is_shown_to(records):
    for _ in range(4):
        records.best_of("First words.", "Other words.")
    by_model(records, Task.PAIRS, {"A": 0.6, "B": 0.2})
    (summary,) = report(records).raters
    assert (summary.rater, summary.kind) == ("rater (scripted)", "model")
    assert (summary.num_items, summary.num_ratings, summary.num_unread) == (4, 8, 0)
    assert summary.first is not None
    assert summary.first.value == pytest.approx(0.75)
    assert summary.flipped is not None
    assert summary.flipped.value == 1.0
    assert "75 %" in titles(report(records))["Ratings of responses"].rows[0][5]


def test_a_model_that_always_prefers_the_first_is_named_with_its_consistent_share(records):
    for _ in range(12):
        records.best_of("First words.", "Other words.")
    by_model(records, Task.PAIRS, {"A": 0.9, "B": 0.1})
    found = report(records)
    (summary,) = found.raters
    assert summary.consistent is not None
    assert summary.consistent.value == 0.0
    assert summary.follows_order
    [said] = [each for each in warnings(found) if "prefers" in each]
    assert said.startswith("rater (scripted) prefers what stands first: only 0 %")
    assert "comparisons (pairs) are the same in both orders" in said


def test_a_model_that_prefers_a_response_wherever_it_stands_is_not_named(records):
    for _ in range(12):
        records.best_of("First words.", "Other words.")
    rules = [
        {"pattern": 'label="A">\\s*Other words', "beliefs": {"A": 0.9, "B": 0.1}},
        {"pattern": 'label="B">\\s*Other words', "beliefs": {"A": 0.1, "B": 0.9}},
    ]
    engine = {"engine": "scripted", "settings": {"rules": rules}}
    by_model(records, Task.PAIRS, {}, engines={"script": engine})
    found = report(records)
    (summary,) = found.raters
    assert summary.consistent is not None
    assert (summary.consistent.value, summary.follows_order) == (1.0, False)
    assert not [each for each in warnings(found) if "prefers" in each]


def test_of_revisions_too_the_first_shown_is_told_from_the_better_one(records):
    records.critique()
    by_model(records, Task.REVISIONS, {"A": 0.6, "B": 0.2})
    (summary,) = report(records).raters
    assert summary.first is not None
    assert summary.first.value == pytest.approx(0.75)


def test_agreement_of_a_person_and_a_model_is_counted_by_question(records):
    for revision in (RevisionIs.BETTER, RevisionIs.BETTER, RevisionIs.WORSE):
        turns = records.critique()
        answer = RevisionAnswer(criticism=CriticismIs.RIGHT, revision=revision)
        by_person(records, answer, *turns)
    by_model(records, Task.REVISIONS, {"A": 0.2, "B": 0.7}, orders="drawn", seed=4)
    found = {each.question: each for each in report(records).rater_agreements}
    assert set(found) == {"revision", "criticism"}
    assert found["revision"].raters == ("ann", "rater (scripted)")
    assert found["revision"].kinds == ("person", "model")
    assert found["revision"].num_items == 3
    given = [r for t in records.store.transcripts() for r in t.ratings if not r.is_persons]
    better = {each.debate_id for each in given if not each.swapped}
    wanted = [r for t in records.store.transcripts() for r in t.ratings if r.is_persons]
    same = [(r.answer.revision is RevisionIs.BETTER) == (r.debate_id in better) for r in wanted]
    assert found["revision"].agreement == pytest.approx(sum(same) / 3)
    assert titles(report(records))["Agreement of raters"].rows[0][2] == "person–model"


def test_agreement_on_pairs_does_not_depend_on_the_order_shown(records):
    one, other = records.best_of("First words.", "Other words.")
    answer = PairAnswer(preferred=Preferred.LEFT, strength=1)
    by_person(records, answer, one, other)
    by_person(records, answer, other, one, judge="bob")
    (agreement,) = report(records).rater_agreements
    assert agreement.agreement == 0.0
    assert agreement.kinds == ("person", "person")


def test_scores_by_principle_agree_to_the_point(records):
    (turn,) = records.debate("A speech.")
    rules = constitutions.load("honest_debate")
    scores = {"evidence-over-eloquence": 5, "honest-uncertainty": 3}
    whole = {each.id: scores.get(each.id) for each in rules.principles}
    answer = PrinciplesAnswer(constitution=rules.name, fingerprint="f", scores=whole)
    by_person(records, answer, turn)
    by_model(records, Task.PRINCIPLES, {"E": 0.9}, orders="drawn", seed=1)
    drawn = next(r for t in records.store.transcripts() for r in t.ratings if not r.is_persons)
    says = 2 if drawn.swapped else 5
    (agreement,) = report(records).rater_agreements
    assert agreement.question == "principles"
    assert agreement.num_items == 2
    assert agreement.agreement == pytest.approx(sum(s == says for s in (5, 3)) / 2)


def test_a_report_of_people_alone_has_no_table_of_models(records):
    one, other = records.best_of("First words.", "Other words.")
    by_person(records, PairAnswer(preferred=Preferred.LEFT, strength=1), one, other)
    assert "Ratings of responses" not in titles(report(records))


def pairs_by(records: Any, **answers: Sequence[Preferred | None]) -> None:
    """A pair for each place, and of each person an answer to it, or none."""
    for given in zip(*answers.values(), strict=True):
        one, other = records.best_of("First words.", "Other words.")
        for judge, preferred in zip(answers, given, strict=True):
            if preferred is not None:
                strength = 1 if preferred in (Preferred.LEFT, Preferred.RIGHT) else None
                answer = PairAnswer(preferred=preferred, strength=strength)
                by_person(records, answer, one, other, judge=judge)


def rows_of_agreement(records: Any) -> list[tuple[str, ...]]:
    return list(titles(report(records))["Agreement of raters"].rows)


L, R, T = Preferred.LEFT, Preferred.RIGHT, Preferred.TIE


@pytest.mark.parametrize(
    ("ann", "bob", "agree", "kappa"),
    [
        ((L, R, L, R), (L, R, L, R), "100 %", "1.00"),
        ((L, R, L, R), (R, L, R, L), "0 %", "−1.00"),
        ((L, L, R, R), (L, R, L, R), "50 %", "0.00"),
        ((T, T, L), (T, T, R), "67 %", "0.40"),
        ((L, L), (L, L), "100 %", "–"),
        ((T, T), (T, T), "100 %", "–"),
        ((L,), (R,), "0 %", "0.00"),
    ],
    ids=["all", "none", "half", "ties", "one answer", "all ties", "single"],
)
def test_two_peoples_agreement_in_figures(records, ann, bob, agree, kappa):
    pairs_by(records, ann=ann, bob=bob)
    (row,) = rows_of_agreement(records)
    assert row == ("preferred", "ann · bob", "person–person", agree, kappa, str(len(ann)))


def test_the_note_on_raters_names_what_they_rated_and_why_kappa_is_missing(records):
    pairs_by(records, ann=(L, L), bob=(L, L))
    note = titles(report(records))["Agreement of raters"].note
    assert note == f"On what both rated: which response is better. {SAME_ANSWER}"
    pairs_by(records, ann=(R,), bob=(R,))
    note = titles(report(records))["Agreement of raters"].note
    assert note == "On what both rated: which response is better."


def test_of_three_people_each_two_that_share_an_item_have_a_row(records):
    pairs_by(records, ann=(L, R, None), bob=(L, L, R), cyd=(None, L, R))
    rows = [(row[1], row[3], row[5]) for row in rows_of_agreement(records)]
    assert rows == [
        ("ann · bob", "50 %", "2"),
        ("ann · cyd", "0 %", "1"),
        ("bob · cyd", "100 %", "2"),
    ]


def test_a_person_who_rated_nothing_in_common_has_no_row(records):
    pairs_by(records, ann=(L, R, None), bob=(L, R, None), cyd=(None, None, L))
    assert [row[1] for row in rows_of_agreement(records)] == ["ann · bob"]


def test_people_who_share_no_item_have_no_table(records):
    pairs_by(records, ann=(L, None), bob=(None, L))
    assert "Agreement of raters" not in titles(report(records))


def test_a_person_of_a_models_name_keeps_it(records):
    turns = records.best_of("First words.", "Other words.")
    name = "rater (scripted)"
    by_person(records, PairAnswer(preferred=L, strength=1), *turns, judge=name)
    by_model(records, Task.PAIRS, {"A": 0.6, "B": 0.2})
    found = [each.rater for each in report(records).raters]
    assert found[0] == name
    assert found[1].startswith(f"{name} ")
