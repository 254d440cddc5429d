"""The stage of graphs that are served by LangGraph's own server.

OVERSIGHT_STORE names the store (default oversight.db), OVERSIGHT_RECIPE a run's
TOML file whose agents and engines take part (default: the embedded agents).
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from oversight.config.recipe import load_recipe
from oversight.config.run import EMBEDDED_AGENTS, RunSettings
from oversight.graphs.casting import cast
from oversight.graphs.stage import Stage
from oversight.store import Store


@cache
def served_stage() -> Stage:
    """The one stage of this process."""
    recipe = os.environ.get("OVERSIGHT_RECIPE")
    store = Store.open(os.environ.get("OVERSIGHT_STORE", "oversight.db"))
    if recipe is None:
        return Stage(store, cast(EMBEDDED_AGENTS, {}))
    settings = load_recipe(RunSettings, Path(recipe), {})
    return Stage(store, cast(settings.cast(), settings.engines))
