"""What the report says of those who rated: order effects of models, agreement with people."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from oversight import constitutions
from oversight.evals.report import Report, build_report
from oversight.evals.tables import tables
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
