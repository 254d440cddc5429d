"""With a real vLLM server: it samples for GRPO between updates, and it serves what was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oversight.engines import vllm
from oversight.train import grpo, sft
from oversight.train.experience_settings import SamplingSettings
from oversight.train.loading import load_policy, read_config
from oversight.train.rollouts.server import serving
from oversight.train.rollouts.weight_sync import check_weights
from oversight.train.settings import ModelSettings

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]

WORDS = ("noon", "dawn", "dusk", "night")
ROWS: list[dict[str, Any]] = [
    {
        "id": str(i),
        "prompt": [{"role": "user", "content": f"When did witness {i} arrive? At {word}."}],
        "completion": [{"role": "assistant", "content": f"At {word}."}],
        "answer": word,
    }
    for i, word in enumerate(WORDS * 8)
]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that has learnt a little, as `oversight train sft` leaves it."""
    torch.set_num_threads(1)
    config = sft.Config.parse(
        {
            "out": str(tmp_path_factory.mktemp("sft") / "run"),
            "model": {
                "scratch": {
                    "hidden_size": 128,
                    "num_layers": 2,
                    "vocab_size": 320,
                    "max_length": 256,
                }
            },
            "data": {},
            "batch_size": 16,
            "steps": 30,
            "optimizer": {"lr": 3e-3},
        }
    )
    return sft.train(config, rows=ROWS)


def settings(python: str) -> dict[str, Any]:
    return {
        "python": python,
        "dtype": "float32",
        "block_size": 32,
        "kv_cache_gib": 0.25,
        "max_model_len": 256,
        "extra_args": ["--enforce-eager"],
    }


@pytest.mark.parametrize("ahead", [False, True])
def test_grpo_learns_from_what_a_server_samples_with_the_weights_of_each_step(
    started: Path, vllm_python: str, tmp_path: Path, ahead: bool
) -> None:
    config = grpo.Config.parse(
        {
            "out": str(tmp_path / "run"),
            "model": {"path": str(started)},
            "data": {},
            "batch_size": 8,
            "samples": 4,
            "steps": 4,
            "engine": "vllm",
            "engine_settings": settings(vllm_python),
            "ahead": ahead,
            "reward": {"source": "matches"},
            "sampling": {"max_new_tokens": 12},
            "optimizer": {"lr": 1e-3, "warmup": 0},
            "guards": {"fresh_ratio": {"tolerance": 0.01}},
        }
    )
    grpo.train(config, rows=ROWS)
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in metrics.splitlines()]
    assert len(lines) == 4
    assert all(0 < line["reward"] <= 1 for line in lines)
    if ahead:  # one step old: the first batch is of the very policy, later ones are not
        assert lines[0]["importance/log_ratio_abs"] < 1e-4 < lines[-1]["importance/log_ratio_abs"]
    else:  # the server and the trainer agree on every token of every step
        assert all(line["ratio_error"] < 1e-3 for line in lines)


def test_a_finished_run_is_served_as_it_was_trained(started: Path, vllm_python: str) -> None:
    config = vllm.Config.parse({"model": str(started), **settings(vllm_python)})
    model = ModelSettings(path=str(started))
    policy = load_policy(model, read_config(model, ())[0], seed=0)
    with serving(config) as servers:
        assert check_weights(policy, 0, servers, SamplingSettings()) < 1e-4
        prompt = np.arange(5, 40)
        [[answer]] = servers.complete([prompt], 1, [0], SamplingSettings(max_new_tokens=4))
        assert len(answer.token_ids)
