"""The learning rate that a run takes where its recipe names none."""

from __future__ import annotations

from pathlib import Path

import pytest

from oversight.train import dpo, grpo, ppo, reward, sft
from oversight.train.runs.metrics import read_metrics

SCRATCH = {"scratch": {"hidden_size": 32, "num_layers": 1, "vocab_size": 300}}
TRAINERS = [sft, reward, dpo, ppo, grpo]


def config(trainer, model, **more):
    settings = {"out": "run", "model": model, "data": {}} | more
    if trainer in (ppo, grpo):
        settings["reward"] = {"source": "length"}
    return trainer.Config.parse(settings)


@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda trainer: trainer.__name__[16:])
def test_random_weights_get_a_rate_at_which_they_learn(trainer) -> None:
    assert config(trainer, SCRATCH).optimizer.lr == 1e-3
    assert config(trainer, SCRATCH, optimizer={"schedule": "cosine"}).optimizer.lr == 1e-3
    assert config(trainer, {"path": "seedling"}).optimizer.lr == 1e-5


def test_a_rate_that_is_given_is_taken() -> None:
    given = config(sft, SCRATCH, optimizer={"lr": 1e-5})
    assert given.optimizer.lr == 1e-5
    assert sft.Config.parse(given.model_dump(mode="json")).optimizer.lr == 1e-5


def test_a_run_from_scratch_that_names_no_rate_learns(tmp_path: Path) -> None:
    rows = [{"prompt": f"{a} + 2 =", "completion": f" {a + 2}"} for a in range(40)]
    given = config(sft, SCRATCH, out=str(tmp_path / "run"), steps=60)
    sft.train(given, rows=rows)
    losses = [line["loss"] for line in read_metrics(tmp_path / "run")]
    assert losses[0] == pytest.approx(5.7, abs=0.1)
    assert losses[-1] < 4.5
