"""The trainers' table on a GPU in bfloat16: a 1.5 B model, prompts of 4,096 tokens, TRL's layout.

A random-weight model of the shape of Qwen2.5-1.5B. For each case: seconds a step of ours and of
TRL's layout in the same run, peak memory, and the share of the card's matrix peak that is reached,
counted as 6 x weights x tokens of the trie (2 for a pass without gradient), attention left out.

    python benchmarks/training_gpu.py                 # on a GPU
    python benchmarks/training_gpu.py --tiny          # that the script runs, on a CPU

The step is ours from ids to the optimizer: trie, scores, loss, backward, clipping, AdamW. TRL's
layout is flat rows, each whole, the head at completion positions for GRPO and at all for DPO, with
the same losses and optimizer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from oversight.modeling import TokenRow
from oversight.modeling.scoring.policy import PolicyModel, ScalarModel
from oversight.modeling.scoring.trie import RowBatch
from oversight.train.losses.pairs import PairLogps
from oversight.train.losses.policy import dapo
from oversight.train.losses.policy_batch import PolicyBatch
from oversight.train.losses.preference import sigmoid
from oversight.train.losses.responses import sequence_sum
from oversight.train.losses.reward import bradley_terry

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}
"""Dense bfloat16 multiply-adds a second, times two, by the makers' data sheets."""

QWEN_1_5B = {
    "vocab_size": 151_936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32_768,
    "tie_word_embeddings": True,
}
TINY = {
    **QWEN_1_5B,
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


@dataclass(frozen=True)
class Size:
    """Sizes of the inputs."""

    prompt: int
    response: int
    group: int
    pairs: int


def build(shape: dict[str, Any], device: torch.device, scalar: bool) -> Any:
    """A random-weight model; weights in bfloat16 on a GPU, as is usual for such a card."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, Qwen2Config

    torch.manual_seed(0)
    config = Qwen2Config(**shape, num_labels=1, pad_token_id=0)
    kind: Any = AutoModelForSequenceClassification if scalar else AutoModelForCausalLM
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    with device:
        return kind.from_config(config, dtype=dtype)


def rows_of(size: Size, vocab: int) -> tuple[list[TokenRow], list[TokenRow]]:
    """One prompt with a group of responses, and pairs."""
    rng = np.random.default_rng(0)
    prompt = rng.integers(2, vocab, size.prompt)
    group = [TokenRow(prompt, rng.integers(2, vocab, size.response)) for _ in range(size.group)]
    pairs = [
        TokenRow(own, rng.integers(2, vocab, size.response))
        for own in rng.integers(2, vocab, (size.pairs, size.prompt))
        for _ in range(2)
    ]
    return group, pairs


def flat(rows: list[TokenRow], device: torch.device) -> torch.Tensor:
    """Rows of one length as a tensor, each whole."""
    return torch.from_numpy(np.stack([row.ids() for row in rows])).to(device)


def flat_logps(model: Any, rows: list[TokenRow], *, everywhere: bool) -> torch.Tensor:
    """Log-probabilities as TRL computes them: whole rows, the head at completions or everywhere."""
    ids = flat(rows, model.device)
    size = len(rows[0].response_ids)
    keep = 0 if everywhere else size + 1
    logits = model(
        input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, logits_to_keep=keep
    ).logits[:, :-1]
    targets = ids[:, 1:] if everywhere else ids[:, -size:]
    picked = torch.stack(
        [
            row.float().log_softmax(-1).gather(-1, target[:, None])[:, 0]
            for row, target in zip(logits, targets, strict=True)
        ]
    )
    return picked[:, -size:]


def dapo_loss(logps_BR: torch.Tensor) -> torch.Tensor:
    """The policy's loss with advantages that differ."""
    advantages = torch.linspace(-1, 1, len(logps_BR), device=logps_BR.device)
    batch = PolicyBatch(
        logps_BR,
        logps_BR.detach(),
        advantages[:, None].expand_as(logps_BR),
        torch.ones_like(logps_BR, dtype=torch.bool),
    )
    return dapo.loss(batch, normalizer=logps_BR.numel())[0]


def dpo_loss(logps_BR: torch.Tensor) -> torch.Tensor:
    """DPO's loss with a reference that was asked before."""
    sums = sequence_sum(logps_BR, torch.ones_like(logps_BR, dtype=torch.bool))
    pairs = PairLogps(sums[::2], sums[1::2], sums[::2].detach(), sums[1::2].detach())
    return sigmoid.loss(pairs, normalizer=len(sums) / 2)[0]


def reward_loss(rewards_B: torch.Tensor) -> torch.Tensor:
    """Bradley-Terry of pairs."""
    return bradley_terry.loss(rewards_B[::2], rewards_B[1::2], normalizer=len(rewards_B) / 2)[0]


def timed(
    model: Any, loss_of: Callable[[], torch.Tensor], steps: int, device: torch.device
) -> tuple[float, int]:
    """Least seconds of a step, and peak memory over what the model and its optimizer hold."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    best = float("inf")
    for number in range(steps + 2):
        if device.type == "cuda":
            torch.cuda.synchronize()
            if number == 2:
                torch.cuda.reset_peak_memory_stats()
        begin = time.perf_counter()
        loss_of().backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= 2:  # the first compile kernels and make the optimizer's state
            best = min(best, time.perf_counter() - begin)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return best, peak


def case(name: str, shape: dict[str, Any], size: Size, device: torch.device, steps: int) -> str:
    """One line of the table."""
    group, pairs = rows_of(size, shape["vocab_size"])
    rows = group if name == "grpo" else pairs
    scalar = name == "reward"
    loss = {"grpo": dapo_loss, "dpo": dpo_loss, "reward": reward_loss}[name]
    model = build(shape, device, scalar)
    scored: Any = ScalarModel(model) if scalar else PolicyModel(model)
    num_weights = sum(p.numel() for p in model.parameters())

    def our_loss() -> torch.Tensor:
        batch = RowBatch.build(rows, device)
        found = scored(batch)
        return loss(found if scalar else found.logps_BR)

    tokens = RowBatch.build(rows).trie.num_tokens
    seconds, peak = timed(model, our_loss, steps, device)
    scored = model = None
    if device.type == "cuda":
        torch.cuda.empty_cache()
    theirs = build(shape, device, scalar)

    def their_loss() -> torch.Tensor:
        if scalar:
            ids = flat(rows, device)
            return loss(theirs(input_ids=ids, use_cache=False).logits[:, 0].float())
        return loss(flat_logps(theirs, rows, everywhere=name == "dpo"))

    try:
        their_seconds, their_peak = timed(theirs, their_loss, steps, device)
        compared = f"{their_seconds / seconds:5.2f} x TRL's layout"
        compared += f", memory {peak / their_peak:.2f}" if their_peak else ""
    except torch.OutOfMemoryError:
        compared = "TRL's layout does not fit into this card's memory"
    reached = 6 * num_weights * tokens / seconds
    share = next((reached / p for n, p in PEAK.items() if n in device_name(device)), None)
    peaked = f", {share:.0%} of the matrix peak" if share else ""
    bound = sum(row.num_tokens for row in rows) / tokens
    return (
        f"{name:<8} {seconds:8.3f} s a step, {peak / 1e9:5.1f} GB; {compared}; token bound "
        f"{bound:.2f}; {reached / 1e12:.1f} TFLOP/s{peaked}"
    )


def device_name(device: torch.device) -> str:
    """The card's name, or the kind of device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="a small model, on any device")
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.tiny:
        raise SystemExit("no GPU at hand: nothing is measured (--tiny tries the script on a CPU)")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = TINY if options.tiny else QWEN_1_5B
    size = Size(64, 16, 4, 2) if options.tiny else Size(4096, 256, 8, 2)
    print(f"{device_name(device)}, torch {torch.__version__}, {size}")
    for name in ("grpo", "dpo", "reward"):
        print(case(name, shape, size, device, options.steps), flush=True)


if __name__ == "__main__":
    main()
