"""A circle's results do not depend on the name of its folder, nor on where it is gone on with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oversight.experiments.selfplay.running import run
from oversight.experiments.selfplay.settings import CircleSettings
from oversight.experiments.workers import JobsProgress

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

KILLED_AFTER = ("expert_iteration.debate.0.1", "reward.debate.0")
"""Pieces after whose end processes are killed, while they work on others: SFT and PPO of models
that stand in the circle's folder."""


class Killed(Exception):
    """Ends a circle, and its processes with SIGKILL."""


@pytest.fixture
def small(circle: CircleSettings) -> CircleSettings:
    """Every kind of piece that takes up what another has made, each as short as can be."""
    short = {"steps": 2, "batch_size": 8}
    changes = {
        "arenas": ("debate",),
        "methods": ("expert_iteration", "ppo"),
        "seeds": (0,),
        "train_questions": 16,
        "held_out_questions": 8,
        "crossplay_questions": 4,
        **dict.fromkeys(("sft", "ppo", "reward"), short),
    }
    return CircleSettings.model_validate(circle.model_dump() | changes)


def named(circle: CircleSettings, out: Path) -> CircleSettings:
    return circle.model_copy(update={"out": out})


def killed_after(circle: CircleSettings, piece: str) -> None:
    def report(progress: JobsProgress) -> None:
        if progress.finished and progress.finished[0] == piece:
            raise Killed

    with pytest.raises(Killed):
        run(circle, report)


def without_times(results: dict) -> dict:
    return {name: {**each, "seconds": 0} for name, each in results.items()}


def test_a_circle_killed_moved_and_gone_on_with_comes_to_what_one_of_another_name_does(
    small, tmp_path, monkeypatch
):
    whole = tmp_path / "reference"
    wanted = run(named(small, whole))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    place = Path("k0")
    for number, piece in enumerate(KILLED_AFTER, start=1):
        killed_after(named(small, place), piece)
        place = place.rename(f"k{number}")
    moved = place.rename(tmp_path / "moved")
    os.chdir(tmp_path)
    found = run(named(small, moved))
    assert without_times(found) == without_times(wanted)
    models = sorted(whole.glob("stages/*/model/model.safetensors"))
    assert len(models) == 4
    for model in models:
        assert model.read_bytes() == (moved / model.relative_to(whole)).read_bytes(), model
