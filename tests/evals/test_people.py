"""People's ratings in the report."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oversight.evals.report import build_report
from oversight.evals.tables import tables
from oversight.types import (
    CriticismIs,
    Feedback,
    OwnAnswer,
    PairAnswer,
    Preferred,
    PrinciplesAnswer,
    RevisionAnswer,
    RevisionIs,
)


def rated(transcript, *answers, turns=1, item="i"):
    """The debate with answers of so many people to one item each."""
    ids = tuple(turn.id for turn in transcript.turns[:turns])
    ratings = tuple(
        Feedback(
            debate_id=transcript.debate.id, item=item, turn_ids=ids, judge=f"p{n}", answer=answer
        )
        for n, answer in enumerate(answers)
    )
    return replace(transcript, ratings=ratings)


def measured(*transcripts):
    report = build_report(transcripts)
    return report, {(each.task, each.question): each for each in report.people}


def test_revisions_and_criticisms_are_shares_with_intervals(judged):
    better = RevisionAnswer(criticism=CriticismIs.RIGHT, revision=RevisionIs.BETTER)
    same = RevisionAnswer(criticism=CriticismIs.PARTLY, revision=RevisionIs.SAME)
    made = [rated(judged(0.9, question=f"q{n}"), better, same, turns=2) for n in range(4)]
    report, found = measured(*made)
    revision = found["revisions", "revision better"]
    assert revision.mean.value == pytest.approx(0.75)
    assert (revision.num_people, revision.mean.num_clusters) == (2, 4)
    assert found["revisions", "criticism right"].mean.value == pytest.approx(0.75)
    table = next(table for table in tables(report) if table.title == "Ratings by people")
    assert table.rows[0][:3] == ("revisions", "debate", "criticism right")


def test_scores_are_means_by_principle_and_what_does_not_apply_counts_for_nothing(judged):
    answers = [
        PrinciplesAnswer(constitution="c", fingerprint="f", scores={"kind": score, "brief": None})
        for score in (2, 5)
    ]
    _, found = measured(*(rated(judged(0.9, question=f"q{n}"), *answers) for n in range(3)))
    assert found["principles", "score: kind"].mean.value == 3.5
    assert ("principles", "score: brief") not in found


def test_pairs_tell_whether_the_chosen_one_is_preferred(judged):
    made = judged(0.9)
    chosen, other, *rest = made.turns
    made = replace(made, turns=(chosen, other.model_copy(update={"chosen": False}), *rest))
    left = PairAnswer(preferred=Preferred.LEFT, strength=2)
    bad = PairAnswer(preferred=Preferred.BOTH_BAD)
    _, found = measured(rated(made, left, bad, PairAnswer(preferred=Preferred.TIE), turns=2))
    assert found["pairs", "chosen one better"].mean.value == pytest.approx(0.75)
    assert found["pairs", "both bad"].mean.value == pytest.approx(1 / 3)


def test_answers_to_ones_own_task_are_means_shares_and_words(judged):
    made = [
        rated(
            judged(0.9, question=f"q{n}"),
            OwnAnswer(task="survey", fields={"clear": 4, "fun": True, "how": "fast", "note": note}),
            OwnAnswer(task="survey", fields={"clear": 2, "fun": False, "how": "slow", "note": ""}),
        )
        for n, note in enumerate("abcdefghi")
    ]
    _, found = measured(*made)
    assert found["survey", "clear"].mean.value == 3.0
    assert found["survey", "fun"].mean.value == 0.5
    assert found["survey", "how: fast"].mean.value == 0.5
    assert not [question for _, question in found if question.startswith("note")]


def test_only_the_last_word_of_a_person_counts(judged):
    made = rated(judged(0.9), OwnAnswer(task="survey", fields={"clear": 1}))
    [first] = made.ratings
    later = first.model_copy(
        update={"revision": 1, "answer": OwnAnswer(task="survey", fields={"clear": 5})}
    )
    _, found = measured(replace(made, ratings=(first, later)))
    assert found["survey", "clear"].mean.value == 5.0


@pytest.mark.parametrize(
    "words", [["fine", "fine", "I asked both of them to show me more of the story."], ["x", "y"]]
)
def test_free_text_is_no_class_however_few_wrote_one(judged, words):
    made = [
        rated(judged(0.9, question=f"q{n}"), OwnAnswer(task="survey", fields={"note": word}))
        for n, word in enumerate(words)
    ]
    _, found = measured(*made)
    assert found == {}
