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
"""

from __future__ import annotations

import argparse
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--positions", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
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
