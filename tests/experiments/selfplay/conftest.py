"""A circle over a few plain questions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from oversight.experiments.selfplay.settings import CircleSettings


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """As the processes of a circle compute, so that numbers are theirs to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def recipe(root: Path) -> Path:
    return root / "recipes" / "closed_circle.toml"


@pytest.fixture
def circle(tmp_path: Path) -> CircleSettings:
    """Both arenas, all methods, two seeds; small."""
    return CircleSettings.model_validate(
        {
            "out": tmp_path / "circle",
            "dataset": {
                "dataset": "world",
                "settings": {"difficulty": 1, "telling": "plain"},
            },
            "train_questions": 40,
            "held_out_questions": 12,
            "crossplay_questions": 4,
            "seeds": (0, 1),
            "iterations": 2,
        }
    )
