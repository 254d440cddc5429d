"""Prints estimate over measured peak of two training steps; a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from oversight.modeling import TokenRow
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.trie import RowBatch
from oversight.train.estimate import BatchLoad, ModelShape, estimate
from oversight.train.losses.responses import sft_loss
from oversight.train.settings import ModelSettings

NUM_ROWS = 8


def made(hidden: int, layers: int, width: int, vocab: int, how: str) -> tuple[Any, PolicyModel]:
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
    )
    precision = torch.bfloat16 if how == "bfloat16" else torch.float32
    policy = PolicyModel(AutoModelForCausalLM.from_config(config), precision=precision)
    if how == "checkpointing":
        policy.inner.gradient_checkpointing_enable({"use_reentrant": False})
    return config, policy.train()


def steps(policy: PolicyModel, prompt: int, response: int, vocab: int) -> None:
    draw = np.random.default_rng(0).integers
    rows = [TokenRow(draw(0, vocab, prompt), draw(0, vocab, response)) for _ in range(NUM_ROWS)]
    optimizer = torch.optim.AdamW(policy.parameters(), fused=True)
    for _ in range(2):
        scores = policy(RowBatch.build(rows, policy.device))
        loss, _ = sft_loss(scores.logps_BR, scores.mask_BR, normalizer=1.0)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    hidden, layers, width, vocab, prompt, response = map(int, sys.argv[1:7])
    how = sys.argv[7]
    steps(made(16, 1, 32, 64, how)[1], 8, 8, 64)  # libraries take their own room first
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    config, policy = made(hidden, layers, width, vocab, how)
    steps(policy, prompt, response, vocab)
    taken = peak() - before
    settings: dict[str, Any] = {"scratch": {}, "gradient_checkpointing": how == "checkpointing"}
    settings["precision"] = "bfloat16" if how == "bfloat16" else "float32"
    load = BatchLoad(NUM_ROWS * (prompt + response), NUM_ROWS * response)
    shape = ModelShape.of(config, policy.model)
    print(estimate(shape, load, ModelSettings.parse(settings)).total / taken)


main()
