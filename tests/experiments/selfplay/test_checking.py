"""Faults of a circle are reported before its first piece begins."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from oversight.cli.main import run as command
from oversight.errors import ConfigError, DataError, OversightError, UnknownNameError
from oversight.experiments.selfplay.running import check, run
from oversight.models import resolve

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "ppo": ({"ppo": {"steps": -1}}, r"ppo\.steps = -1: Input should be greater than or equal to 1"),
    "sft": ({"sft": {"batch_size": 0}}, r"sft\.batch_size = 0"),
    "dpo": ({"dpo": {"optimizer": {"lr": 0.0}}}, r"dpo\.optimizer\.lr = 0\.0"),
    "reward": ({"reward": {"loss": "bradley"}}, r"reward\.loss = 'bradley'.*bradley_terry"),
    "grpo": ({"grpo": {"sampling": {"temperature": -1}}}, r"grpo\.sampling\.temperature = -1"),
    "judge": ({"sft_judge": {"steps": "many"}, "train_judge": True}, r"sft_judge\.steps = 'many'"),
    "unknown": ({"grpo": {"stepz": 5}}, r"unknown setting 'grpo\.stepz'.*steps"),
    "loss": ({"dpo": {"loss": "sigmoidal"}}, r"dpo\.loss = 'sigmoidal': there is no loss"),
    "option": ({"dpo": {"options": {"beta": -1}}}, r"dpo\.options\.beta = -1: give a number"),
    "several": ({"grpo": {"samples": 1}}, r"grpo: samples = 1: a group of one response"),
    "shaping": ({"ppo": {"shaping": {"clip": -2}}}, r"ppo\.shaping\.clip = -2"),
    "own": ({"dpo": {"out": "elsewhere"}}, r"dpo\.out = 'elsewhere': leave it out, each run has"),
    "model": ({"model": "no/such folder"}, r"^model = 'no/such folder'"),
    "the judge": ({"judge": "./nowhere"}, r"^judge = './nowhere': there is no such folder"),
    "settings": ({"dataset": {"dataset": "world", "settings": {"difficulty": -7}}}, "difficulty"),
    "data": ({"dataset": {"dataset": "worlds"}}, "worlds"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_setting_that_a_piece_would_refuse_is_refused_before_any_begins(
    circle: Any, name: str
) -> None:
    changes, message = WRONG[name]
    with pytest.raises((ConfigError, UnknownNameError), match=message):
        run(type(circle).parse({**circle.model_dump(), **changes}))
    assert not circle.out.exists()


def test_settings_of_methods_that_are_not_run_are_not_looked_at(circle: Any) -> None:
    check(circle.model_copy(update={"methods": ("dpo",), "ppo": {"steps": -1}}))


def test_more_questions_than_there_are_is_refused_with_their_number(circle: Any) -> None:
    settings = {"difficulty": 1, "telling": "plain", "num": 30}
    few = circle.model_copy(
        update={"dataset": circle.dataset.model_copy(update={"settings": settings})}
    )
    with pytest.raises(DataError, match=r"40 questions were asked for, and .* has 30 such"):
        run(few)


def test_a_model_without_its_weights_is_refused_before_any_piece_begins(
    circle: Any, tmp_path: Path
) -> None:
    shutil.copytree(resolve("seedling"), tmp_path / "model")
    for file in (tmp_path / "model").glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(OversightError, match="judge = "):
        run(circle.model_copy(update={"judge": str(tmp_path / "model")}))


def test_a_circle_that_is_done_is_not_checked_again(circle: Any) -> None:
    from oversight.experiments.selfplay.jobs import folder_of, plan_jobs

    for job in plan_jobs(circle):
        folder_of(circle, job.name).mkdir(parents=True)
        (folder_of(circle, job.name) / "done.json").write_text(json.dumps({}))
    # Its model may have been taken away since.
    run(circle.model_copy(update={"model": "./gone"}))


def test_the_command_names_recipe_and_field(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ["--set", "ppo.kl.coefficient=-1"]
    assert command(["run", str(recipe), "--quick", "-o", str(tmp_path / "x"), *wrong]) == 2
    assert "ppo.kl.coefficient = -1" in capsys.readouterr().err.replace("\n", "")
    assert not (tmp_path / "x").exists()


def test_the_recipes_circles_pass_the_check(root: Path, tmp_path: Path) -> None:
    from oversight.cli.run import load_circle

    found = [root / "recipes" / "closed_circle.toml", *(root / "recipes/selfplay").glob("*.toml")]
    assert len(found) == 5
    for path in found:
        check(load_circle(path, {"out": str(tmp_path)}, [], quick=False))
    check(load_circle(found[0], {"out": str(tmp_path)}, [], quick=True))
