"""The experiment on whose values a reward model learns: its parts, and its finding in small."""

from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from oversight.config import load_recipe
from oversight.errors import ConfigError
from oversight.experiments.judged_texts import (
    ASPECTS,
    LEVELS,
    GroupValues,
    HeldOut,
    compared,
    drawn_words,
    maximin,
    scaled,
    text_of,
)
from oversight.experiments.whose_values import (
    ALIKE,
    DIFFER,
    METHODS,
    QUICK,
    Method,
    WhoseValuesSettings,
    as_text,
    main,
    rows_of_ratings,
    run,
    trained,
    whose_values_tables,
)

SMALL = WhoseValuesSettings(seeds=(0,), pairs=600, questions=100, reward={"steps": 40})
BY_NAME = {method.name: method for method in METHODS}


@pytest.fixture(scope="module")
def values():
    return GroupValues.drawn(3, np.random.default_rng(0))


@pytest.fixture(scope="module")
def rated(values):
    return list(compared(values, SMALL.groups, 120, SMALL.judges, (0,)))


def test_the_first_two_groups_want_opposite_things_and_quality_is_common(values):
    own = values.table_GKL[:, 1:].reshape(3, -1)
    assert own[0] @ own[1] < 0
    assert (values.table_GKL[:, 0] == LEVELS).all()
    assert np.ptp(values.alike().table_GKL, axis=0) == pytest.approx(0.0)


def test_worths_are_of_words_whatever_their_order(values):
    rng = np.random.default_rng(0)
    words = drawn_words((50,), rng)
    by_hand = [
        sum(values.table_GKL[1, aspect, word] for aspect, word in enumerate(each))
        + values.product_G[1] * LEVELS[each[1]] * LEVELS[each[2]]
        for each in words
    ]
    assert values.worths(words)[:, 1] == pytest.approx(by_hand)
    told = text_of(words[0], rng).split()
    assert sorted(told) == sorted(ASPECTS[a][w] for a, w in enumerate(words[0]))


def test_people_are_for_what_their_group_values_and_shuffling_moves_names_alone(values):
    moved = list(compared(values, SMALL.groups, 120, SMALL.judges, (0,), shuffled=True))
    told = list(compared(values, SMALL.groups, 120, SMALL.judges, (0,)))

    def said(transcript):
        return {each.judge: each.answer.preferred for each in transcript.ratings}

    assert all(sorted(said(a)) == sorted(said(b)) for a, b in zip(told, moved, strict=True))
    assert all(
        sorted(said(a).values()) == sorted(said(b).values())
        for a, b in zip(told, moved, strict=True)
    )
    assert any(said(a) != said(b) for a, b in zip(told, moved, strict=True))
    assert [t.turns[0].text for t in told] == [t.turns[0].text for t in moved]


def test_rows_are_made_of_ratings_as_each_method_says(rated):
    plain = rows_of_ratings(rated, BY_NAME["majority"], SMALL, None)
    soft = rows_of_ratings(rated, BY_NAME["soft labels"], SMALL, None)
    assert len(plain) < len(soft) == 120
    assert all(row.ranks == (0, 1) and row.weight == 1.0 and row.margin is None for row in plain)
    weighted = rows_of_ratings(rated, BY_NAME["majority, weighted"], SMALL, None)
    assert [row.weight for row in weighted] == pytest.approx([2 * r.soft_label - 1 for r in plain])
    apart = rows_of_ratings(rated, BY_NAME["majority, margins"], SMALL, None)
    assert [row.margin for row in apart] == pytest.approx(
        [SMALL.margin * (2 * row.soft_label - 1) for row in plain]
    )
    own = rows_of_ratings(rated, BY_NAME["a model a group"], SMALL, 2)
    assert {name for row in own for name in row.provenance.judges} == {"person 3.1", "person 3.2"}


def test_maximin_takes_what_no_group_finds_worst():
    worths = np.array([[[0.0, 10.0], [10.0, 0.0], [6.0, 5.0]]])
    assert scaled(worths)[0, 2] == pytest.approx([0.6, 0.5])
    assert maximin(worths).tolist() == [2]


def test_held_out_questions_have_different_responses(values):
    held_out = HeldOut.drawn(values, 30, 5, (0, 1))
    assert held_out.worths_QAG.shape == (30, 5, 3)
    assert all(len({r.text for r in row.responses}) == 5 for row in held_out.rows)


def test_our_trainer_makes_the_models_and_a_finished_one_is_found_again(rated, tmp_path):
    method = Method("majority", {"combine": "majority", "ties": False})
    (model,) = trained(rated, method, SMALL, tmp_path / "m", 0)
    before = {path: path.stat().st_mtime_ns for path in model.iterdir()}
    assert (model / "config.json").is_file()
    assert trained(rated, method, SMALL, tmp_path / "m", 0) == [model]
    assert {path: path.stat().st_mtime_ns for path in model.iterdir()} == before


TINY = """
seeds = [4]
groups = [2, 2]
judges = 3
pairs = 90
questions = 12
[reward]
steps = 2
batch_size = 8
"""


def test_the_script_prints_its_figures_under_what_made_them(tmp_path):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(TINY, encoding="utf-8")
    app = typer.Typer()
    app.command()(main)
    told = CliRunner().invoke(app, [str(recipe), "--out", str(tmp_path / "models")])
    assert told.exit_code == 0, told.output
    assert "seeds     4\n" in told.stdout
    for method in METHODS:
        assert told.stdout.count(f"  {method.name}  ") >= len(method.worlds)
    assert all(f"group of {share}" in told.stdout for share in ("50%",))
    models = list((tmp_path / "models").glob("seed-4/*/**/model"))
    assert len(models) == 8 + 4
    wrong = CliRunner().invoke(app, [str(tmp_path / "none.toml")])
    assert wrong.exit_code == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_models_of_groups_help_the_worst_off_only_where_groups_are_known_and_differ(tmp_path):
    larger = {"pairs": 1800, "questions": 200, "reward": {"steps": 90}}
    settings = SMALL.model_copy(update=larger)
    results = run(settings, tmp_path)
    rows = {(row.world, row.method): row for row in results.regrets}
    worst = {name: row.worst.value for (world, name), row in rows.items() if world == DIFFER}
    gains = {(world, method): gain for world, method, gain in results.gains}
    assert worst["a model a group"] < worst["majority"] - 0.05
    assert worst["a model a group"] < worst["a model a group, shuffled"] - 0.03
    assert worst["known values"] < worst["majority"] < worst["random"]
    assert gains[DIFFER, "a model a group"].low > 0.0
    assert abs(gains[ALIKE, "a model a group"].value) < 0.08
    leads = {each.method: each for each in results.leads}
    assert all(each.agreed.value > each.contested.value for each in leads.values())
    assert leads["majority, margins"].agreed.value > leads["majority"].agreed.value
    assert leads["soft labels"].agreed.value < leads["majority"].agreed.value
    text = as_text(whose_values_tables(results, settings))
    assert "group of 10%" in text
    assert text.count("a model a group, shuffled") == 2


def test_the_recipe_is_the_experiment_with_its_defaults():
    recipe = Path(__file__).parents[3] / "recipes" / "panels" / "whose_values.toml"
    told = {"steps": 100, "batch_size": 64}
    assert load_recipe(WhoseValuesSettings, recipe, {}) == WhoseValuesSettings(reward=told)
    assert load_recipe(WhoseValuesSettings, recipe, QUICK).seeds == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": (12, 1)}, "one person is no group"),
        ({"groups": (2, 2), "judges": 5}, "there are 4 people in all groups"),
    ],
)
def test_groups_and_judges_that_cannot_be_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        WhoseValuesSettings.parse(change)


def test_a_trainer_setting_that_is_wrong_is_named_before_anything_is_made(tmp_path):
    wrong = SMALL.model_copy(update={"reward": {"stepz": 3}})
    with pytest.raises(ConfigError, match=r"reward\.stepz"):
        run(wrong, tmp_path)
    assert not list(tmp_path.iterdir())
