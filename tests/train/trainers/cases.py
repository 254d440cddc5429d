"""Tiny runs of every trainer, from scratch, each with all that a resumed run could forget.

Used by the tests and, in processes of their own, by `killed_trainers.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oversight.train import dpo, grpo, ppo, reward, sft
from oversight.train.experience_settings import RewardSettings, SamplingSettings, ShapingSettings
from oversight.train.runs.metrics import read_metrics, read_samples
from oversight.train.settings import DataSettings, ModelSettings, OptimizerSettings, ScratchSettings

Row = dict[str, Any]
WORDS = ["red", "green", "blue", "gold", "black", "white", "pink", "grey"]
TINY = ModelSettings(
    scratch=ScratchSettings(
        hidden_size=16, num_layers=1, num_heads=2, vocab_size=300, max_length=64, init_std=0.2
    ),
    device="cpu",
)
OPTIMIZER = OptimizerSettings(lr=3e-3, warmup=2.0, schedule="cosine", min_ratio=0.1)


def said(rng: np.random.Generator, count: int) -> str:
    return " ".join(WORDS[i] for i in rng.integers(len(WORDS), size=count))


def pairs(count: int = 14, seed: int = 0) -> list[Row]:
    rng = np.random.default_rng(seed)
    return [
        {
            "id": f"row-{i}",
            "prompt": f"{i} {said(rng, 2)}:",
            "chosen": f" {said(rng, 2)}",
            "rejected": f" {said(rng, 3)}",
        }
        for i in range(count)
    ]


def demonstrations(count: int = 14) -> list[Row]:
    return [
        {"id": row["id"], "prompt": row["prompt"], "completion": row["chosen"]}
        for row in pairs(count)
    ]


def labelled(count: int = 14) -> list[Row]:
    return [
        {
            "id": row["id"],
            "prompt": row["prompt"],
            "completion": row["chosen" if i % 2 else "rejected"],
            "label": bool(i % 2),
        }
        for i, row in enumerate(pairs(count))
    ]


def prompts(count: int = 14) -> list[Row]:
    return [{"id": row["id"], "prompt": row["prompt"]} for row in pairs(count)]


def common(out: Path, **changes: Any) -> dict[str, Any]:
    """Settings of every tiny run: batches that do not fit the data, a checkpoint each step."""
    settings = {
        "out": out,
        "model": TINY,
        "data": DataSettings(),
        "optimizer": OPTIMIZER,
        "batch_size": 4,
        "steps": 10,
        "save_every": 1,
        "seed": 3,
    }
    return settings | changes


def held_out(**changes: Any) -> dict[str, Any]:
    return {"data": DataSettings(eval_rows=3), "eval_every": 3} | changes


NOT_ASKED = RewardSettings(source="length")
"""Stands where `TokenRewards` are used."""


def rollouts(**changes: Any) -> dict[str, Any]:
    """Collections that are gone through twice, in two parts each time, with rewards scaled."""
    settings = {
        "reward": NOT_ASKED,
        "sampling": SamplingSettings(max_new_tokens=6),
        "samples": 3,
        "mini_batches": 2,
        "reuse": 2,
        "shaping": ShapingSettings(scale=True, missing_eos=0.3),
    }
    return settings | changes


class TokenRewards:
    """Rewards that differ: how many of a response's ids are multiples of three."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}

    def score(self, examples: Sequence[Any], sampled: Sequence[Sequence[Any]]) -> list[list[float]]:
        return [[float((each.token_ids % 3 == 0).sum()) for each in group] for group in sampled]


Run = Callable[..., Path]
"""Takes the run's folder, changed settings, and `resume`; gives the finished model's."""


def _run(trainer: Any, rows: Callable[[], list[Row]], **settings: Any) -> Run:
    def run(out: Path, *, resume: bool = False, **changes: Any) -> Path:
        config = trainer.Config(**common(out, **(settings | changes)))
        more = {}
        if trainer in (grpo, ppo) and config.reward == NOT_ASKED:
            more["rewards"] = TokenRewards()
        path: Path = trainer.train(config, rows=rows(), resume=resume, **more)
        return path

    return run


STEERED = ppo.RewardKLSettings(coefficient=0.1, target=0.5, horizon=50.0)
CASES: dict[str, Run] = {
    "sft": _run(sft, demonstrations, **held_out()),
    "reward": _run(reward, pairs, **held_out()),
    "dpo": _run(dpo, pairs, **held_out()),
    "dpo-in-loop": _run(dpo, pairs, precompute=False, sft_weight=0.1, **held_out()),
    "kto": _run(dpo, labelled, loss="kto", **held_out()),
    "grpo": _run(grpo, prompts, kl_coefficient=0.05, **rollouts()),
    "grpo-dynamic": _run(grpo, prompts, loss="dapo", dynamic_sampling=2, **rollouts(reuse=1)),
    "ppo": _run(ppo, prompts, kl=STEERED, **rollouts(samples=2)),
}


def timeless(run: Path) -> list[dict[str, Any]]:
    """A run's metrics but for what a clock says."""
    return [
        {name: value for name, value in line.items() if name not in ("time", "wall_s")}
        for line in read_metrics(run)
    ]


def remains(run: Path) -> dict[str, bytes]:
    """Every weight that a finished run has left: of the model, and of the last checkpoint with the
    optimizer's moments, the value head and the collection that was being learnt from."""
    last = max((run / "checkpoints").glob("step-??????"))
    paths = [run / "model" / "model.safetensors", *sorted(last.glob("*.safetensors"))]
    return {str(path.relative_to(run)): path.read_bytes() for path in paths}


def same(one: Path, other: Path) -> bool:
    """True if two finished runs have left equal weights, bit for bit, equal metrics and samples."""
    return (
        remains(one) == remains(other)
        and timeless(one) == timeless(other)
        and read_samples(one) == read_samples(other)
    )


def write_rows(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
