"""Attention over a trie as dense blocks: no mask, no copy of a key, nothing computed in vain.

In the line of a trie, a run's tokens are seen by the run itself (causally) and
by all that stands below it, which are the places right behind it. So attention
is one causal block for each run, and one full block for each run that has
something below it. Where only the ends of runs ask (`Layout.tails`), those are
the queries, and a run's earlier tokens are one more full block for its end. The
outputs of a query's blocks are merged by their log-sum-exps. The backward pass
runs block by block with the merged output and log-sum-exp, from which each
block's share of the gradient follows exactly.

IdSources: Dao et al., "FlashAttention", 2022, algorithms 1 and 4 (output and
gradient from the log-sum-exp); Liu et al., "Ring Attention", 2023 (blocks
computed apart and merged).

Shapes: T tokens of the line, Q queries among them, H query heads, K key heads, D head dimension.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from oversight.train.model.trie import Run

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def has_block_kernel(device: torch.device) -> bool:
    """Whether the kernel that gives log-sum-exps runs on `device`."""
    return device.type == "cpu"


@dataclass(frozen=True, slots=True)
class Block:
    """Queries and keys as stretches of the line; `num` causal blocks of one size side by side."""

    queries: slice
    keys: slice
    causal: bool
    num: int = 1
    first: bool = False
    """Its queries have taken part in no block before."""

    def cut(self, line_1HTD: torch.Tensor, part: slice) -> torch.Tensor:
        """The stretch `part` of a line as [num, H, T / num, D], without a copy."""
        stretch_1HtD = line_1HTD[:, :, part]
        if self.num == 1:
            return stretch_1HtD
        _, num_heads, _, size = stretch_1HtD.shape
        return stretch_1HtD[0].reshape(num_heads, self.num, -1, size).transpose(0, 1)


def blocks_of(runs: tuple[Run, ...], tails: tuple[int, ...]) -> tuple[Block, ...]:
    """The blocks, so that each query's causal block is the first it takes part in.

    Args:
        runs: Of the line.
        tails: For each run the first place that asks; those from there to its end are queries.
    """
    starts = [0]
    for run, tail in zip(runs, tails, strict=True):
        starts.append(starts[-1] + run.stop - tail)
    ends = [bisect_left(runs, run.stop_below, key=lambda other: other.start) for run in runs]
    full = []
    for i, (run, tail) in enumerate(zip(runs, tails, strict=True)):
        own, below = slice(starts[i], starts[i + 1]), slice(starts[i + 1], starts[ends[i]])
        full.append(Block(own, slice(run.start, tail), causal=False))
        full.append(Block(below, slice(run.start, run.stop), causal=False))
    blocks = [*_causal(runs, tails, starts), *full]
    return tuple(
        b for b in blocks if b.queries.start < b.queries.stop and b.keys.start < b.keys.stop
    )


def _causal(runs: tuple[Run, ...], tails: tuple[int, ...], starts: list[int]) -> Iterator[Block]:
    """Each run's end with itself; neighbours in both lines and of one size in one call."""
    i = 0
    while i < len(runs):
        size, j = runs[i].stop - tails[i], i + 1
        while j < len(runs) and runs[j].stop - tails[j] == size and tails[j] == runs[j - 1].stop:
            j += 1
        keys = slice(tails[i], runs[j - 1].stop)
        yield Block(slice(starts[i], starts[j]), keys, causal=size > 1, num=j - i, first=True)
        i = j


def _line(block_NHtD: torch.Tensor) -> torch.Tensor:
    """Blocks side by side as one stretch [1, H, N * t, ...]."""
    if len(block_NHtD) == 1:
        return block_NHtD
    return block_NHtD.transpose(0, 1).flatten(1, 2)[None]


class BlockAttention(torch.autograd.Function):
    """Output [1, H, Q, D] of queries [1, H, Q, D] over keys and values [1, K, T, D]."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        blocks: tuple[Block, ...],
        scale: float,
    ) -> torch.Tensor:
        """Attend block by block; keeps queries, keys, values, output and log-sum-exps."""
        num_groups = query.shape[1] // key.shape[1]
        keys, values = _for_every_head(key, num_groups), _for_every_head(value, num_groups)
        # Laid out as the model reads it: heads of a token side by side.
        num_heads, num_tokens, size = query.shape[1:]
        output = query.new_empty(1, num_tokens, num_heads, size).transpose(1, 2)
        lse_1HT = query.new_empty(query.shape[:3], dtype=_accurate(query))
        for block in blocks:
            q, k, v = (block.cut(query, block.queries), *_cut_keys(block, keys, values))
            part, part_lse = _forward(q, k, v, 0.0, block.causal, scale=scale)
            part, part_lse = _line(part), _line(part_lse)
            if block.first:
                output[:, :, block.queries] = part
                lse_1HT[:, :, block.queries] = part_lse
            else:
                _merge(output[:, :, block.queries], lse_1HT[:, :, block.queries], part, part_lse)
        ctx.save_for_backward(query, key, value, output, lse_1HT)
        ctx.blocks, ctx.scale = blocks, scale
        return output

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """The gradient of each block from the merged output and log-sum-exp."""
        query, key, value, output, lse_1HT = ctx.saved_tensors
        num_groups = query.shape[1] // key.shape[1]
        keys, values = _for_every_head(key, num_groups), _for_every_head(value, num_groups)
        exact = _accurate(query)
        grads = [torch.zeros_like(x, dtype=exact) for x in (query, keys, values)]
        for block in ctx.blocks:
            q, k, v = (block.cut(query, block.queries), *_cut_keys(block, keys, values))
            given = [block.cut(x, block.queries) for x in (grad, output, lse_1HT[..., None])]
            parts = _backward(
                given[0], q, k, v, given[1], given[2][..., 0], 0.0, block.causal, scale=ctx.scale
            )
            for total, part, stretch in zip(
                grads, parts, (block.queries, block.keys, block.keys), strict=True
            ):
                total[:, :, stretch] += _line(part)
        d_query, d_keys, d_values = (total.to(query.dtype) for total in grads)
        return d_query, _summed(d_keys, num_groups), _summed(d_values, num_groups), None, None


def _accurate(tensor: torch.Tensor) -> torch.dtype:
    """What sums are kept in: float32, or float64 where the model is."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _cut_keys(
    block: Block, keys: torch.Tensor, values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    return block.cut(keys, block.keys), block.cut(values, block.keys)


def _for_every_head(shared_1KTD: torch.Tensor, num_groups: int) -> torch.Tensor:
    """Keys or values copied for the query heads that share them, [1, H, T, D]."""
    return shared_1KTD if num_groups == 1 else shared_1KTD.repeat_interleave(num_groups, dim=1)


def _summed(grad_1HTD: torch.Tensor, num_groups: int) -> torch.Tensor:
    """The gradient of keys or values from those of their copies."""
    if num_groups == 1:
        return grad_1HTD
    _, _, num_tokens, size = grad_1HTD.shape
    return grad_1HTD.reshape(1, -1, num_groups, num_tokens, size).sum(2)


def _merge(
    output: torch.Tensor, lse: torch.Tensor, part: torch.Tensor, part_lse: torch.Tensor
) -> None:
    """Add to `output`, in place, what more keys contribute; log-sum-exps weigh the two.

    With a = exp(part_lse - both): output <- (1 - a) * output + a * part.
    """
    both = torch.logaddexp(lse, part_lse)
    output.lerp_(part, (part_lse - both).exp_().to(output.dtype)[..., None])
    lse.copy_(both)
