"""Every recipe of the repository is a run that can be started."""

from __future__ import annotations

from pathlib import Path

import pytest

from oversight import protocols, registry
from oversight.config.recipe import load_recipe
from oversight.config.run import RunSettings

RECIPES = sorted(Path(__file__).parent.parent.glob("recipes/*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_names_only_what_there_is(path: Path) -> None:
    settings = load_recipe(RunSettings, path, {})
    for name in settings.protocols:
        protocols.load(name)
    assert settings.dataset.dataset in registry.names("datasets")
    for role, actor in settings.cast().items():
        assert role in registry.load("agents", actor.agent).ROLES
        assert actor.engine is None or actor.engine in settings.engines
    for engine in settings.engines.values():
        registry.load("engines", engine.engine).Config.parse(engine.settings)
    described = path.read_text().splitlines()[0]
    assert described.startswith("# "), "a recipe begins by saying what it is for"


def test_there_are_recipes() -> None:
    assert RECIPES
