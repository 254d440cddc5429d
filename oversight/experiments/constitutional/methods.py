"""Settings of the training runs of both stages; a recipe's tables replace single values of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from oversight.experiments.constitutional.settings import ConstitutionalSettings
from oversight.experiments.trainer_runs import common, merged
from oversight.experiments.workers import folder_of
from oversight.train import dpo, grpo, ppo, reward, sft

Made = tuple[Any, dict[str, Any]]
"""A trainer and its settings."""


def _run(
    policy: str,
    out: Path,
    seed: int,
    own: dict[str, Any],
    settings: ConstitutionalSettings,
    name: str,
) -> dict[str, Any]:
    """All settings of a training run: the recipe's over the stage's `own`."""
    shared = common(policy, out, seed, settings.template_args)
    return merged(shared, own, getattr(settings, name))


def _sft(settings: ConstitutionalSettings, policy: str, out: Path, seed: int) -> Made:
    own = {"batch_size": 32, "steps": 150, "optimizer": {"lr": 5e-4, "schedule": "linear"}}
    return sft, _run(policy, out, seed, own, settings, "sft")


def _dpo(settings: ConstitutionalSettings, policy: str, out: Path, seed: int) -> Made:
    own = {"batch_size": 32, "steps": 100, "optimizer": {"lr": 2e-4}, "options": {"beta": 0.2}}
    return dpo, _run(policy, out, seed, own, settings, "dpo")


def _reward(settings: ConstitutionalSettings, policy: str, out: Path, seed: int) -> Made:
    own = {"batch_size": 32, "steps": 150, "optimizer": {"lr": 5e-4}}
    return reward, _run(policy, out, seed, own, settings, "reward")


def _ppo(settings: ConstitutionalSettings, policy: str, out: Path, seed: int) -> Made:
    own = {
        "batch_size": 64,
        "steps": 60,
        "data": {"format": "prompt", "duplicates": "keep"},
        "optimizer": {"lr": 3e-4, "schedule": "linear"},
        "samples": 2,
        "mini_batches": 2,
        "reuse": 1,
        "kl": {"coefficient": 0.05},
        "sampling": {"max_new_tokens": settings.max_tokens},
        "shaping": {"missing_eos": 1.0, "scale": True},
        "critic": {"coefficient": 0.1},
        "reward": {
            "source": "model",
            "models": [str(folder_of(settings.out, f"reward.{seed}") / "model")],
        },
    }
    return ppo, _run(policy, out, seed, own, settings, "ppo")


def _grpo(settings: ConstitutionalSettings, policy: str, out: Path, seed: int) -> Made:
    own = {
        "batch_size": 16,
        "steps": 80,
        "data": {"format": "prompt", "duplicates": "keep"},
        "optimizer": {"lr": 3e-4, "schedule": "linear"},
        "guards": {"entropy": {"action": "warn"}},
        "samples": 8,
        "loss": "dr_grpo",
        "kl_coefficient": 0.01,
        "sampling": {"max_new_tokens": settings.max_tokens},
        "shaping": {"missing_eos": 1.0},
        # Rewards come from a source in memory; the settings only have to name some source.
        "reward": {"source": "length"},
    }
    return grpo, _run(policy, out, seed, own, settings, "grpo")


TRAINERS: dict[str, Callable[[ConstitutionalSettings, str, Path, int], Made]] = {
    "sft": _sft,
    "dpo": _dpo,
    "reward": _reward,
    "ppo": _ppo,
    "grpo": _grpo,
}
