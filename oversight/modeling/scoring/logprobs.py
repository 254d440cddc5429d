"""Log-probabilities of given tokens from hidden states, without ever holding all logits.

The head is evaluated a chunk of positions at a time, in the model's precision,
and summed up in float32 (float64 where the model is). The backward pass
computes each chunk's logits once more instead of keeping them.

Shapes: N positions, C positions of a chunk, E hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

CHUNK_ELEMENTS = 1 << 22
"""Logits held at a time: 16 MiB in float32."""


@dataclass(frozen=True, slots=True)
class Head:
    """How logits come of hidden states: softcap(hidden @ weight.T + bias) / temperature."""

    weight_VE: torch.Tensor
    bias_V: torch.Tensor | None = None
    softcap: float | None = None
    """Logits are squashed to c * tanh(logits / c) (Gemma Team, "Gemma 2", 2024)."""
    scale: float = 1.0
    """Some models multiply their logits by a constant."""
    precision: torch.dtype | None = None
    """What the product is computed in, if not in that of the weight."""

    def logits(self, hidden_CE: torch.Tensor, temperature: float) -> torch.Tensor:
        """Logits [C, V] of the tempered distribution, in at least float32."""
        product = torch.nn.functional.linear(
            self.cast(hidden_CE), self.cast(self.weight_VE), self.cast(self.bias_V)
        )
        logits = product.to(torch.promote_types(product.dtype, torch.float32))
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits if temperature == 1.0 else logits / temperature

    def cast(self, tensor: torch.Tensor | None) -> Any:
        """A factor of the product in the precision that it is computed in."""
        if tensor is None:
            return None
        return tensor.to(self.weight_VE.dtype if self.precision is None else self.precision)


def token_logprobs(
    hidden_NE: torch.Tensor,
    head: Head,
    targets_N: torch.Tensor,
    *,
    temperature: float = 1.0,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability [N] of each target, and entropy [N] in nats of each distribution.

    Both are of the distribution at `temperature`, which is the one sampled from, and both
    have a gradient.

    Args:
        hidden_NE: What the model's last layer gives at the place before each target.
        head: The model's head.
        targets_N: Token ids.
        temperature: Above 0.
        chunk_elements: Logits held at a time.
    """
    chunk = max(1, chunk_elements // head.weight_VE.shape[0])
    logps_N, entropies_N = _TokenLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden_NE, head.weight_VE, head.bias_V, targets_N, head, temperature, chunk
    )
    return logps_N, entropies_N


@torch.no_grad()
def log_sum_sq_probs(
    hidden_NE: torch.Tensor,
    head: Head,
    *,
    temperature: float = 1.0,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> torch.Tensor:
    """log sum_v p(v)^2 [N] of each distribution, without gradient: how sure the model is.

    The expected probability of a token that is drawn from it (Zhou et al. 2024,
    arXiv:2406.11827). Arguments as of `token_logprobs`.
    """
    exact = torch.promote_types(hidden_NE.dtype, torch.float32)
    found_N = hidden_NE.new_empty(len(hidden_NE), dtype=exact)
    for part in _chunks(len(hidden_NE), max(1, chunk_elements // head.weight_VE.shape[0])):
        logps_CV = head.logits(hidden_NE[part], temperature).log_softmax(-1)
        found_N[part] = torch.logsumexp(2.0 * logps_CV, dim=-1)
    return found_N


class _TokenLogprobs(torch.autograd.Function):
    """The two outputs of `token_logprobs` with a backward pass that works chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NE: torch.Tensor,
        weight_VE: torch.Tensor,
        bias_V: torch.Tensor | None,
        targets_N: torch.Tensor,
        head: Head,
        temperature: float,
        chunk: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        exact = torch.promote_types(hidden_NE.dtype, torch.float32)
        logps_N = hidden_NE.new_empty(len(hidden_NE), dtype=exact)
        lse_N, entropies_N = torch.empty_like(logps_N), torch.empty_like(logps_N)
        for part in _chunks(len(hidden_NE), chunk):
            logits_CV = head.logits(hidden_NE[part], temperature)
            lse_N[part] = torch.logsumexp(logits_CV, dim=-1)
            chosen_C1 = logits_CV.gather(-1, targets_N[part, None])
            logps_N[part] = chosen_C1[:, 0] - lse_N[part]
            logits_CV -= lse_N[part, None]
            entropies_N[part] = _entropy(logits_CV, logits_CV.exp())
        ctx.save_for_backward(hidden_NE, weight_VE, bias_V, targets_N, lse_N, entropies_N)
        ctx.head, ctx.temperature, ctx.chunk = head, temperature, chunk
        ctx.set_materialize_grads(False)
        return logps_N, entropies_N

    @staticmethod
    def backward(ctx: Any, grad_N: torch.Tensor | None, grad_entropy_N: torch.Tensor | None) -> Any:
        hidden_NE, weight_VE, bias_V, targets_N, lse_N, entropies_N = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.zeros_like(hidden_NE) if wants_hidden else None
        d_weight = torch.zeros_like(weight_VE, dtype=lse_N.dtype) if wants_weight else None
        d_bias = torch.zeros_like(bias_V, dtype=lse_N.dtype) if wants_bias else None
        for part in _chunks(len(hidden_NE), ctx.chunk):
            tempered_CV = ctx.head.logits(hidden_NE[part], ctx.temperature)
            grad_CV = _grad_of_logits(
                tempered_CV - lse_N[part, None],
                targets_N[part],
                None if grad_N is None else grad_N[part],
                None if grad_entropy_N is None else grad_entropy_N[part],
                entropies_N[part],
            )
            grad_CV = _through_head(grad_CV, tempered_CV, ctx.head, ctx.temperature)
            if d_bias is not None:
                d_bias += grad_CV.sum(0)
            grad_CV = ctx.head.cast(grad_CV)
            if d_hidden is not None:
                d_hidden[part] = grad_CV @ ctx.head.cast(weight_VE)
            if d_weight is not None:
                d_weight += grad_CV.T @ ctx.head.cast(hidden_NE[part])
        return d_hidden, _like(d_weight, weight_VE), _like(d_bias, bias_V), None, None, None, None


def _like(total: torch.Tensor | None, parameter: torch.Tensor | None) -> torch.Tensor | None:
    return None if total is None or parameter is None else total.to(parameter.dtype)


def _chunks(size: int, chunk: int) -> Iterator[slice]:
    for start in range(0, size, chunk):
        yield slice(start, start + chunk)


def _entropy(logps_CV: torch.Tensor, probs_CV: torch.Tensor) -> torch.Tensor:
    """-sum p log p; a token of probability 0 adds nothing, though its log is minus infinity."""
    return -(probs_CV * logps_CV.clamp_min(torch.finfo(logps_CV.dtype).min)).sum(-1)


def _grad_of_logits(
    logps_CV: torch.Tensor,
    targets_C: torch.Tensor,
    grad_C: torch.Tensor | None,
    grad_entropy_C: torch.Tensor | None,
    entropies_C: torch.Tensor,
) -> torch.Tensor:
    """d logp / d logits = onehot - p;  d entropy / d logits = -p (log p + entropy)."""
    probs_CV = logps_CV.exp()
    total_CV = torch.zeros_like(probs_CV)
    if grad_entropy_C is not None:
        finite_CV = logps_CV.clamp_min(torch.finfo(logps_CV.dtype).min)
        total_CV -= grad_entropy_C[:, None] * probs_CV * (finite_CV + entropies_C[:, None])
    if grad_C is not None:
        total_CV -= grad_C[:, None] * probs_CV
        total_CV.scatter_add_(-1, targets_C[:, None], grad_C[:, None])
    return total_CV


def _through_head(
    grad_CV: torch.Tensor, tempered_CV: torch.Tensor, head: Head, temperature: float
) -> torch.Tensor:
    """The gradient of hidden @ weight.T + bias from that of the tempered logits."""
    if temperature != 1.0:
        grad_CV = grad_CV / temperature
    if head.softcap is not None:
        squashed_CV = tempered_CV * (temperature / head.softcap)
        grad_CV = grad_CV * (1.0 - squashed_CV.square())
    return grad_CV if head.scale == 1.0 else grad_CV * head.scale
