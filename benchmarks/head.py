"""The head of a language model, forward and backward: by blocks of the vocabulary, and as before.

    python benchmarks/head.py                 # the table
    python benchmarks/head.py --positions 128 --rounds 5

`before` is the head up to commit 2176ccf: blocks of positions over the whole vocabulary,
2^22 logits at a time, whose weight is read, cast and its gradient added up once a block, with the
entropy always. `plain` is autograd over all logits. Each is `token_logprobs` of N positions and the
gradients of hidden states and weight, in one process, in turn; the least of the rounds counts.
Process CPU seconds, one thread. `of matmul` is 8 N V E floating-point operations (logits, logits
again, two gradients) at the rate of a product of two 1024 x 1024 float32 matrices in the same run.

`gradient` is the largest difference to `plain` in the weight's gradient, over its largest entry.

    python benchmarks/head.py --equality      # whole models against their own forward pass
    python benchmarks/head.py --memory        # each way in a process of its own

The first prints, for models of a vocabulary of 32,768, the largest difference of any gradient of a
weight to that of plain autograd over the model's own logits (bar 1e-6): with tied embeddings, soft
caps, adapters, and split over two processes by FSDP2. The second prints by how much a forward and
backward pass raises the high-water mark of resident memory, inputs and gradients included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from oversight.modeling.scoring.logprobs import Head, token_logprobs

EMBEDDING = 256
BEFORE_ELEMENTS = 1 << 22


class Before(torch.autograd.Function):
    """The head by blocks of positions."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NE: torch.Tensor,
        weight_VE: torch.Tensor,
        targets_N: torch.Tensor,
        cast: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        num = max(1, BEFORE_ELEMENTS // len(weight_VE))
        logps_N, lse_N, entropy_N = (hidden_NE.new_empty(len(hidden_NE)) for _ in range(3))
        for start in range(0, len(hidden_NE), num):
            part = slice(start, start + num)
            logits_CV = (hidden_NE[part].to(cast) @ weight_VE.to(cast).T).float()
            lse_N[part] = logits_CV.logsumexp(-1)
            logps_N[part] = logits_CV.gather(-1, targets_N[part, None])[:, 0] - lse_N[part]
            logits_CV -= lse_N[part, None]
            entropy_N[part] = -(logits_CV.exp() * logits_CV).sum(-1)
        ctx.save_for_backward(hidden_NE, weight_VE, targets_N, lse_N)
        ctx.cast, ctx.num = cast, num
        return logps_N, entropy_N

    @staticmethod
    def backward(ctx: Any, grad_N: torch.Tensor, _: torch.Tensor) -> Any:
        hidden_NE, weight_VE, targets_N, lse_N = ctx.saved_tensors
        d_hidden, d_weight = torch.zeros_like(hidden_NE), torch.zeros_like(weight_VE)
        for start in range(0, len(hidden_NE), ctx.num):
            part = slice(start, start + ctx.num)
            logits_CV = (hidden_NE[part].to(ctx.cast) @ weight_VE.to(ctx.cast).T).float()
            probs_CV = (logits_CV - lse_N[part, None]).exp()
            grad_CV = torch.zeros_like(probs_CV)
            grad_CV -= grad_N[part, None] * probs_CV
            grad_CV.scatter_add_(-1, targets_N[part, None], grad_N[part, None])
            grad_CV = grad_CV.to(ctx.cast)
            d_hidden[part] = grad_CV @ weight_VE.to(ctx.cast)
            d_weight += grad_CV.T @ hidden_NE[part].to(ctx.cast)
        return d_hidden, d_weight, None, None


def plain(
    hidden_NE: torch.Tensor, weight_VE: torch.Tensor, targets_N: torch.Tensor, cast: torch.dtype
) -> torch.Tensor:
    """All logits at once."""
    logits_NV = (hidden_NE.to(cast) @ weight_VE.to(cast).T).float()
    return logits_NV.log_softmax(-1).gather(-1, targets_N[:, None])[:, 0]


def ways(cast: torch.dtype) -> dict[str, Callable[..., torch.Tensor]]:
    """Each way to the log-probabilities."""
    precision = None if cast == torch.float32 else cast
    return {
        "ours": lambda h, w, t: token_logprobs(
            h, Head(w, precision=precision), t, with_entropy=False
        )[0],
        "entropy": lambda h, w, t: token_logprobs(h, Head(w, precision=precision), t)[0],
        "before": lambda h, w, t: Before.apply(h, w, t, cast)[0],
        "plain": lambda h, w, t: plain(h, w, t, cast),
    }


def measured(vocab: int, num: int, cast: torch.dtype, rounds: int) -> dict[str, Any]:
    """CPU seconds of each way, and how far its gradient is from that of all logits at once."""
    torch.manual_seed(0)
    weight_VE = (torch.randn(vocab, EMBEDDING) * 0.06).requires_grad_()
    hidden_NE = torch.randn(num, EMBEDDING, requires_grad=True)
    targets_N, grad_N = torch.randint(0, vocab, (num,)), torch.randn(num)
    seconds: dict[str, float] = {}
    gradients: dict[str, torch.Tensor] = {}
    for _ in range(rounds):
        for name, way in ways(cast).items():
            weight_VE.grad = hidden_NE.grad = None
            begun = time.process_time()
            way(hidden_NE, weight_VE, targets_N).backward(grad_N)
            spent = time.process_time() - begun
            seconds[name] = min(spent, seconds.get(name, spent))
            assert weight_VE.grad is not None
            gradients[name] = weight_VE.grad
    largest = gradients["plain"].abs().max()
    return seconds | {
        "error": float((gradients["ours"] - gradients["plain"]).abs().max() / largest)
    }


def matmul_rate() -> float:
    """Floating-point operations a second of one large product."""
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    best = float("inf")
    for _ in range(10):
        begun = time.process_time()
        for _ in range(4):
            left @ right
        best = min(best, time.process_time() - begun)
    return 4 * 2 * 1024**3 / best


SMALL: dict[str, Any] = {
    "vocab_size": 32_768,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 1,
    "initializer_range": 0.1,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "own head": ("llama", {"tie_word_embeddings": False}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "tied, soft cap": ("gemma3_text", {"final_logit_softcapping": 5.0}),
    "adapters": ("llama", {"tie_word_embeddings": False}),
    "FSDP2, own head": ("llama", {"tie_word_embeddings": False}),
    "FSDP2, tied": ("llama", {"tie_word_embeddings": True}),
}
GRADIENT_BAR = 1e-6


def model_of(name: str) -> Any:
    """A model with random weights in float64, but for norms, which are in float32."""
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, changes = MODELS[name]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(SMALL | changes)))
    if name == "adapters":
        import peft

        adapters = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
        model = peft.get_peft_model(model, adapters)
        for key, weight in model.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(weight, std=0.1)
    return model.double()


def equality(name: str) -> float | None:
    """The largest difference of a gradient to plain autograd's; None but on the first process."""
    import numpy as np

    from oversight.modeling import TokenRow
    from oversight.modeling.scoring.policy import PolicyModel
    from oversight.modeling.scoring.trie import RowBatch
    from oversight.train.distributed import World, leave, shard

    rng = np.random.default_rng(0)
    prompt = rng.integers(2, SMALL["vocab_size"], 12)
    rows = [TokenRow(prompt, rng.integers(2, SMALL["vocab_size"], 40)) for _ in range(4)]
    plain_model = model_of(name)
    total = torch.zeros((), dtype=torch.float64)
    for number, row in enumerate(rows):
        ids = torch.from_numpy(row.ids())
        logits_TV = plain_model(input_ids=ids[None]).logits[0, len(prompt) - 1 : -1]
        picked_T = logits_TV.log_softmax(-1).gather(-1, ids[len(prompt) :, None])
        total = total + (number + 1) * picked_T.sum()
    total.backward()
    world = World.join(torch.device("cpu"))
    policy = PolicyModel(model_of(name), precision=torch.float64)
    shard(policy, world)
    factors_B = torch.arange(1, len(rows) + 1)[world.rank :: world.size]
    own = rows[world.rank :: world.size]
    world.exchange_gradients(policy, True)
    (policy(RowBatch.build(own)).logps_BR.sum(1) * factors_B).sum().backward()
    worst = 0.0
    wanted = {n: w.grad for n, w in plain_model.named_parameters() if w.grad is not None}
    for key, weight in policy.model.named_parameters():
        if key in wanted:
            grad: Any = weight.grad
            whole = grad.full_tensor() if hasattr(grad, "full_tensor") else grad
            worst = max(worst, float((whole - wanted[key]).abs().max() / wanted[key].abs().max()))
    leave()
    return worst if world.is_first else None


def print_equality() -> None:
    """A line a model; those that are split run under torchrun."""
    for name in MODELS:
        command = [sys.executable]
        if name.startswith("FSDP2"):
            command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command += [__file__, "--equality", "--only", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if not lines:
            raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
        error = float(lines[0].removeprefix("RESULT "))
        print(f"{name:<18} {error:.0e}  {'reached' if error <= GRADIENT_BAR else 'MISSED'}")


def print_memory(positions: int) -> None:
    """A line a vocabulary and precision, each way in a process of its own."""
    print(f"{'':<17} {'ours':>10} {'before':>10} {'plain':>10}")
    for cast in ("float32", "bfloat16"):
        for vocab in (2048, 32768, 131072):
            sizes = []
            for way in ("ours", "before", "plain"):
                command = [sys.executable, __file__, "--memory", "--only", f"{cast} {vocab} {way}"]
                command += ["--positions", str(positions)]
                environment = os.environ | {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
                done = subprocess.run(
                    command, env=environment, capture_output=True, text=True, check=True
                )
                sizes.append(json.loads(done.stdout.splitlines()[-1]))
            ours, before, plain_size = (size / 1e6 for size in sizes)
            missed = "" if ours <= before * 1.02 else "  MISSED"
            print(
                f"{cast:<9}{vocab:>7,} {ours:>7,.0f} MB {before:>7,.0f} MB {plain_size:>7,.0f} MB"
                f"{missed}",
                flush=True,
            )


def peak_of(what: str, positions: int) -> int:
    """Bytes that one way raises the high-water mark by."""
    import training_measure as measure

    cast, vocab, way = what.split()
    grad_N = torch.randn(positions)
    one = ways(getattr(torch, cast))[way]

    def run(size: int, num: int) -> None:
        weight_VE = (torch.randn(size, EMBEDDING) * 0.06).requires_grad_()
        hidden_NE = torch.randn(num, EMBEDDING, requires_grad=True)
        one(hidden_NE, weight_VE, torch.randint(0, size, (num,))).backward(grad_N[:num])

    run(64, 8)
    before = measure.resident()
    measure.forget_peak()
    run(int(vocab), positions)
    return measure.peak() - before


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--positions", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--equality", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--only", help="one line, in this process")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.equality and options.only:
        if (error := equality(options.only)) is not None:
            print(f"RESULT {error}", flush=True)
        return
    if options.memory and options.only:
        print(peak_of(options.only, options.positions))
        return
    if options.equality or options.memory:
        print_equality() if options.equality else print_memory(options.positions)
        return
    rate = matmul_rate()
    print(f"{options.positions} positions, {EMBEDDING} wide; matmul {rate / 1e9:.0f} GFLOP/s")
    print(
        f"{'':<16} {'ours':>8} {'+entropy':>9} {'before':>8} {'plain':>8} {'faster':>7} "
        f"{'of matmul':>10} {'gradient':>9}"
    )
    for cast, title in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
        for vocab in (2048, 32768, 131072):
            found = measured(vocab, options.positions, cast, options.rounds)
            bound = 8 * options.positions * vocab * EMBEDDING / rate
            print(
                f"{title:<9}{vocab:>7,} {found['ours']:>6.3f} s {found['entropy']:>7.3f} s "
                f"{found['before']:>6.3f} s {found['plain']:>6.3f} s "
                f"{found['before'] / found['ours']:>6.2f}× {bound / found['ours']:>9.0%} "
                f"{found['error']:>9.0e}",
                flush=True,
            )


if __name__ == "__main__":
    main()
