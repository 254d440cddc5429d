"""Guards in whole runs: what they stop, and what they leave alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from oversight.errors import TrainingStopped
from oversight.train import dpo, grpo, sft
from oversight.train.distributed import World
from oversight.train.guard_settings import (
    EntropySettings,
    GradientSettings,
    GuardSettings,
    KLGuardSettings,
)
from oversight.train.runs.folder import RunDescription
from oversight.train.session import Objective, Session
from oversight.train.settings import OptimizerSettings

LN_2 = math.log(2.0)


def test_the_first_loss_of_dpo_is_ln_2(cases: ModuleType, tmp_path: Path) -> None:
    for name in ("dpo", "dpo-in-loop"):
        cases.CASES[name](tmp_path / name, steps=1, sft_weight=0.0)
        assert cases.timeless(tmp_path / name)[0]["loss"] == pytest.approx(LN_2, abs=1e-6)


def test_a_wrong_reference_at_the_start_stops_dpo(
    cases: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = dpo.open_reference

    def changing(name: str, settings: Any, policy: torch.nn.Module, *given: Any, **how: Any) -> Any:
        reference = opened(name, settings, policy, *given, **how)
        with torch.no_grad():  # the policy is not what the reference was made of any more
            for weight in policy.parameters():
                weight.mul_(1.3)
        return reference

    monkeypatch.setattr(dpo, "open_reference", changing)
    with pytest.raises(TrainingStopped, match=r"must be 0\.693147.*other weights") as raised:
        cases.CASES["dpo"](tmp_path / "run")
    assert (raised.value.guard, raised.value.step) == ("start_loss", 1)
    assert cases.timeless(tmp_path / "run") == []


def test_a_reference_that_is_another_model_may_start_at_any_loss(
    cases: ModuleType, tmp_path: Path
) -> None:
    other = cases.CASES["dpo"](tmp_path / "other", seed=8, steps=3)
    cases.CASES["dpo"](tmp_path / "run", reference=str(other), steps=3)
    assert abs(cases.timeless(tmp_path / "run")[0]["loss"] - LN_2) > 1e-3


def test_the_guard_of_the_first_loss_looks_once_in_a_run_that_is_resumed(
    cases: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Session.log

    def ending(self: Session, values: Any) -> None:
        if self.step == 6:
            raise KeyboardInterrupt
        log(self, values)

    monkeypatch.setattr(Session, "log", ending)
    fast = OptimizerSettings(lr=0.05, schedule="constant", warmup=0.0)
    with pytest.raises(KeyboardInterrupt):
        cases.CASES["dpo"](tmp_path / "run", optimizer=fast)
    monkeypatch.setattr(Session, "log", log)
    cases.CASES["dpo"](tmp_path / "run", optimizer=fast, resume=True)
    losses = [line["loss"] for line in cases.timeless(tmp_path / "run") if line["split"] == "train"]
    assert len(losses) == 10
    assert abs(losses[5] - LN_2) > 0.01


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_changes_no_weight(
    cases: ModuleType, tmp_path: Path, bad: float
) -> None:
    layer = torch.nn.Linear(2, 1)
    config = sft.Config(**cases.common(tmp_path / "run"))
    session = Session(
        RunDescription("sft", {}, {}, "", 0),
        config,
        {"policy": layer},
        num_examples=4,
        total=3,
        world=World.join(torch.device("cpu")),
    )

    def loss_of(numbers: list[int]) -> tuple[torch.Tensor, dict[str, Any]]:
        return layer(torch.ones(2)).sum() * (bad if session.step == 2 else 1.0), {}

    before: list[torch.Tensor] = []

    def steps() -> None:
        for _ in session.steps():
            before[:] = [weight.clone() for weight in layer.parameters()]
            session.log(session.update(Objective([[_row()]], loss_of)))

    with session, pytest.raises(TrainingStopped, match=r"loss is (nan|inf)") as raised:
        steps()
    assert raised.value.step == 2
    after = list(layer.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000001"]


def _row() -> Any:
    import numpy as np

    from oversight.modeling import TokenRow

    return TokenRow(np.array([1]), np.array([2]))


def test_a_rate_that_explodes_is_stopped_with_advice(cases: ModuleType, tmp_path: Path) -> None:
    guards = GuardSettings(gradient=GradientSettings(factor=5.0, window=4, patience=1))
    wild = OptimizerSettings(lr=30.0, schedule="constant", warmup=12.0, max_grad_norm=1e9)
    with pytest.raises(TrainingStopped, match="smaller learning rate") as raised:
        cases.CASES["sft"](tmp_path / "run", optimizer=wild, guards=guards, steps=60)
    assert raised.value.guard in ("gradient", "not_finite")
    assert not (tmp_path / "run" / "model").exists()


def test_a_policy_that_runs_away_from_its_reference_is_stopped(
    cases: ModuleType, tmp_path: Path
) -> None:
    guards = GuardSettings(
        kl=KLGuardSettings(bound=0.5, patience=2), entropy=EntropySettings(action="off")
    )
    with pytest.raises(TrainingStopped, match="larger KL coefficient") as raised:
        cases.CASES["grpo"](
            tmp_path / "run",
            optimizer=OptimizerSettings(lr=0.05, schedule="constant", warmup=0.0),
            guards=guards,
            kl_coefficient=1e-6,
            steps=60,
        )
    assert raised.value.guard == "kl"


class OneWord:
    """Pays for one token alone, so that the best policy says nothing else."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def score(self, examples: Sequence[Any], sampled: Sequence[Sequence[Any]]) -> list[list[float]]:
        return [[float((each.token_ids == 70).mean()) for each in group] for group in sampled]


def test_a_reward_that_makes_the_policy_say_one_thing_is_stopped(
    cases: ModuleType, tmp_path: Path
) -> None:
    guards = GuardSettings(entropy=EntropySettings(share=0.5, patience=2))
    config = grpo.Config(
        **cases.common(
            tmp_path / "run",
            optimizer=OptimizerSettings(lr=0.02, schedule="constant", warmup=0.0),
            guards=guards,
            steps=200,
            save_every=1000,
            **cases.rollouts(samples=16, mini_batches=1, reuse=1, shaping=cases.ShapingSettings()),
        )
    )
    with pytest.raises(TrainingStopped, match=r"entropy is .*entropy bonus") as raised:
        grpo.train(config, rows=cases.prompts(), rewards=OneWord())
    assert raised.value.guard == "entropy"
    lines = cases.timeless(tmp_path / "run")
    assert lines[-1]["reward"] > lines[0]["reward"] + 0.2


@pytest.mark.parametrize("name", ["grpo", "ppo", "grpo-dynamic"])
def test_on_fresh_rollouts_policy_and_sampler_agree(
    cases: ModuleType, tmp_path: Path, name: str
) -> None:
    cases.CASES[name](tmp_path / "run", steps=8)
    lines = cases.timeless(tmp_path / "run")
    fresh = [line for line in lines if "reward" in line]
    assert len(fresh) == (4 if name == "grpo-dynamic" else 2)
    for line in fresh:
        assert line["ratio_error"] < 1e-4
        assert line["ratio"] == pytest.approx(1.0, abs=1e-4)
    # Later passes over a collection are not fresh, and not judged as if they were.
    assert all("ratio_error" not in line for line in lines if line not in fresh)


def test_a_sampler_of_other_weights_is_stopped_on_its_first_rollouts(
    cases: ModuleType, tmp_path: Path
) -> None:
    from oversight.train.rollouts.in_process import InProcessSampler

    class Warm(InProcessSampler):
        """Draws at another temperature than the trainer scores at."""

    made: list[Any] = []
    opened = grpo.open_sampler

    from contextlib import contextmanager

    @contextmanager
    def warm(config: Any, policy: Any, tokenizer: Any, world: Any) -> Any:
        with opened(config, policy, tokenizer, world) as sampler:
            changed = sampler.settings.model_copy(update={"temperature": 1.3})
            made.append(Warm(sampler.policy, changed, sampler.eos_ids))
            yield made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grpo, "open_sampler", warm)
        with pytest.raises(TrainingStopped, match="look at temperature") as raised:
            cases.CASES["grpo"](tmp_path / "run")
    assert (raised.value.guard, raised.value.step) == ("fresh_ratio", 1)
    assert not (tmp_path / "run" / "checkpoints").exists()
