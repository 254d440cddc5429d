"""Several judges' words as one row: by majority, and over groups, with what becomes no row."""

import pytest
from pydantic import ValidationError

from oversight.errors import ConfigError
from oversight.preferences.building import preferences, rows_of
from oversight.preferences.layouts import kwise_row, pair_row
from oversight.preferences.settings import Dropped, PreferenceSettings, Reason
from oversight.types import Seat
from tests.preferences.rated import both_orders, by_rules, prefers

GROUPS = {"ann": "nurses", "ben": "nurses", "cleo": "patients"}


@pytest.fixture
def sides(debate, beliefs, prompt_of):
    """Rows of the openings of one debate, which each named judge believes by so much."""

    def run(settings, **judges):
        made = debate().say(Seat.A, "kitchen").say(Seat.B, "attic")
        for name, p in judges.items():
            made = made.judge(beliefs(p), name=name)
        dropped = Dropped()
        got = list(preferences([made.build()], PreferenceSettings(**settings), prompt_of, dropped))
        return got, dropped

    return run


@pytest.mark.parametrize(
    ("combine", "p"),
    [
        ("mean", (0.9 + 0.7 + 0.2) / 3),
        ("majority", 2 / 3),
        ("weighted", (0.8 + 0.2) / 2),
        ("maximin", 0.2 / (0.2 + 0.2)),
        ("nash", 0.8 * 0.2 / (0.8 * 0.2 + 0.2 * 0.8)),
        ("bridging", (2.6 / 4 * 1.2 / 3) / (2.6 / 4 * 1.2 / 3 + 1.4 / 4 * 1.8 / 3)),
    ],
)
def test_a_row_is_made_of_judges_by_the_rule(sides, combine, p):
    settings = {"combine": combine, "groups": GROUPS}
    (row,), dropped = sides(settings, ann=0.9, ben=0.7, cleo=0.2)
    assert row.soft_label == pytest.approx(max(p, 1 - p))
    assert row.responses[0].text == ("kitchen" if p >= 0.5 - 1e-9 else "attic")
    assert (row.ranks == (0, 0)) == (abs(p - 0.5) < 1e-9)
    assert dropped.total == 0


def test_a_row_over_groups_names_those_judges_alone_that_count(sides):
    settings = {"combine": "nash", "groups": GROUPS}
    (row,), _ = sides(settings, ann=0.9, cleo=0.4, stranger=0.1)
    assert row.provenance.judges == ("ann", "cleo")
    assert row.soft_label == pytest.approx(0.36 / (0.36 + 0.06))


def test_an_item_without_a_groups_word_makes_no_row(sides):
    settings = {"combine": "maximin", "groups": GROUPS}
    got, dropped = sides(settings, ann=0.9, ben=0.8)
    assert (got, dropped.counts) == ([], {Reason.MISSING_GROUP: 1})
    got, dropped = sides(settings | {"min_group": 2}, ann=0.9, ben=0.8, cleo=0.9)
    assert (got, dropped.counts) == ([], {Reason.MISSING_GROUP: 1})


def test_groups_that_are_certain_of_opposite_things_make_no_row(sides):
    got, dropped = sides({"combine": "nash", "groups": GROUPS}, ann=1.0, cleo=0.0)
    assert (got, dropped.counts) == ([], {Reason.CONTRADICTING: 1})
    (row,), _ = sides({"combine": "weighted", "groups": GROUPS}, ann=1.0, cleo=0.0)
    assert row.soft_label == 0.5


def test_people_and_models_are_groups_that_raters_fall_in(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    given = [prefers("right", 1, one, other), *both_orders(0.9, 0.1, one, other)]
    groups = {"persons": "people", "models": "models"}
    (row,), dropped = rows(transcript, *given, combine="maximin", groups=groups)
    person = 0.5 - 1 / 6
    assert row.responses[0].text == "one"
    assert row.soft_label == pytest.approx(person / (person + 0.1))
    assert dropped.total == 0


def test_rules_over_groups_take_two_groups(debate, prompt_of):
    with pytest.raises(ConfigError, match="combine = 'maximin' is over two groups or more"):
        rows_of([], prompt_of, combine="maximin", groups={"ann": "nurses"})
    with pytest.raises(ValidationError):
        PreferenceSettings(combine="median")


def test_settings_without_groups_are_written_as_before():
    assert (
        not {"combine", "groups", "min_group", "margin"} & PreferenceSettings().model_dump().keys()
    )


def test_a_row_says_by_how_much_its_winner_should_lead(sides):
    (row,), _ = sides({"combine": "majority", "margin": 3.0}, ann=0.9, ben=0.7, cleo=0.2)
    assert row.margin == pytest.approx(3.0 * (2 * (2 / 3) - 1))
    (row,), _ = sides({"combine": "majority"}, ann=0.9, ben=0.7, cleo=0.2)
    assert row.margin is None
    assert "margin" not in row.model_dump()


def test_a_pair_of_ratings_has_a_margin_and_a_ranking_of_more_has_none(candidates, rows):
    transcript, (one, other) = candidates("one", "other")
    said = [prefers("left", 3, one, other, judge=name) for name in ("ann", "ben")]
    (row,), _ = rows(transcript, *said, prefers("right", 3, one, other), margin=2.0)
    assert row.margin == pytest.approx(2.0 * (2 * (2 / 3) - 1))
    transcript, turns = candidates("one", "two", "three")
    scored = [by_rules(turn, kind=score) for turn, score in zip(turns, (1, 3, 5), strict=True)]
    settings = {"siblings": "kwise", "margin": 2.0}
    (whole,), _ = rows(transcript, *scored, **settings)
    assert (len(whole.responses), whole.margin) == (3, None)
    (best,), _ = rows(transcript, *scored, margin=2.0)
    assert best.margin == pytest.approx(2.0)


def test_margins_reach_both_layouts_and_turn_with_the_pair(sides):
    (row,), _ = sides({"margin": 1.0}, ann=0.9)
    turned = row.model_copy(update={"ranks": (1, 0)})
    assert pair_row(row)["margin"] == pytest.approx(0.8)
    assert pair_row(turned)["margin"] == pytest.approx(-0.8)
    assert kwise_row(row)["margin"] == pytest.approx(0.8)
