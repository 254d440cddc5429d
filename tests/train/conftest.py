"""Fixtures of `tests/modeling`, a chat model's folder, and an interpreter with vLLM."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.modeling.conftest import random_lm, rows

__all__ = ["random_lm", "rows"]


@pytest.fixture(scope="session")
def engine_models(root: Path) -> ModuleType:
    """The module with which the engines' tests make their models."""
    place = root / "tests" / "engines" / "conftest.py"
    spec = importlib.util.spec_from_file_location("engine_models", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def chat_model(engine_models: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random-weight chat model (Llama, 0.1 M parameters, float32)."""
    folder: Path = engine_models.make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
    return folder


@pytest.fixture(scope="session")
def vllm_python(engine_models: ModuleType, root: Path) -> str:
    """An interpreter that has vLLM; tests that need it skip where there is none."""
    python: str = engine_models.vllm_python.__wrapped__(root)
    return python
