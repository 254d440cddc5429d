"""Names of TRL and transformers, typed as settings: answered with ours."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from oversight.errors import ConfigError
from oversight.experiments.trainer_runs import check_run
from oversight.train import dpo, grpo, losses, ppo, reward, sft
from oversight.train.registered import NAMES_ELSEWHERE

CLASSES = {
    "SFTSettings": "sft",
    "RewardModelSettings": "reward",
    "DPOSettings": "dpo",
    "GRPOSettings": "grpo",
    "PPOSettings": "ppo",
}
TRAINERS: dict[str, Any] = {"sft": sft, "reward": reward, "dpo": dpo, "grpo": grpo, "ppo": ppo}
FAMILIES = {"reward": ["reward"], "dpo": ["preference", "unpaired"], "grpo": ["policy"]}
SHARED = {"TrainSettings": list(TRAINERS), "ExperienceSettings": ["grpo", "ppo"]}
NAMES = [
    (trainer, name)
    for kind, table in NAMES_ELSEWHERE.items()
    for trainer in SHARED.get(kind) or [CLASSES[kind]]
    for name in table
    if name not in TRAINERS[trainer].Config.model_fields
]


def refused(trainer: str, given: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as raised:
        TRAINERS[trainer].Config.parse(given)
    return str(raised.value)


def exists(trainer: str, setting: str) -> bool:
    """True if a trainer has the dotted setting, an option of one of its losses included."""
    model: Any = TRAINERS[trainer].Config
    first, *rest = setting.split(".")
    if first == "options":
        known = [losses.options(f, n) for f in FAMILIES[trainer] for n in losses.names(f)]
        return any(rest == [option] for options in known for option in options)
    for part in (first, *rest):
        field = model.model_fields.get(part)
        if field is None:
            return False
        kinds = (field.annotation, *getattr(field.annotation, "__args__", ()))
        model = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
    return True


@pytest.mark.parametrize(("trainer", "name"), NAMES)
def test_each_is_answered_with_a_setting_that_there_is(trainer: str, name: str) -> None:
    here = TRAINERS[trainer].Config.name_here(name)
    assert here is not None
    assert exists(trainer, here), here
    given = {"out": "x", "model": {"path": "seedling"}, "data": {}, name: 1}
    if trainer in ("grpo", "ppo"):
        given["reward"] = {"source": "length"}
    assert refused(trainer, given) == f"unknown setting {name!r}. Here it is called {here!r}."


def test_it_is_known_in_a_table_and_in_an_experiments_recipe_too() -> None:
    given = {"out": "x", "model": {"path": "seedling"}, "data": {}}
    told = refused("sft", given | {"optimizer": {"learning_rate": 1e-4}})
    assert told == "unknown setting 'optimizer.learning_rate'. Here it is called 'optimizer.lr'."
    with pytest.raises(ConfigError, match=r"'dpo\.beta'\. Here it is called 'dpo\.options\.beta'"):
        check_run("dpo", dpo, given | {"beta": 0.1}, {})


def test_the_same_name_means_another_thing_to_another_trainer() -> None:
    found = {each: TRAINERS[each].Config.name_here("beta") for each in TRAINERS}
    assert found == {
        "sft": None,
        "reward": None,
        "dpo": "options.beta",
        "grpo": "kl_coefficient",
        "ppo": "kl.coefficient",
    }


SCRATCH, TRAINED = {"scratch": {}}, {"path": "seedling"}


@pytest.mark.parametrize(
    ("model", "lr", "note"),
    [
        (SCRATCH, 1e-5, "optimizer.lr = 1e-05 hardly moves random weights: 1e-3 is usual"),
        (SCRATCH, 0.1, "optimizer.lr = 0.1 ruins random weights: 1e-3 is usual"),
        (TRAINED, 1e-2, "optimizer.lr = 0.01 ruins a trained model: 1e-5 is usual"),
        (TRAINED, 1e-10, "optimizer.lr = 1e-10 hardly moves a trained model: 1e-5 is usual"),
        *((SCRATCH, lr, None) for lr in (None, 1e-4, 1e-3, 3e-3)),
        *((TRAINED, lr, None) for lr in (None, 1e-6, 1e-4, 1e-3)),
    ],
)
def test_a_learning_rate_that_cannot_work_from_such_a_start_is_told(
    model: dict[str, Any], lr: float | None, note: str | None
) -> None:
    rate = {} if lr is None else {"optimizer": {"lr": lr}}
    config = sft.Config.parse({"out": "x", "model": model, "data": {}, **rate})
    assert [each.startswith(note or "") for each in config.notes()] == [True] * bool(note)
