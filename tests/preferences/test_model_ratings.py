"""Rows from what models rated: probabilities in both orders, beside people, by principles."""

from __future__ import annotations

import pytest

from oversight.errors import DataError
from oversight.preferences.ratings import total
from oversight.preferences.settings import PreferenceSettings, Reason
from oversight.types import (
    Task,
)
from oversight.types.ratings import SCORES
from tests.preferences.rated import SPEC, both_orders, by_model, by_rules, prefers, soft


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


def test_a_models_probabilities_are_clamped_under_each_principle(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    given = [
        *both_orders(0.99, 0.01, one, other, principle="kind"),
        *both_orders(0.45, 0.55, one, other, principle="plain"),
    ]
    (row,), _ = rows(transcript, *given, clamp=0.6)
    assert row.soft_label == pytest.approx((0.6 + 0.45) / 2)


def test_what_a_person_said_is_not_clamped(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    (row,), _ = rows(transcript, prefers("left", 3, one, other), clamp=0.6)
    assert row.soft_label == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("weights", "p"),
    [
        ({"persons": 3.0}, (3 * 0.0 + 0.6) / 4),
        ({"models": 2.0, "anna": 0.5}, (0.5 * 0.0 + 2 * 0.6) / 2.5),
        ({"rater (m)": 9.0, "models": 0.1}, 9 * 0.6 / 10),
    ],
)
def test_raters_are_mixed_by_their_weights(candidates, rows, weights, p):
    transcript, (one, other) = candidates("one", "other")
    given = [prefers("right", 3, one, other), *both_orders(0.6, 0.4, one, other)]
    (row,), _ = rows(transcript, *given, rater_weights=weights)
    better = "one" if p >= 0.5 else "other"
    assert row.responses[0].text == better
    assert row.soft_label == pytest.approx(max(p, 1 - p))


def test_scores_by_principles_are_mixed_by_the_weights_too(candidates):
    _, (one, _) = candidates("one", "other")

    model = by_model(
        Task.PRINCIPLES,
        {"kind": soft(SCORES, (1.0, 0.0, 0.0, 0.0, 0.0, 0.0))},
        one,
        rules="house",
    )
    person = by_rules(one, kind=5)
    weights = PreferenceSettings(rater_weights={"persons": 3.0})

    assert total([model, person], weights.weight_of) == pytest.approx(((3 * 5 + 1) / 4 - 1) / 4)


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_a_weight_is_more_than_nothing(weight):
    with pytest.raises(ValueError, match="a weight is more than 0"):
        PreferenceSettings(rater_weights={"persons": weight})


def test_a_weight_of_nobody_is_refused_with_the_nearest_name(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    with pytest.raises(DataError, match=r"nobody of that name.*Did you mean 'anna'"):
        rows(transcript, prefers("right", 3, one, other), rater_weights={"anne": 2.0})
