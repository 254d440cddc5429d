"""The estimate of memory, held against real steps in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from oversight.text.numbers import memory as shown
from oversight.train.estimate import (
    BatchLoad,
    ModelShape,
    activations,
    available,
    bfloat16_speed,
    estimate,
    key_values,
    logits,
)
from oversight.train.settings import LoraSettings, ModelSettings

SCRATCH = ModelSettings.parse({"scratch": {}})
SHAPE = ModelShape(64, 3, 256, 64, 32, 1000, 300_000, 300_000)


def measured(*arguments: str, exact: bool) -> float:
    """Estimate over measured peak; `exact` without what the C library's heap wastes."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    if exact:
        env["MALLOC_MMAP_THRESHOLD_"] = "65536"
    script = Path(__file__).with_name("measured_step.py")
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


CASES = {
    "small": ("128", "4", "512", "2048", "256", "64", "plain"),
    "wide_vocabulary": ("256", "2", "1024", "32000", "32", "96", "plain"),
    "checkpointing": ("256", "6", "1024", "2048", "256", "64", "checkpointing"),
    "bfloat16": ("256", "4", "1024", "2048", "128", "64", "bfloat16"),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and glibc's settings")
@pytest.mark.parametrize("arguments", CASES.values(), ids=CASES)
def test_the_estimate_is_within_a_half_of_what_tensors_take(arguments: tuple[str, ...]) -> None:
    assert 0.85 < measured(*arguments, exact=True) < 1.5


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["small", "wide_vocabulary"])
def test_the_estimate_is_within_a_factor_of_two_of_the_process(name: str) -> None:
    assert 0.5 < measured(*CASES[name], exact=False) < 1.5


def test_weights_gradients_and_optimiser_are_counted_by_what_is_trained() -> None:
    load = BatchLoad(10, 5)
    whole = dict(estimate(SHAPE, load, SCRATCH).parts)
    assert whole["weights"] == whole["gradients"] == 300_000 * 4
    assert whole["AdamW"] == 2 * whole["weights"]
    adapters = ModelShape(64, 3, 256, 64, 32, 1000, 300_000, 1_000)
    lora = ModelSettings(path="x", lora=LoraSettings())
    part = dict(estimate(adapters, load, lora).parts)
    assert part["weights"] == whole["weights"]
    assert part["gradients"] == 4_000


def test_weights_are_split_over_processes_and_activations_are_not() -> None:
    load = BatchLoad(100, 50)
    one = dict(estimate(SHAPE, load, SCRATCH, others=(("reference", 300_000),)).parts)
    two = dict(
        estimate(SHAPE, load, SCRATCH, others=(("reference", 300_000),), num_processes=2).parts
    )
    assert two["reference"] * 2 == one["reference"] == one["weights"]
    assert two["activations"] == one["activations"]


def test_checkpointing_and_half_precision_keep_less() -> None:
    load = BatchLoad(1000, 100)
    small = ModelShape(64, 12, 256, 64, 32, 1000, 1000, 1000)
    checkpointed = ModelSettings.parse({"scratch": {}, "gradient_checkpointing": True})
    halved = ModelSettings.parse({"scratch": {}, "precision": "bfloat16"})
    whole = activations(small, load, SCRATCH)
    assert activations(small, load, checkpointed) < whole / 3
    assert activations(small, load, halved) < whole * 0.7


def test_logits_are_bounded_by_the_chunk() -> None:
    one, ten = (logits(SHAPE, BatchLoad(0, num)) for num in (10_000, 100_000))
    assert ten - one == 4 * 3 * 90_000 * 64
    assert logits(SHAPE, BatchLoad(1000, 0)) == 0


def test_keys_and_values_are_of_prompts_and_of_what_grows() -> None:
    load = BatchLoad(0, 0, num_sampled=8, max_new_tokens=16, num_prompt_tokens=100)
    assert key_values(SHAPE, load, SCRATCH) == 4 * (8 * 16 + 100) * 3 * 2 * 32


def test_what_is_free_is_read_from_the_machine() -> None:
    free = available(torch.device("cpu"))
    assert free is None or 0 < free < 1 << 50


def test_bytes_are_shown_in_units() -> None:
    assert [shown(n) for n in (5, 2048, 1.5 * 2**30, 1010 * 1024)] == [
        "5 B",
        "2 KiB",
        "1.5 GiB",
        "1010 KiB",
    ]


def test_the_probe_of_precisions_gives_a_ratio_and_draws_nothing() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    ratio = bfloat16_speed(SHAPE, 64, torch.device("cpu"))
    assert 0.01 < ratio < 100.0
    assert torch.equal(torch.get_rng_state(), before)


def test_the_probe_of_precisions_cuts_what_is_too_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    from oversight.train import estimate as module

    seen: list[tuple[int, tuple[int, ...]]] = []

    def noted(given: torch.Tensor, weights: list[torch.Tensor], lowered: bool) -> float:
        seen.append((len(given), tuple(weights[0].shape)))
        return 1.0 if lowered else 3.0

    monkeypatch.setattr(module, "_pass", noted)
    wide = ModelShape(8192, 80, 28_672, 8192, 1024, 128_000, 0, 0)
    assert bfloat16_speed(wide, 8192, torch.device("cpu")) == 3.0
    tokens, (rows, columns) = seen[0]
    assert rows * columns <= module.PROBE_FLOATS
    assert 16 <= tokens < 8192
    assert rows / columns == pytest.approx(28_672 / 8192)
