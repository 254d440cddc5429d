"""Log-probabilities of given tokens from hidden states, without ever holding all logits.

The head is evaluated block by block: some tokens of the vocabulary for some positions at a time, in
the model's precision, and summed up in float32 (float64 where the model is). Blocks of the
vocabulary are the outer loop, so each row of the weight is read (and cast, in lower precision) once
a pass, and its gradient is written once: time and memory traffic are linear in the vocabulary,
however many positions there are. The backward pass computes each block's logits once more instead
of keeping them.

Shapes: N positions, C positions of a block, E hidden size, V vocabulary, W tokens of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

BLOCK_TOKENS = 4096
"""Tokens of the vocabulary in a block, at most."""
BLOCK_ELEMENTS = 1 << 20
"""Logits held at a time on a CPU: 4 MiB in float32, about what its caches hold."""
BLOCK_ELEMENTS_OF_DEVICES = 1 << 26
"""Logits held at a time on an accelerator, which is idle with less."""


@dataclass(frozen=True, slots=True)
class Head:
    """The map from hidden states to logits: softcap(hidden @ weight.T + bias) / temperature."""

    weight_VE: torch.Tensor
    bias_V: torch.Tensor | None = None
    softcap: float | None = None
    """Logits are squashed to c * tanh(logits / c) (Gemma Team, "Gemma 2", 2024)."""
    scale: float = 1.0
    """Some models multiply their logits by a constant."""
    precision: torch.dtype | None = None
    """Data type of the product; None for that of the weight."""

    @classmethod
    def of(cls, model: Any, precision: torch.dtype | None = None) -> Head:
        """The head of a causal language model of transformers."""
        layer = model.get_output_embeddings()
        config = model.config.get_text_config()
        return cls(
            layer.weight,
            getattr(layer, "bias", None),
            getattr(config, "final_logit_softcapping", None),
            _logit_scale(config),
            precision,
        )

    def logits(
        self, hidden_CE: torch.Tensor, temperature: float, block: slice = slice(None)
    ) -> torch.Tensor:
        """Logits [C, W] of the tempered distribution, in at least float32.

        Args:
            hidden_CE: Hidden states.
            temperature: Above 0.
            block: The tokens of the vocabulary whose logits are wanted.
        """
        weight_WE, bias_W = self.cast(self.weight_VE[block]), self.bias_of(block)
        return self.logits_of(self.cast(hidden_CE), weight_WE, bias_W, temperature)

    def logits_of(
        self,
        hidden_CE: torch.Tensor,
        weight_WE: torch.Tensor,
        bias_W: torch.Tensor | None,
        temperature: float,
    ) -> torch.Tensor:
        """Logits [C, W] of factors that are in the product's precision already."""
        product_CW = torch.nn.functional.linear(hidden_CE, weight_WE, bias_W)
        logits_CW = product_CW.to(torch.promote_types(product_CW.dtype, torch.float32))
        if self.scale != 1.0:
            logits_CW *= self.scale
        if self.softcap is not None:
            logits_CW.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits_CW if temperature == 1.0 else logits_CW.div_(temperature)

    def bias_of(self, block: slice) -> torch.Tensor | None:
        """The bias [W] of a block, in the precision of the product."""
        return None if self.bias_V is None else self.cast(self.bias_V[block])

    def cast(self, tensor: torch.Tensor) -> torch.Tensor:
        """A factor of the product in the precision that it is computed in."""
        return tensor.to(self.weight_VE.dtype if self.precision is None else self.precision)


def _logit_scale(config: Any) -> float:
    """The constant that the model multiplies its logits by."""
    if (scale := getattr(config, "logit_scale", None)) is not None:
        return float(scale)
    if (scaling := getattr(config, "logits_scaling", None)) is not None:
        return 1.0 / float(scaling)
    return 1.0


def token_logprobs(
    hidden_NE: torch.Tensor,
    head: Head,
    targets_N: torch.Tensor,
    *,
    temperature: float = 1.0,
    with_entropy: bool = True,
    block_elements: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probability [N] of each target, and entropy [N] in nats of each distribution.

    Both are of the distribution at `temperature`, which is the one sampled from, and both
    have a gradient.

    Args:
        hidden_NE: Output of the model's last layer at the place before each target.
        head: The model's head.
        targets_N: Token ids.
        temperature: Above 0.
        with_entropy: Whether the entropy is computed; else it is None.
        block_elements: Logits held at a time; by default what suits the device.
    """
    blocks = _Blocks.of(hidden_NE, head, block_elements)
    logps_N, entropies_N = _TokenLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden_NE, head.weight_VE, head.bias_V, targets_N, head, temperature, blocks, with_entropy
    )
    return logps_N, entropies_N


@torch.no_grad()
def log_sum_sq_probs(
    hidden_NE: torch.Tensor,
    head: Head,
    *,
    temperature: float = 1.0,
    block_elements: int | None = None,
) -> torch.Tensor:
    """log sum_v p(v)^2 [N] of each distribution, without gradient: how sure the model is.

    The expected probability of a token that is drawn from it (Zhou et al. 2024,
    arXiv:2406.11827). Arguments as of `token_logprobs`.
    """
    sums = _Sums(hidden_NE, squares=True)
    for part, _, logits_CW in _logits(
        hidden_NE, head, temperature, _Blocks.of(hidden_NE, head, block_elements)
    ):
        sums.add(part, logits_CW)
    assert sums.squares_N is not None
    return sums.squares_N.log() - 2.0 * sums.total_N.log()


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Division of the logits [N, V] into blocks."""

    num_positions: int
    num_tokens: int

    @staticmethod
    def of(hidden_NE: torch.Tensor, head: Head, elements: int | None) -> _Blocks:
        """Blocks of at most `elements` logits, or of as many as suit the device."""
        if elements is None:
            on_cpu = hidden_NE.device.type == "cpu"
            elements = BLOCK_ELEMENTS if on_cpu else BLOCK_ELEMENTS_OF_DEVICES
        num_tokens = min(head.weight_VE.shape[0], BLOCK_TOKENS, elements)
        return _Blocks(max(1, elements // num_tokens), num_tokens)


def _logits(
    hidden_NE: torch.Tensor, head: Head, temperature: float, blocks: _Blocks
) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """Positions, tokens and their logits [C, W], block by block."""
    cast_NE = head.cast(hidden_NE)
    for block in _parts(head.weight_VE.shape[0], blocks.num_tokens):
        weight_WE, bias_W = head.cast(head.weight_VE[block]), head.bias_of(block)
        for part in _parts(len(hidden_NE), blocks.num_positions):
            yield part, block, head.logits_of(cast_NE[part], weight_WE, bias_W, temperature)


class _Sums:
    """Sums over the vocabulary of exp(logit - largest logit so far), and of terms with it.

    Only differences to the largest logit are weighted with exp, so nothing overflows and no
    two large numbers are subtracted (Milakov and Gimelshein 2018, arXiv:1805.02867).
    """

    def __init__(
        self, hidden_NE: torch.Tensor, *, entropy: bool = False, squares: bool = False
    ) -> None:
        exact = torch.promote_types(hidden_NE.dtype, torch.float32)
        zeros_N = hidden_NE.new_zeros(len(hidden_NE), dtype=exact)
        self.smallest = torch.finfo(exact).min
        self.largest_N = torch.full_like(zeros_N, self.smallest)
        self.total_N = zeros_N
        self.weighted_N = zeros_N.clone() if entropy else None
        self.squares_N = zeros_N.clone() if squares else None

    def add(self, part: slice, logits_CW: torch.Tensor) -> None:
        """Add a block's logits, which are overwritten."""
        before_C, total_C = self.largest_N[part], self.total_N[part]
        largest_C = torch.maximum(before_C, logits_CW.amax(-1))
        less_CW = logits_CW.sub_(largest_C[:, None])
        less_C = before_C - largest_C
        kept_C = less_C.exp()
        exp_CW = less_CW.exp()
        if self.weighted_N is not None:
            # A token of probability 0 adds nothing, though its logit is minus infinity.
            added_C = less_CW.clamp_min_(self.smallest).mul_(exp_CW).sum(-1)
            moved_C = self.weighted_N[part] + total_C * less_C.clamp_min(self.smallest)
            self.weighted_N[part] = kept_C * moved_C + added_C
        self.total_N[part] = kept_C * total_C + exp_CW.sum(-1)
        if self.squares_N is not None:
            squares_C = kept_C.square() * self.squares_N[part]
            self.squares_N[part] = squares_C + exp_CW.square_().sum(-1)
        self.largest_N[part] = largest_C


class _TokenLogprobs(torch.autograd.Function):
    """The two outputs of `token_logprobs` with a backward pass that works block by block."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NE: torch.Tensor,
        weight_VE: torch.Tensor,
        bias_V: torch.Tensor | None,
        targets_N: torch.Tensor,
        head: Head,
        temperature: float,
        blocks: _Blocks,
        with_entropy: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        sums = _Sums(hidden_NE, entropy=with_entropy)
        chosen_N = torch.zeros_like(sums.total_N)
        for part, block, logits_CW in _logits(hidden_NE, head, temperature, blocks):
            within_C, at_C1 = _targets_in(targets_N[part], block)
            found_C = logits_CW.gather(-1, at_C1)[:, 0]
            chosen_N[part] = torch.where(within_C, found_C, chosen_N[part])
            sums.add(part, logits_CW)
        log_total_N = sums.total_N.log()
        logps_N = chosen_N - sums.largest_N - log_total_N
        entropies_N = None
        if sums.weighted_N is not None:
            entropies_N = log_total_N - sums.weighted_N / sums.total_N
        ctx.save_for_backward(
            hidden_NE, weight_VE, bias_V, targets_N, sums.largest_N + log_total_N, entropies_N
        )
        ctx.head, ctx.temperature, ctx.blocks = head, temperature, blocks
        ctx.set_materialize_grads(False)
        return logps_N, entropies_N

    @staticmethod
    def backward(ctx: Any, grad_N: torch.Tensor | None, grad_entropy_N: torch.Tensor | None) -> Any:
        hidden_NE, weight_VE, bias_V, targets_N, lse_N, entropies_N = ctx.saved_tensors
        head, blocks = ctx.head, ctx.blocks
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        exact = lse_N.dtype
        cast_NE = head.cast(hidden_NE)
        d_hidden = torch.zeros_like(hidden_NE, dtype=exact) if wants_hidden else None
        # Without positions nothing overwrites it.
        empty = torch.empty_like if len(hidden_NE) else torch.zeros_like
        d_weight = empty(weight_VE) if wants_weight else None
        d_bias = torch.zeros_like(bias_V, dtype=exact) if wants_bias else None
        for block in _parts(len(weight_VE), blocks.num_tokens):
            weight_WE, bias_W = head.cast(weight_VE[block]), head.bias_of(block)
            total_WE = _total_of(d_weight, block, exact)
            for part in _parts(len(hidden_NE), blocks.num_positions):
                tempered_CW = head.logits_of(cast_NE[part], weight_WE, bias_W, ctx.temperature)
                grad_CW = _grad_of_logits(
                    tempered_CW,
                    lse_N[part],
                    _targets_in(targets_N[part], block),
                    None if grad_N is None else grad_N[part],
                    None if grad_entropy_N is None else (grad_entropy_N[part], entropies_N[part]),
                    ctx.temperature,
                    head,
                )
                if d_bias is not None:
                    d_bias[block] += grad_CW.sum(0)
                grad_CW = head.cast(grad_CW)
                if d_hidden is not None:
                    _add_product(d_hidden[part], grad_CW, weight_WE)
                if total_WE is not None:
                    _add_product(total_WE, grad_CW.T, cast_NE[part], first=not part.start)
            if d_weight is not None and total_WE is not None and d_weight.dtype != exact:
                d_weight[block] = total_WE
        return (
            None if d_hidden is None else d_hidden.to(hidden_NE.dtype),
            d_weight,
            None if d_bias is None else d_bias.to(bias_V.dtype),
            *(None,) * 5,
        )


def _parts(size: int, num: int) -> Iterator[slice]:
    for start in range(0, size, num):
        yield slice(start, min(start + num, size))


def _targets_in(targets_C: torch.Tensor, block: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a mask of the targets [C] in a block, and their places [C, 1], 0 for the others."""
    at_C = targets_C - block.start
    within_C = (at_C >= 0) & (targets_C < block.stop)
    return within_C, torch.where(within_C, at_C, 0)[:, None]


def _total_of(
    d_weight: torch.Tensor | None, block: slice, exact: torch.dtype
) -> torch.Tensor | None:
    """Return where a block's gradient is summed up: in its place, if that is precise enough."""
    if d_weight is None:
        return None
    in_place = d_weight[block]
    return in_place if d_weight.dtype == exact else torch.empty_like(in_place, dtype=exact)


def _add_product(
    total: torch.Tensor, left: torch.Tensor, right: torch.Tensor, *, first: bool = False
) -> None:
    """total += left @ right, in one pass where both are of one precision; `first` overwrites."""
    if left.dtype != total.dtype:
        product = left @ right
        total.copy_(product) if first else total.add_(product)
    elif first:
        torch.mm(left, right, out=total)
    else:
        total.addmm_(left, right)


def _grad_of_logits(
    tempered_CW: torch.Tensor,
    lse_C: torch.Tensor,
    targets: tuple[torch.Tensor, torch.Tensor],
    grad_C: torch.Tensor | None,
    entropy: tuple[torch.Tensor, torch.Tensor] | None,
    temperature: float,
    head: Head,
) -> torch.Tensor:
    """Gradient [C, W] of hidden @ weight.T + bias, in the memory of the logits where possible.

    d logp / d logits = onehot - p;  d entropy / d logits = -p (log p + entropy).
    """
    slope_CW = None
    if head.softcap is not None:
        slope_CW = (tempered_CW * (temperature / head.softcap)).square_().neg_().add_(1.0)
    logps_CW = tempered_CW.sub_(lse_C[:, None])
    if entropy is not None:
        grad_entropy_C, entropies_C = entropy
        # Of a token of probability 0 nothing is left, though its logit is minus infinity.
        factor_CW = logps_CW.clamp_min(torch.finfo(logps_CW.dtype).min)
        factor_CW.add_(entropies_C[:, None]).mul_(-grad_entropy_C[:, None])
        if grad_C is not None:
            factor_CW -= grad_C[:, None]
        total_CW = logps_CW.exp_().mul_(factor_CW)
    elif grad_C is not None:
        total_CW = logps_CW.exp_().mul_(-grad_C[:, None])
    else:
        total_CW = logps_CW.zero_()
    if grad_C is not None:
        within_C, at_C1 = targets
        total_CW.scatter_add_(-1, at_C1, torch.where(within_C, grad_C, 0.0)[:, None])
    if slope_CW is not None:
        total_CW *= slope_CW
    factor = head.scale / temperature
    return total_CW if factor == 1.0 else total_CW.mul_(factor)
