"""Rollouts that say nothing move no weight: neither rounding, nor momentum, nor decay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from oversight.train import grpo, policy_step, ppo
from oversight.train.runs.folder import RunFolder
from oversight.train.session import Session
from oversight.train.settings import OptimizerSettings


class Known:
    """Rewards that differ in the collections of which `differ` says so, and else are all `same`."""

    def __init__(self, *differ: bool, same: float = 0.7) -> None:
        self.metrics: dict[str, float] = {}
        self.differ, self.same, self.calls = differ, same, 0

    def score(self, examples: Sequence[Any], sampled: Sequence[Sequence[Any]]) -> list[list[float]]:
        differs = self.calls < len(self.differ) and self.differ[self.calls]
        self.calls += 1
        return [[self.same + 0.1 * i * differs for i in range(len(g))] for g in sampled]


DECAYING = OptimizerSettings(lr=3e-3, warmup=0.0, schedule="constant", weight_decay=0.1)
ONCE = {"mini_batches": 1, "reuse": 1}


def run(
    cases: ModuleType, trainer: Any, out: Path, rewards: Known, resume: bool = False, **own: Any
) -> list[dict[str, Any]]:
    """The metrics of a run; every checkpoint of it is kept."""
    plain = {"optimizer": DECAYING, "keep": 20, "steps": 5, "shaping": cases.ShapingSettings()}
    given = cases.common(out, **cases.rollouts(**(plain | ONCE | own)))
    trainer.train(trainer.Config(**given), rows=cases.prompts(), rewards=rewards, resume=resume)
    lines: list[dict[str, Any]] = cases.timeless(out)
    return lines


def weights(out: Path, step: int) -> dict[str, torch.Tensor]:
    (file,) = (out / "checkpoints" / f"step-{step:06}").glob("weights-*.safetensors")
    return load_file(file)


def moved(out: Path, first: int, second: int) -> float:
    one, other = weights(out, first), weights(out, second)
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def off_by_rounding(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    """Let the policy's log-probabilities stand off by `size`, as kernels of another order do."""
    forward = policy_step.policy_batch

    def shaken(config: Any, scores: Any, part: Any) -> Any:
        noise_BR = size * (2.0 * (scores.logps_BR.detach() * 1e6).frac().abs() - 1.0)
        object.__setattr__(scores, "logps_BR", scores.logps_BR + noise_BR)
        return forward(config, scores, part)

    monkeypatch.setattr(policy_step, "policy_batch", shaken)


LOSSES = ["grpo", "dr_grpo", "gspo", "dapo", "cispo", "reinforce"]


@pytest.mark.parametrize(
    "loss", LOSSES[:2] + [pytest.param(n, marks=pytest.mark.slow) for n in LOSSES[2:]]
)
def test_constant_rewards_and_a_kl_term_move_no_weight(
    cases: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    off_by_rounding(monkeypatch, 1e-6)
    lines = run(cases, grpo, tmp_path / "run", Known(), loss=loss, kl_coefficient=0.1)
    assert [line["skipped"] for line in lines] == [1.0] * 5
    assert moved(tmp_path / "run", 1, 5) == 0.0


@pytest.mark.parametrize("advantage", ["group", "rloo", "reinforce_plus_plus"])
def test_momentum_and_decay_move_no_weight_where_nothing_is_told(
    cases: ModuleType, tmp_path: Path, advantage: str
) -> None:
    told = Known(True, True)
    lines = run(cases, grpo, tmp_path / "run", told, advantage=advantage)
    assert [line["skipped"] for line in lines] == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert moved(tmp_path / "run", 1, 2) > 1e-4
    assert moved(tmp_path / "run", 2, 5) == 0.0


def test_a_divergence_that_is_none_of_rounding_is_held_down(
    cases: ModuleType, tmp_path: Path
) -> None:
    lines = run(cases, grpo, tmp_path / "run", Known(True), kl_coefficient=0.1)
    assert [line["skipped"] for line in lines] == [0.0] * 5
    assert moved(tmp_path / "run", 1, 2) > 1e-4


def test_an_entropy_bonus_is_a_signal(cases: ModuleType, tmp_path: Path) -> None:
    lines = run(cases, grpo, tmp_path / "run", Known(), entropy_coefficient=0.01, steps=2)
    assert [line["skipped"] for line in lines] == [0.0, 0.0]


def test_responses_that_were_all_cut_off_move_no_weight(cases: ModuleType, tmp_path: Path) -> None:
    shaping = cases.ShapingSettings(mask_unfinished=True)
    sampling = cases.SamplingSettings(max_new_tokens=1)
    own = {"shaping": shaping, "sampling": sampling, "kl_coefficient": 0.1}
    lines = run(cases, grpo, tmp_path / "run", Known(True, True), **own, steps=2)
    assert [line["finished"] for line in lines] == [0.0, 0.0]
    assert [line["skipped"] for line in lines] == [1.0, 1.0]
    assert moved(tmp_path / "run", 1, 2) == 0.0


def test_rewards_of_0_and_a_penalty_of_rounding_move_no_weight_of_ppo(
    cases: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shaken(self: Any, batch: Any) -> Any:
        batch = with_logprobs(self, batch)
        off = [v + 1e-6 * (i % 3 - 1) for i, v in enumerate(batch.token_values["ref_logps"])]
        return batch.with_token_values(ref_logps=off)

    with_logprobs = ppo.Experience._with_logprobs
    monkeypatch.setattr(ppo.Experience, "_with_logprobs", shaken)
    lines = run(cases, ppo, tmp_path / "run", Known(same=0.0))
    assert [line["skipped"] for line in lines] == [1.0] * 5
    assert moved(tmp_path / "run", 1, 5) == 0.0


def test_a_constant_reward_is_something_for_a_critic_to_learn(
    cases: ModuleType, tmp_path: Path
) -> None:
    lines = run(cases, ppo, tmp_path / "run", Known(same=1.0))
    assert [line["skipped"] for line in lines] == [0.0] * 5


def test_advantages_that_differ_by_rounding_are_whitened_to_0(
    cases: ModuleType, tmp_path: Path
) -> None:
    config = ppo.Config(**cases.common(tmp_path / "run", **cases.rollouts()))
    valuing = ppo.CriticAdvantages(config, None, None, ppo._controller(config.kl))  # type: ignore[arg-type]
    mask_BR = torch.ones(2, 3, dtype=torch.bool)
    same_BR = torch.full((2, 3), 0.1) + torch.tensor([[0.0, 7e-9, 0.0], [0.0, 0.0, 7e-9]])
    assert valuing._whitened(same_BR, mask_BR).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("differ", [(False, True), (True, False, True)])
def test_a_run_with_skipped_steps_resumes_bit_for_bit(
    cases: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, differ: tuple[bool, ...]
) -> None:
    lines = run(cases, grpo, tmp_path / "whole", Known(*differ))
    assert {line["skipped"] for line in lines} == {0.0, 1.0}

    class Cut(BaseException):
        pass

    for cut in (2, 3):
        save = RunFolder.save

        def ending(self: RunFolder, at: int, *given: Any, cut: int = cut, save: Any = save) -> Any:
            if at == cut:
                raise Cut
            return save(self, at, *given)

        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "save", ending)
            with pytest.raises(Cut):
                run(cases, grpo, tmp_path / f"cut-{cut}", Known(*differ))
        told = Known(*differ)
        told.calls = cut - 1
        run(cases, grpo, tmp_path / f"cut-{cut}", told, resume=True)
        assert cases.same(tmp_path / "whole", tmp_path / f"cut-{cut}")


def test_the_norm_of_a_step_that_is_skipped_is_no_measure_of_others(
    cases: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[set[str]] = []
    check = Session._check

    def noting(self: Session, values: Any) -> None:
        looked_at.append(set(values) & {"loss", "grad_norm"})
        check(self, values)

    monkeypatch.setattr(Session, "_check", noting)
    run(cases, grpo, tmp_path / "run", Known(True), steps=2)
    assert [names for names in looked_at if names] == [{"loss", "grad_norm"}, {"loss"}]
