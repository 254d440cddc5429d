"""The score and record that a judge is shown after sending, in numbers worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from oversight.judging.tasks.debate import calibration_strip, feedback, stated
from oversight.types import Belief, BeliefGiven, BeliefMethod, Verdict, VerdictChosen

ABSTAINED = Belief(verdict=Verdict.ABSTAIN, method=BeliefMethod.HUMAN)


@pytest.mark.parametrize(
    ("rule", "score"),
    [
        ("log", math.log(0.8)),
        ("quadratic", 1 - 0.2**2),
        ("spherical", 0.8 / math.sqrt(0.8**2 + 0.2**2)),
    ],
)
def test_the_score_is_that_of_the_rule_less_a_price_per_round(
    workshop: Any, rule: str, score: float
) -> None:
    settings = workshop.settings(score=rule, price_per_round=0.05)
    told = feedback(settings, workshop.question(), stated((0.2, 0.8)), rounds=3)
    assert told.score == pytest.approx(score - 0.15)
    assert told.price == pytest.approx(0.15)
    assert (told.rule, told.correct, told.right) == (rule, 1, True)


def test_right_wrong_and_undecided(workshop: Any) -> None:
    settings, question = workshop.settings(), workshop.question()
    assert feedback(settings, question, stated((0.9, 0.1)), 0).right is False
    tie = feedback(settings, question, stated((0.5, 0.5)), 0)
    unsure = feedback(settings, question, ABSTAINED, 0)
    assert (tie.right, unsure.right) == (None, None)
    assert tie.score == unsure.score == pytest.approx(math.log(0.5))


def test_nothing_is_told_where_the_study_hides_it_or_nobody_knows(workshop: Any) -> None:
    final = stated((0.2, 0.8))
    assert feedback(workshop.settings(feedback=False), workshop.question(), final, 1) is None
    assert feedback(workshop.settings(), workshop.question(correct=None), final, 1) is None


async def test_the_strip_counts_how_often_one_was_right_by_how_sure_one_was(workshop: Any) -> None:
    desk = workshop.desk()
    for number, probs in enumerate([(0.05, 0.95), (0.1, 0.9), (0.97, 0.03), (0.45, 0.55)]):
        debate = await workshop.record("debate", question=workshop.question(number))
        item, _ = desk.take(debate.id)
        desk.open(item)
        item.acts.add(BeliefGiven(step=0, probs=probs))
        await desk.send(item)
        await desk.close(item)
    strip = calibration_strip(workshop.store.transcripts(), "anna")
    assert [(b.num, b.num_right) for b in strip] == [(1, 1), (0, 0), (0, 0), (0, 0), (3, 2)]
    assert [(b.low, b.high) for b in strip][::4] == [(0.5, 0.6), (0.9, 1.0)]
    assert all(b.num == 0 for b in calibration_strip(workshop.store.transcripts(), "bo"))


async def test_the_strip_leaves_out_models_ties_and_questions_without_an_answer(
    workshop: Any,
) -> None:
    debate = await workshop.record("debate")
    item, _ = workshop.desk().take(debate.id)
    item.acts.add(BeliefGiven(step=0, probs=(0.3, 0.7)))
    item.acts.add(VerdictChosen(verdict="tie"))
    await workshop.desk().send(item)
    transcript = workshop.store.transcript(debate.id)
    assert len(transcript.judgments) > 1
    for judge in ("anna", transcript.judgments[0].judge):
        assert sum(b.num for b in calibration_strip([transcript], judge)) == 0
    unknown = replace(transcript, question=workshop.question(correct=None))
    assert sum(b.num for b in calibration_strip([unknown], "anna")) == 0
