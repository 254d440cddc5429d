"""Runs of one and of two processes of every trainer, on the same small data."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("scaled_run.py")
REWARD = """
import os


def odd(texts, rows):
    return [sum(map(ord, text)) % 7 / 7.0 for text in texts]


def even(texts, rows):
    return [float(sum(map(ord, text)) % 4 == 0) for text in texts]


def broken_in_one(texts, rows):
    return [float("nan") if os.environ.get("RANK") == "1" else 1.0 for text in texts]
"""


@dataclass(frozen=True)
class Launched:
    """Processes that have been started."""

    processes: list[subprocess.Popen[str]]

    def wait(self, timeout_s: float = 100.0) -> tuple[list[int], list[str]]:
        """Exit codes and what each process said."""
        said = [process.communicate(timeout=timeout_s)[0] for process in self.processes]
        return [process.returncode for process in self.processes], said

    def kill(self) -> None:
        """Kill all of them as no handler can prevent."""
        for process in self.processes:
            process.kill()
            process.communicate()


@dataclass(frozen=True)
class Place:
    """A folder with data for all trainers."""

    folder: Path

    def config(self, name: str, trainer: str, **changes: Any) -> dict[str, Any]:
        """A run of `trainer` in the folder `name`."""
        data: dict[str, Any] = {"path": str(self.folder / f"{trainer}.jsonl")}
        config: dict[str, Any] = {
            "out": str(self.folder / name),
            "model": {"scratch": SMALL, "device": "cpu"},
            "optimizer": {"lr": 3e-3, "eps": 1e-5, "warmup": 0, "weight_decay": 0.1},
            "batch_size": 4,
            "steps": 4,
            "micro_batch_tokens": 60,
            "guards": {"gradient": {"action": "off"}},
        }
        if trainer in ("sft", "reward", "dpo"):
            data["eval_rows"] = 3
            config["eval_every"] = 2
        else:
            function = f"{self.folder / 'reward.py'}:odd"
            config["reward"] = {"source": "function", "function": function}
            config |= {"sampling": {"max_new_tokens": 9}, "samples": 3}
        return config | {"data": data} | changes

    def launch(self, runs: Sequence[dict[str, Any]], num: int = 2, **environment: str) -> Launched:
        """Start so many processes in the environment that torchrun gives them."""
        spec = self.folder / f"spec-{len(list(self.folder.glob('spec-*')))}.json"
        spec.write_text(json.dumps(list(runs)))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        world = {"WORLD_SIZE": str(num), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        cache = {"OVERSIGHT_CACHE": str(self.folder / f"cache-{num}")}
        shared = os.environ | world | cache | {"OMP_NUM_THREADS": "1"} | environment
        return Launched(
            [
                subprocess.Popen(
                    [sys.executable, str(SCRIPT), str(spec)],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                )
                for rank in range(num)
            ]
        )


SMALL = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "vocab_size": 300,
    "max_length": 128,
    "init_std": 0.08,
}
"""A model from scratch."""


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Data for all trainers; rows of many lengths, so that processes have unequal work."""
    folder = tmp_path_factory.mktemp("scale")
    facts = [f"{'the key is under the mat ' * (1 + i % 3)}{i} " for i in range(13)]
    _write(
        folder / "sft.jsonl",
        [{"prompt": f, "completion": "yes " * (1 + i % 5)} for i, f in enumerate(facts)],
    )
    pairs = [
        {"prompt": f, "chosen": "yes " * (1 + i % 5), "rejected": "no " * (1 + i % 3)}
        for i, f in enumerate(facts)
    ]
    _write(folder / "dpo.jsonl", pairs)
    _write(folder / "reward.jsonl", pairs)
    # Some prompts fit into 64 tokens only with their own response, which is a short one.
    labelled = [
        {
            "prompt": f * (1 + 2 * (i % 2)),
            "completion": "yes " * (1 + 9 * ((i + 1) % 2)),
            "label": i % 3 > 0,
        }
        for i, f in enumerate(facts)
    ]
    _write(folder / "kto.jsonl", labelled)
    prompts = [{"prompt": f} for f in facts]
    _write(folder / "grpo.jsonl", prompts)
    _write(folder / "ppo.jsonl", prompts)
    (folder / "reward.py").write_text(REWARD)
    return Place(folder)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, place: Place) -> Callable[..., Path]:
    """Trains in this process alone."""

    def train(trainer: str, config: dict[str, Any], resume: bool = False) -> Path:
        import importlib

        monkeypatch.setenv("OVERSIGHT_CACHE", str(place.folder / "cache-1"))
        module: Any = importlib.import_module(f"oversight.train.{trainer}")
        model: Path = module.train(module.Config.parse(config), resume=resume)
        return model

    return train
