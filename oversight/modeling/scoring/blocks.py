"""Attention over a trie as dense blocks: no mask, no copy of a key, nothing computed in vain.

In the line of a trie, a run's tokens are seen by the run itself (causally) and
by all that stands below it, which are the places right behind it. So attention
is one causal block for each run, and one full block for each run that has
something below it. Where only the ends of runs ask (`Layout.tails`), those are
the queries, and a run's earlier tokens are one more full block for its end. The
outputs of a query's blocks are merged by their log-sum-exps. The backward pass
runs block by block with the merged output and log-sum-exp, from which each
block's share of the gradient follows exactly.

Sources: Dao et al., "FlashAttention", 2022, algorithms 1 and 4 (output and
gradient from the log-sum-exp); Liu et al., "Ring Attention", 2023 (blocks
computed apart and merged).

Shapes: T tokens of the line, Q queries among them, H query heads, K key heads, D head dimension.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from oversight.modeling import Ids
from oversight.modeling.scoring.trie import HeldPrefix, TokenTrie, TrieSegment

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def has_block_kernel(device: torch.device) -> bool:
    """Return whether the kernel that gives log-sum-exps runs on `device`."""
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


PIECE = 192
"""Tokens of the pieces that a run's causal block is cut into: in float32 the kernel computes keys
512 at a time, also those that no query of a causal block sees, and cutting saves these."""
PIECES = 1.5, 16
"""Runs of so many pieces are cut: shorter ones gain nothing, in longer ones little is in vain."""


def blocks_of(
    runs: tuple[TrieSegment, ...], tails: tuple[int, ...], *, in_pieces: bool = False
) -> tuple[Block, ...]:
    """The blocks, so that each query's causal block is the first it takes part in.

    Args:
        runs: Of the line.
        tails: For each run the first place that asks; those from there to its end are queries.
        in_pieces: Whether causal blocks are cut into a causal one for each `PIECE` tokens, side by
            side, and a full one of each piece with what stands before it.
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
    causal = [
        part for b in _causal(runs, tails, starts) for part in (_cut(b) if in_pieces else [b])
    ]
    blocks = [*causal, *full]
    return tuple(
        b for b in blocks if b.queries.start < b.queries.stop and b.keys.start < b.keys.stop
    )


def _causal(
    runs: tuple[TrieSegment, ...], tails: tuple[int, ...], starts: list[int]
) -> Iterator[Block]:
    """Each run's end with itself; neighbours in both lines and of one size in one call."""
    i = 0
    while i < len(runs):
        size, j = runs[i].stop - tails[i], i + 1
        while j < len(runs) and runs[j].stop - tails[j] == size and tails[j] == runs[j - 1].stop:
            j += 1
        keys = slice(tails[i], runs[j - 1].stop)
        yield Block(slice(starts[i], starts[j]), keys, causal=size > 1, num=j - i, first=True)
        i = j


def _cut(block: Block) -> Iterator[Block]:
    """A causal block, or several of one size, in pieces if that saves time."""
    size = (block.keys.stop - block.keys.start) // block.num
    if not PIECES[0] * PIECE <= size <= PIECES[1] * PIECE:
        yield block
        return
    for i in range(block.num):
        query, key = block.queries.start + i * size, block.keys.start + i * size
        whole = size - size % PIECE
        for start, stop in ((0, whole), (whole, size)):
            if start < stop:
                yield Block(
                    slice(query + start, query + stop),
                    slice(key + start, key + stop),
                    causal=stop - start > 1,
                    num=max(1, (stop - start) // PIECE),
                    first=True,
                )
        for start in range(PIECE, size, PIECE):
            asking = slice(query + start, query + min(start + PIECE, size))
            yield Block(asking, slice(key, key + start), causal=False)


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
    """Return the precision that sums are kept in: float32, or float64 where the model is."""
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


Pattern = Callable[[torch.Tensor], torch.Tensor]
"""From a layer's attention weights [H, Q, T] to those that are used."""


class Layout:
    """Visibility among the tokens of a line; masks are made when first asked for and kept.

    Args:
        trie: The line.
        device: Of the model.
        back_end: Which one attends.
        tails: For each run the first place that asks; None where every place does.
        held: Keys and values of the line's first tokens, computed before.
        offset: The number of these tokens; none of them asks.
    """

    def __init__(
        self,
        trie: TokenTrie,
        device: torch.device,
        back_end: str,
        tails: tuple[int, ...] | None = None,
        held: HeldPrefix | None = None,
        offset: int = 0,
    ) -> None:
        self.back_end = back_end
        self.runs: tuple[TrieSegment, ...] = trie.runs
        self.max_length = int(trie.positions_T.max()) + 1
        self.ends_T = torch.from_numpy(trie.ends_T).to(device)
        self.positions_T = torch.from_numpy(trie.positions_T).to(device)
        self.held, self.offset = held, offset
        if tails is None:
            tails = tuple(max(run.start, min(offset, run.stop)) for run in trie.runs)
        self.tails = tails
        self.ends: Layout | None = None
        """The same line with fewer places that ask: for the last layer, if it is cut."""
        self.patterns: dict[torch.nn.Module, Pattern] = {}
        """Attention modules whose weights are looked at."""
        self._masks: dict[int | None, Any] = {}

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The same as dense blocks."""
        return blocks_of(self.runs, self.tails)

    @cached_property
    def blocks_in_pieces(self) -> tuple[Block, ...]:
        """The same in pieces, for float32 and more: in less, sums would be rounded once more."""
        return blocks_of(self.runs, self.tails, in_pieces=True)

    @cached_property
    def places_T(self) -> torch.Tensor:
        """0 to T - 1."""
        return torch.arange(len(self.ends_T), device=self.ends_T.device)

    @cached_property
    def asking_Q(self) -> torch.Tensor:
        """The places that ask, in order."""
        return torch.from_numpy(asking(self.runs, self.tails)).to(self.ends_T.device)

    def visible(self, window: int | None) -> torch.Tensor:
        """Return the mask [Q, T] of keys that each query sees, at most `window` tokens back."""
        if window not in self._masks:
            query_Q1 = self.asking_Q[:, None]
            seen = (self.places_T <= query_Q1) & (query_Q1 < self.ends_T)
            if window is not None:
                seen &= self.positions_T > self.positions_T[query_Q1] - window
            self._masks[window] = seen
        mask: torch.Tensor = self._masks[window]
        return mask

    def block_mask(self, window: int | None) -> Any:
        """The same for FlexAttention, block by block."""
        from torch.nn.attention.flex_attention import create_block_mask

        if window not in self._masks:
            ends_T, positions_T, asking_Q = self.ends_T, self.positions_T, self.asking_Q

            def sees(
                batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor
            ) -> torch.Tensor:
                place = asking_Q[query]
                seen = (key <= place) & (place < ends_T[key])
                if window is not None:
                    seen = seen & (positions_T[key] > positions_T[place] - window)
                return seen

            self._masks[window] = create_block_mask(
                sees,
                B=None,
                H=None,
                Q_LEN=len(asking_Q),
                KV_LEN=len(ends_T),
                device=str(ends_T.device),
            )
        return self._masks[window]


def tails_of(runs: tuple[TrieSegment, ...], needed: Ids) -> tuple[int, ...]:
    """For each run its first place that is needed, or its end if none is.

    Args:
        runs: Of a line.
        needed: Places, in rising order.
    """
    firsts = np.searchsorted(needed, [run.start for run in runs])
    known = np.append(needed, np.iinfo(np.int64).max)
    return tuple(min(int(known[i]), run.stop) for i, run in zip(firsts, runs, strict=True))


def asking(runs: tuple[TrieSegment, ...], tails: tuple[int, ...]) -> Ids:
    """The places from each run's tail to its end."""
    parts = [np.arange(tail, run.stop) for run, tail in zip(runs, tails, strict=True)]
    return np.concatenate(parts)


def dense_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """Output [1, H, T, D] of queries [1, H, T, D] over keys and values [1, K, T, D]."""
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=layout.visible(window),
        scale=scale,
        enable_gqa=key.shape[1] != query.shape[1],
    )


def watched_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scale: float,
    window: int | None,
    pattern: Pattern,
) -> torch.Tensor:
    """Output [1, H, Q, D], all weights [H, Q, T] being made and given to `pattern` on the way."""
    num_groups = query.shape[1] // key.shape[1]
    keys, values = _for_every_head(key, num_groups), _for_every_head(value, num_groups)
    scores = (query[0] @ keys[0].transpose(1, 2)).to(_accurate(query)) * scale
    scores = scores.masked_fill(~layout.visible(window), float("-inf"))
    weights_HQT = pattern(scores.softmax(-1).to(query.dtype))
    return (weights_HQT @ values[0])[None]


def flex_attention_over(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """Output [1, H, T, D] of queries [1, H, T, D] over keys and values [1, K, T, D]."""
    output: torch.Tensor = _kernel()(
        query,
        key,
        value,
        block_mask=layout.block_mask(window),
        scale=scale,
        enable_gqa=key.shape[1] != query.shape[1],
    )
    return output


@cache
def _kernel() -> Any:
    """The compiled kernel, one for all lengths of a line."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)
