"""The experiment on whose values a reward model learns: its parts, and its finding in small."""

from pathlib import Path

import numpy as np
import pytest

from oversight.config import load_recipe
from oversight.errors import ConfigError
from oversight.experiments.whose_values import (
    QUICK,
    GroupValues,
    WhoseValuesSettings,
    as_text,
    maximin,
    run,
    scaled,
    tables,
    votes_of,
)

SMALL = WhoseValuesSettings(seeds=(0,), pairs=1200, questions=120, steps=150, hidden=32)


def test_the_first_two_groups_want_opposite_things_and_quality_is_common():
    values = GroupValues.drawn(SMALL, np.random.default_rng(0))
    own_GD = values.linear_GD[:, 1:]
    assert own_GD[0] @ own_GD[1] < 0
    assert (values.linear_GD[:, 0] == 1.0).all()
    assert np.ptp(values.alike().linear_GD, axis=0) == pytest.approx(0.0)


def test_every_judge_votes_once_and_shuffling_moves_groups_alone():
    values = GroupValues.drawn(SMALL, np.random.default_rng(0))
    told = votes_of(values, SMALL, np.random.default_rng(1), shuffled=False)
    moved = votes_of(values, SMALL, np.random.default_rng(1), shuffled=True)
    assert (told.given_NG.sum(1) == SMALL.judges).all()
    assert (told.for_first_NG <= told.given_NG).all()
    assert (told.for_first_NG.sum(1) == moved.for_first_NG.sum(1)).all()
    assert (told.given_NG != moved.given_NG).any()


def test_maximin_takes_what_no_group_finds_worst():
    worths = np.array([[[0.0, 10.0], [10.0, 0.0], [6.0, 5.0]]])
    assert scaled(worths)[0, 2] == pytest.approx([0.6, 0.5])
    assert maximin(worths).tolist() == [2]


def test_heads_help_the_worst_off_group_only_where_groups_are_known_and_differ():
    results = run(SMALL)
    rows = {(row.world, row.method): row for row in results.regrets}
    differ = "groups differ"
    worst = {method: row.worst.value for (world, method), row in rows.items() if world == differ}
    gains = {(world, method): gain for world, method, gain in results.gains}
    assert worst["heads"] < worst["heads, shuffled"] - 0.05
    assert worst["heads"] < worst["majority"] - 0.05
    assert gains[differ, "heads"].low > max(0.0, gains[differ, "heads, shuffled"].value)
    assert abs(gains["groups alike", "heads"].value) < 0.02
    text = as_text(tables(results, SMALL))
    assert "group of 10%" in text
    assert text.count("heads, shuffled") == 4


def test_the_recipe_is_the_experiment_with_its_defaults():
    recipe = Path(__file__).parents[3] / "recipes" / "panels" / "whose_values.toml"
    assert load_recipe(WhoseValuesSettings, recipe, {}) == WhoseValuesSettings()
    assert len(load_recipe(WhoseValuesSettings, recipe, QUICK).seeds) == 2


def test_sizes_are_shares():
    with pytest.raises(ConfigError, match="shares above 0 that sum to 1"):
        WhoseValuesSettings.parse({"sizes": (0.5, 0.6)})
