"""Rows from what people rated: worked by hand, through several judges, revisions and oddities."""

from __future__ import annotations

from dataclasses import replace

import pytest

from oversight.preferences.building import preferences
from oversight.preferences.export import export
from oversight.preferences.ratings import total
from oversight.preferences.settings import Dropped, PreferenceSettings, Reason
from oversight.types import (
    Act,
    AgentSpec,
    Belief,
    BeliefMethod,
    EngineSpec,
    Feedback,
    JudgeKind,
    ModelAnswer,
    PairAnswer,
    PrinciplesAnswer,
    PrinciplesApplied,
    RevisionAnswer,
    Seat,
    SoftAnswer,
    Task,
    Verdict,
)
from oversight.types.ratings import item_id

RATED = ("pairs", "principles", "revisions")


@pytest.fixture
def rows(prompt_of):
    def run(transcript, *ratings, **settings):
        dropped = Dropped()
        rated = replace(transcript, ratings=ratings)
        given = PreferenceSettings(**({"kinds": RATED} | settings))
        return list(preferences([rated], given, prompt_of, dropped)), dropped

    return run


@pytest.fixture
def candidates(debate, sampled):
    """A transcript with candidates of one turn, and their turns."""

    def make(*texts, prompts=None):
        made = debate()
        for number, text in enumerate(texts):
            prompt = (prompts or ["same"] * len(texts))[number]
            made.say(Seat.A, text, sampled(text, prompt), candidate=number, chosen=number == 0)
        transcript = made.build()
        return transcript, transcript.turns

    return make


def rating(answer, *turns, judge="anna", revision=0, **changes):
    ids = tuple(turn.id for turn in turns)
    given = {"constitution": answer.constitution} if answer.task is Task.PRINCIPLES else {}
    item = item_id(answer.task, ids, **given)
    return Feedback(
        debate_id=turns[0].debate_id,
        item=item,
        turn_ids=ids,
        judge=judge,
        revision=revision,
        answer=answer,
        **changes,
    )


def prefers(side, strength, left, right, **changes):
    return rating(PairAnswer(preferred=side, strength=strength), left, right, **changes)


def says(preferred, left, right, **changes):
    return rating(PairAnswer(preferred=preferred), left, right, **changes)


SPEC = AgentSpec(agent="rater", engine=EngineSpec(engine="scripted"))


def soft(values, probs):
    verdict = Verdict.INVALID if probs is None else Verdict.DECIDED
    belief = Belief(verdict=verdict, method=BeliefMethod.LOGPROBS, probs=probs)
    return SoftAnswer(values=values, listing=range(len(values)), belief=belief)


def by_model(task, answers, *turns, principle=None, swapped=False, rules="", spec=SPEC):
    """What a model said of turns as they were shown, under a principle or a set of them."""
    ids = tuple(turn.id for turn in turns)
    named = [principle] if principle else [*answers] if rules else []
    asked = (
        PrinciplesApplied(
            constitution=rules or "house", fingerprint="f", principles=dict.fromkeys(named, "text")
        )
        if named
        else None
    )
    return Feedback(
        debate_id=turns[0].debate_id,
        item=item_id(task, ids, rules),
        turn_ids=ids,
        judge="rater (m)",
        kind=JudgeKind.MODEL,
        agent=spec,
        under=asked,
        swapped=swapped,
        answer=ModelAnswer(task=task, answers=answers),
    )


def compares(p_first, one, other, **changes):
    probs = None if p_first is None else (p_first, 1 - p_first)
    answers = {"preferred": soft(("left", "right"), probs)}
    return by_model(Task.PAIRS, answers, one, other, **changes)


def both_orders(p_drawn, p_swapped, one, other, **changes):
    """The probability of what stands first, in the drawn order and in the swapped one."""
    return [
        compares(p_drawn, one, other, **changes),
        compares(p_swapped, other, one, swapped=True, **changes),
    ]


def by_rules(turn, judge="anna", **scores):
    scores = {name.replace("_", "-"): score for name, score in scores.items()}
    answer = PrinciplesAnswer(constitution="house", fingerprint="f", scores=scores)
    return rating(answer, turn, judge=judge)


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


@pytest.fixture
def revised(debate, sampled):
    def make(**changes):
        made = debate().say(Seat.A, "first", sampled("first"), step=0)
        made.say(Seat.B, "wrong", sampled("wrong", "other"), step=1, act=Act.CRITIQUE)
        made.say(Seat.A, "again", sampled("again", "other", **changes), step=2, act=Act.REVISE)
        transcript = made.build()
        return transcript, transcript.turns

    return make


def review(turns, revision, criticism="right", **changes):
    return rating(RevisionAnswer(criticism=criticism, revision=revision), *turns, **changes)


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


# --- what models said ----------------------------------------------------------


def test_a_models_probability_is_the_soft_label_its_two_orders_averaged(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    (row,), dropped = rows(transcript, *both_orders(0.9, 0.3, one, other), weight="margin")
    assert [r.text for r in row.responses] == ["one", "other"]
    assert row.soft_label == pytest.approx((0.9 + 0.7) / 2)
    assert row.weight == pytest.approx(0.6)
    assert row.provenance.judges == ("rater (m)",)
    assert len(row.provenance.rating_ids) == 2
    assert dropped.total == 0


def test_a_model_that_always_prefers_the_first_makes_a_tie(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    (row,), _ = rows(transcript, *both_orders(0.8, 0.8, one, other))
    assert row.ranks == (0, 0)
    assert row.soft_label == pytest.approx(0.5)


def test_an_order_that_cannot_be_read_silences_the_other(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    found, dropped = rows(transcript, *both_orders(0.9, None, one, other))
    assert found == []
    assert dropped.counts == {Reason.INVALID: 1}


def test_principles_that_were_asked_under_are_averaged_and_named(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    given = [
        *both_orders(0.9, 0.1, one, other, principle="kind"),
        *both_orders(0.5, 0.5, one, other, principle="plain"),
        *both_orders(0.9, None, one, other, principle="brief"),
    ]
    (row,), dropped = rows(transcript, *given)
    assert row.soft_label == pytest.approx((0.9 + 0.5) / 2)
    assert row.provenance.constitution == "house"
    assert set(row.provenance.principle_ids) == {"kind", "plain", "brief"}
    assert dropped.total == 0


def test_a_person_and_a_model_have_one_vote_each(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    given = [prefers("right", 3, one, other), *both_orders(0.6, 0.4, one, other)]
    (row,), _ = rows(transcript, *given)
    assert [r.text for r in row.responses] == ["other", "one"]
    assert row.soft_label == pytest.approx((1.0 + 0.4) / 2)
    assert row.provenance.judges == ("anna", "rater (m)")


@pytest.mark.parametrize(
    ("raters", "better", "p"), [("persons", "other", 1.0), ("models", "one", 0.6)]
)
def test_rows_are_made_of_persons_or_of_models_alone(candidates, rows, raters, better, p):
    transcript, (one, other) = candidates("one", "other")
    given = [prefers("right", 3, one, other), *both_orders(0.6, 0.4, one, other)]
    (row,), _ = rows(transcript, *given, raters=raters)
    assert row.responses[0].text == better
    assert row.soft_label == pytest.approx(p)


def test_two_settings_of_one_model_are_two_raters(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    colder = SPEC.model_copy(update={"settings": {"temperature": 0.0}})
    given = [
        *both_orders(1.0, 0.0, one, other),
        *both_orders(0.0, 1.0, one, other, spec=colder),
        prefers("left", 3, one, other),
    ]
    (row,), _ = rows(transcript, *given)
    assert row.soft_label == pytest.approx(2 / 3)


def test_a_models_word_on_a_revision_is_read_in_both_orders(revised, rows):
    transcript, turns = revised()
    answers = {"criticism": soft(("right", "partly", "wrong"), (1.0, 0.0, 0.0))}
    given = [
        by_model(
            Task.REVISIONS,
            answers | {"revision": soft(("better", "worse"), (p, 1 - p))},
            *(turns[::-1] if swapped else turns),
            swapped=swapped,
        )
        for swapped, p in ((False, 0.3), (True, 0.9))
    ]
    (row,), _ = rows(transcript, *given)
    assert row.responses[0].turn_id == turns[2].id
    assert row.soft_label == pytest.approx(0.6)


def test_settings_of_rows_stay_what_they_were_unless_raters_are_chosen():
    assert "raters" not in PreferenceSettings().model_dump()
    assert PreferenceSettings(raters="models").model_dump()["raters"] == "models"


VALUES = ("1", "2", "3", "4", "5", "none")


def scored(turn, swapped=False, **probs):
    answers = {name: soft(VALUES, p) for name, p in probs.items()}
    return by_model(Task.PRINCIPLES, answers, turn, rules="house", swapped=swapped)


def at(score):
    return tuple(float(value == str(score)) for value in VALUES)


def test_a_models_scores_are_those_that_it_expects_in_both_orders(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    even = (0.0, 0.0, 0.0, 0.5, 0.5, 0.0)
    given = [
        *(scored(one, swapped, a=even, b=at("none")) for swapped in (False, True)),
        scored(other, a=at(1), b=at("none")),
        scored(other, swapped=True, a=at(3), b=at("none")),
    ]
    (row,), _ = rows(transcript, *given)
    assert [r.text for r in row.responses] == ["one", "other"]
    assert [r.score for r in row.responses] == pytest.approx([3.5 / 4, 1 / 4])
    assert row.provenance.principle_ids == ("a", "b")


def test_a_score_that_cannot_be_read_in_one_order_is_left_out(candidates):
    _, (one, _) = candidates("one", "other")
    given = [scored(one, a=at(5), b=at(1)), scored(one, swapped=True, a=None, b=at(1))]
    assert total(given) == 0.0


def test_a_model_and_a_person_who_scored_by_the_same_principles_are_averaged(candidates):
    _, (one, _) = candidates("one", "other")
    given = [by_rules(one, a=5), scored(one, a=at(1)), scored(one, swapped=True, a=at(1))]
    assert total(given) == pytest.approx(0.5)
