"""Rows from what people rated: worked by hand, through several judges, revisions and oddities."""

from __future__ import annotations

import pytest

from oversight.preferences.building import export, preferences
from oversight.preferences.ratings import total
from oversight.preferences.settings import PreferenceSettings, Reason
from oversight.types import (
    PairAnswer,
    PrinciplesAnswer,
    Seat,
)
from tests.preferences.rated import by_rules, prefers, rating, review, says

# --- pairs ---------------------------------------------------------------------


@pytest.mark.parametrize(("strength", "p"), [(1, 2 / 3), (2, 5 / 6), (3, 1.0)])
def test_the_preferred_response_is_first_and_the_strength_is_the_belief(
    candidates, rows, strength, p
):
    transcript, (one, other) = candidates("one", "other")
    (row,), dropped = rows(transcript, prefers("right", strength, one, other), weight="margin")
    assert [r.text for r in row.responses] == ["other", "one"]
    assert row.kind == "pairs"
    assert row.ranks == (0, 1)
    assert row.soft_label == pytest.approx(p)
    assert row.weight == pytest.approx(strength / 3)
    assert row.prompt_ids == (1, 2, 0)
    assert row.responses[0].token_ids == tuple(b"other")
    assert dropped.total == 0


def test_what_stood_left_is_found_by_the_order_that_was_shown(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    for shown in ((one, other), (other, one)):
        side = "left" if shown[0] is one else "right"
        (row,), _ = rows(transcript, prefers(side, 2, *shown))
        assert row.responses[0].text == "one"


def test_provenance_names_judges_and_ratings(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    given = [prefers("left", 1, one, other, judge=name) for name in ("bob", "anna")]
    (row,), _ = rows(transcript, *given)
    origin = row.provenance
    assert origin.judges == ("anna", "bob")
    assert set(origin.rating_ids) == {each.id for each in given}
    assert (origin.question_id, origin.protocol) == ("q", "debate")
    assert origin.judgment_ids == ()


def test_several_judges_are_averaged_whichever_order_each_was_shown(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    given = [
        prefers("left", 3, one, other, judge="anna"),
        prefers("right", 3, other, one, judge="bob"),
        prefers("right", 3, one, other, judge="cy"),
    ]
    (row,), _ = rows(transcript, *given)
    assert row.responses[0].text == "one"
    assert row.soft_label == pytest.approx(2 / 3)


def test_judges_that_cancel_out_make_a_tie(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    given = [prefers("left", 2, one, other), prefers("right", 2, one, other, judge="bob")]
    (row,), _ = rows(transcript, *given)
    assert row.ranks == (0, 0)
    got, dropped = rows(transcript, *given, ties=False)
    assert got == []
    assert dropped.counts == {Reason.TIE: 1}


def test_only_the_last_revision_counts(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    given = [
        prefers("left", 3, one, other, revision=1),
        prefers("right", 3, one, other, revision=0),
    ]
    (row,), _ = rows(transcript, *given)
    assert row.responses[0].text == "one"
    assert row.provenance.rating_ids == (given[0].id,)


def test_both_bad_makes_no_row_and_is_counted(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    got, dropped = rows(transcript, says("both_bad", one, other))
    assert got == []
    assert dropped.counts == {Reason.BOTH_BAD: 1}


def test_who_calls_both_bad_does_not_silence_the_others(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    given = [says("both_bad", one, other), prefers("left", 2, one, other, judge="bob")]
    (row,), dropped = rows(transcript, *given)
    assert row.provenance.judges == ("bob",)
    assert dropped.counts == {Reason.BOTH_BAD: 1}


def test_slight_preferences_can_be_left_out(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    got, dropped = rows(transcript, prefers("left", 1, one, other), min_margin=0.3)
    assert got == []
    assert dropped.counts == {Reason.BELOW_MARGIN: 1}
    assert len(rows(transcript, prefers("left", 2, one, other), min_margin=0.3)[0]) == 1


def test_rows_of_one_prompt_share_its_weight_if_that_is_asked_for(candidates, rows):
    transcript, (one, two, three) = candidates("one", "two", "three")
    given = [prefers("left", 1, one, two), prefers("left", 1, two, three)]
    got, _ = rows(transcript, *given, weight="per_prompt")
    assert [row.weight for row in got] == [0.5, 0.5]


def test_responses_to_different_prompts_are_not_compared(candidates, rows):
    transcript, (one, other) = candidates("one", "other", prompts=["same", "other"])
    got, dropped = rows(transcript, prefers("left", 1, one, other))
    assert got == []
    assert dropped.counts == {Reason.NO_COMMON_PROMPT: 1}


def test_words_that_no_engine_sampled_make_no_row(debate, rows):
    made = debate().say(Seat.A, "one").say(Seat.A, "other", candidate=1, chosen=False).build()
    got, dropped = rows(made, prefers("left", 1, *made.turns))
    assert got == []
    assert dropped.counts == {Reason.NO_PROMPT: 1}


def test_the_truth_ranks_nothing_that_was_rated(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    got, dropped = rows(transcript, prefers("left", 1, one, other), label="truth")
    assert got == []
    assert dropped.counts == {Reason.NO_TRUTH: 1}


def test_only_the_judges_and_kinds_asked_for_count(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    given = [prefers("left", 1, one, other), prefers("right", 1, one, other, judge="bob")]
    (row,), _ = rows(transcript, *given, judges=("bob",))
    assert row.responses[0].text == "other"
    assert rows(transcript, *given, kinds=("principles",))[0] == []
    assert len(rows(transcript, *given, kinds=PreferenceSettings().kinds)[0]) == 1


# --- revisions -----------------------------------------------------------------


def test_a_better_revision_is_preferred_as_a_response_to_the_first_prompt(revised, rows, prompt_of):
    transcript, turns = revised()
    (row,), _ = rows(transcript, review(turns, "better"))
    assert row.kind == "revisions"
    assert [r.text for r in row.responses] == ["again", "first"]
    assert row.prompt == prompt_of(turns[0].samples[0].prompt_id).prompt
    assert row.soft_label == 1.0
    assert row.responses[0].token_ids == tuple(b"again")
    assert row.responses[0].logprobs is None, "they were given to another prompt"
    assert row.responses[1].logprobs is not None


def test_a_worse_revision_teaches_the_first_speech(revised, rows):
    transcript, turns = revised()
    (row,), _ = rows(transcript, review(turns, "worse", criticism="wrong"))
    assert [r.text for r in row.responses] == ["first", "again"]


def test_a_revision_that_is_as_good_is_a_tie(revised, rows):
    transcript, turns = revised()
    (row,), _ = rows(transcript, review(turns, "same"))
    assert row.ranks == (0, 0)


def test_judges_of_a_revision_are_averaged(revised, rows):
    transcript, turns = revised()
    given = [
        review(turns, outcome, judge=judge)
        for judge, outcome in [("anna", "better"), ("bob", "better"), ("cy", "worse")]
    ]
    (row,), _ = rows(transcript, *given)
    assert row.responses[0].text == "again"
    assert row.soft_label == pytest.approx(2 / 3)


def test_tokens_of_another_model_are_not_given_as_the_first_ones(revised, rows):
    transcript, turns = revised(model="another")
    (row,), _ = rows(transcript, review(turns, "better"))
    assert row.responses[0].token_ids is None
    assert row.responses[1].token_ids == tuple(b"first")


# --- principles ----------------------------------------------------------------


def test_a_total_is_the_mean_over_principles_that_apply_and_then_over_judges(candidates):
    _, (turn, _) = candidates("one", "other")
    assert total([by_rules(turn, a=5, b=3, c=None)]) == pytest.approx(0.75)
    assert total([by_rules(turn, a=1), by_rules(turn, judge="bob", a=5, b=5)]) == pytest.approx(0.5)
    assert total([by_rules(turn, a=None)]) is None


def test_candidates_that_were_scored_are_ranked_by_their_totals(candidates, rows):
    transcript, (one, two, three) = candidates("one", "two", "three")
    given = [by_rules(one, a=1, b=3), by_rules(two, a=5, b=5), by_rules(three, a=3, b=4)]
    (row,), _ = rows(transcript, *given, siblings="kwise", weight="margin")
    assert row.kind == "principles"
    assert [r.text for r in row.responses] == ["two", "three", "one"]
    assert [r.score for r in row.responses] == pytest.approx([1.0, 0.625, 0.25])
    assert row.weight == pytest.approx(0.75)
    assert row.provenance.constitution == "house"
    assert row.provenance.principle_ids == ("a", "b")
    assert row.provenance.judges == ("anna",)
    assert set(row.provenance.rating_ids) == {each.id for each in given}
    pairs, _ = rows(transcript, *given, siblings="all_pairs")
    assert [tuple(r.text for r in row.responses) for row in pairs] == [
        ("two", "three"),
        ("two", "one"),
        ("three", "one"),
    ]


def test_a_response_without_rated_siblings_is_counted(candidates, rows):
    transcript, (one, _) = candidates("one", "other")
    got, dropped = rows(transcript, by_rules(one, a=3))
    assert got == []
    assert dropped.counts == {Reason.ALONE: 1}


def test_scores_by_principles_that_read_otherwise_are_not_compared(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    answer = PrinciplesAnswer(constitution="house", fingerprint="other", scores={"a": 5})
    got, dropped = rows(transcript, by_rules(one, a=3), rating(answer, other))
    assert got == []
    assert dropped.counts == {Reason.ALONE: 2}


def test_a_response_to_which_no_principle_applies_has_no_score(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    got, dropped = rows(transcript, by_rules(one, a=3), by_rules(other, a=None))
    assert got == []
    assert dropped.counts[Reason.UNSCORED] == 1


def test_totals_too_near_together_are_left_out(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    got, dropped = rows(transcript, by_rules(one, a=3), by_rules(other, a=4), min_score_gap=0.5)
    assert got == []
    assert dropped.counts == {Reason.BELOW_MARGIN: 1}


# --- files -----------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["preference", "kwise"])
@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_rated_rows_are_exported_with_where_they_come_from(
    candidates, rows, tmp_path, layout, format
):
    import pyarrow.json as pa_json
    import pyarrow.parquet as pq

    transcript, (one, other) = candidates("one", "other")
    given = [prefers("left", 2, one, other), by_rules(one, a=3), by_rules(other, a=4)]
    got, _ = rows(transcript, *given)
    out = tmp_path / f"rows.{format}"
    assert export(got, out, format, layout).num_rows == 2
    table = pq.read_table(out) if format == "parquet" else pa_json.read_json(out)
    assert table["kind"].to_pylist() == ["pairs", "principles"]
    assert table["rating_ids"].to_pylist()[0] == [given[0].id]
    assert table["principle_ids"].to_pylist() == [[], ["a"]]
    assert table["constitution"].to_pylist() == [None, "house"]


def test_ids_of_rows_that_no_rating_made_stay_what_they_were(debate, beliefs, prompt_of):
    made = debate().say(Seat.A, "kitchen").say(Seat.B, "attic").judge(beliefs(0.8)).build()
    (row,) = preferences([made], PreferenceSettings(), prompt_of)
    written = row.provenance.model_dump()
    assert not {"rating_ids", "principle_ids", "constitution"} & written.keys()


def test_a_record_refuses_what_is_no_answer():
    with pytest.raises(ValueError, match="strength=None"):
        PairAnswer(preferred="left")
    with pytest.raises(ValueError, match="strength=2"):
        PairAnswer(preferred="tie", strength=2)
    with pytest.raises(ValueError, match=r"scores.a = 6 is not among 1 to 5"):
        PrinciplesAnswer(constitution="house", fingerprint="f", scores={"a": 6})
