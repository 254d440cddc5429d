"""Groups that are larger than a micro-batch are computed in turns, which changes no result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from oversight.errors import TrainingInterrupted
from oversight.modeling import TokenRow
from oversight.modeling.scoring.policy import Backbone
from oversight.train import dpo, grpo, ppo, reward
from oversight.train.batches import Cutting
from oversight.train.distributed import World
from oversight.train.optimizer import RowAdamW
from oversight.train.session import Session

SMALL = 16
"""Tokens: fewer than any group of the tiny runs has."""


@contextmanager
def turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Notes each way, `held` or `twice`, in which large groups are computed while it lasts."""
    seen: list[str] = []
    holding, scoring = Backbone.holding, Backbone.scoring_in_parts
    with monkeypatch.context() as patched:
        patched.setattr(Cutting, "_takes", lambda self, model: True)
        patched.setattr(Backbone, "holding", lambda *args: (seen.append("held"), holding(*args))[1])
        patched.setattr(
            Backbone, "scoring_in_parts", lambda *args: (seen.append("twice"), scoring(*args))[1]
        )
        yield seen


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def pairs(cases: ModuleType) -> list[dict[str, Any]]:
    """Pairs of some thirty tokens."""
    rng = np.random.default_rng(0)
    return [
        {"prompt": f"{i} {cases.said(rng, 2)}:"}
        | {name: f" {cases.said(rng, 10 + i % 3)}" for name in ("chosen", "rejected")}
        for i in range(8)
    ]


RUNS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "grpo": (grpo, {"kl_coefficient": 0.05}, "held"),
    "ppo": (ppo, {}, "held"),
    "dpo": (dpo, {}, "twice"),
    "aot": (dpo, {"loss": "aot"}, "twice"),
    "reward": (reward, {}, "twice"),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_in_turns_is_the_run_at_once(
    cases: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    trainer, changes, how = RUNS[name]
    changes = {"steps": 4} | changes
    if how == "held":
        changes = cases.rollouts(samples=4) | changes
    run = cases._run(trainer, lambda: pairs(cases), **changes)
    run(tmp_path / "whole")
    with turns(monkeypatch) as seen:
        run(tmp_path / "parts", micro_batch_tokens=SMALL)
    assert set(seen) == {how}
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for key, weight in whole.items():
        torch.testing.assert_close(parts[key], weight, rtol=0.0, atol=2e-4)
    assert any(not torch.equal(parts[key], weight) for key, weight in whole.items())


def test_a_run_in_turns_that_was_cut_off_goes_on_bit_for_bit(
    cases: ModuleType, tmp_path: Path
) -> None:
    changes = {"micro_batch_tokens": SMALL, "steps": 4}
    cases.CASES["grpo"](tmp_path / "whole", **changes)
    steps = Session.steps

    def two(self: Any) -> Iterator[int]:
        for step in steps(self):
            yield step
            if step == 2:
                self._interrupt.asked = lambda: True

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Session, "steps", two)
        with pytest.raises(TrainingInterrupted):
            cases.CASES["grpo"](tmp_path / "cut", **changes)
    cases.CASES["grpo"](tmp_path / "cut", resume=True, **changes)
    assert cases.same(tmp_path / "whole", tmp_path / "cut")


def group(num: int = 6) -> list[TokenRow]:
    rng = np.random.default_rng(0)
    prompt = rng.integers(2, 90, 5)
    return [TokenRow(prompt, rng.integers(2, 90, 8)) for _ in range(num)]


def cutting(world: World, **model: Any) -> Cutting:
    settings = dpo.Config.parse(
        {"out": "run", "data": {"path": "rows.jsonl"}, "micro_batch_tokens": SMALL}
        | {"model": {"path": "base"} | model}
    )
    return Cutting(settings, {}, world)


CPU = torch.device("cpu")


def test_scores_that_are_random_are_not_computed_twice() -> None:
    random = cutting(World(0, 1, CPU), lora={"dropout": 0.1})
    assert random.parts(group(), holds=False) is None
    assert random.parts(group(), holds=True) is not None
    assert cutting(World(0, 1, CPU), lora={}).parts(group(), holds=False) is not None


@pytest.mark.parametrize("holds", [True, False])
def test_groups_stay_whole_for_several_processes_and_for_the_load_of_experts(holds: bool) -> None:
    assert cutting(World(0, 2, CPU)).parts(group(), holds=holds) is None
    balanced = cutting(World(0, 1, CPU), router_aux_coefficient=0.01)
    assert balanced.parts(group(), holds=holds) is None


def test_a_group_that_parts_would_hold_as_much_of_stays_whole() -> None:
    prompt = np.arange(2, 60)
    rows = [TokenRow(prompt, np.array([i])) for i in (2, 3)]
    assert cutting(World(0, 1, CPU)).parts(rows, holds=False) is None


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", RUNS)
def test_a_run_with_gradients_by_rows_is_the_run_with_whole_ones(
    cases: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, tied: bool
) -> None:
    trainer, changes, how = RUNS[name]
    scratch = cases.TINY.scratch.model_copy(update={"tied": tied})
    changes = {"steps": 4, "model": cases.TINY.model_copy(update={"scratch": scratch})} | changes
    if how == "held":
        changes = cases.rollouts(samples=4) | changes
    run = cases._run(trainer, lambda: pairs(cases), **changes)
    run(tmp_path / "whole")
    stepped: list[bool] = []
    by_rows = RowAdamW._step_by_rows
    monkeypatch.setattr("oversight.train.optimizer.BY_ROWS_FROM", 1)
    monkeypatch.setattr(
        RowAdamW, "_step_by_rows", lambda *args: (stepped.append(True), by_rows(*args))[1]
    )
    run(tmp_path / "rows")
    assert bool(stepped) == (not tied or name == "reward")  # a tied head's gradient has all rows
    whole, rows = weights(tmp_path / "whole"), weights(tmp_path / "rows")
    for key, weight in whole.items():
        torch.testing.assert_close(rows[key], weight, rtol=0.0, atol=2e-4)


def test_a_run_with_gradients_by_rows_goes_on_bit_for_bit(
    cases: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oversight.train.optimizer.BY_ROWS_FROM", 1)
    scratch = cases.TINY.scratch.model_copy(update={"tied": False})
    model = cases.TINY.model_copy(update={"scratch": scratch})
    run = cases._run(dpo, lambda: pairs(cases), model=model, steps=6)
    run(tmp_path / "whole")
    logged, log = [], Session.log

    def stopping(self: Session, values: dict[str, float]) -> None:
        log(self, values)
        logged.append(values)
        if len(logged) == 3:
            self._interrupt._seen = True

    with monkeypatch.context() as patched:
        patched.setattr(Session, "log", stopping)
        with pytest.raises(TrainingInterrupted):
            run(tmp_path / "stopped")
    run(tmp_path / "stopped", resume=True)
    whole, stopped = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    for key, weight in whole.items():
        assert torch.equal(stopped[key], weight), key
