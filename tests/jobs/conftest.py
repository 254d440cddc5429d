"""A chat model's folder, and vLLM if there is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oversight.cli import main
from tests.jobs.waves import content, write_recipe
from tests.train.conftest import chat_model, engine_models, vllm_python

__all__ = ["chat_model", "engine_models", "vllm_python"]


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: write_recipe(tmp_path, name)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Turns that a run with engines, rather than files, has stored."""
    path = write_recipe(tmp_path_factory.mktemp("live"), "live")
    assert main.run(["critique", str(path)]) == 0
    return content(path.with_suffix(".db"))
