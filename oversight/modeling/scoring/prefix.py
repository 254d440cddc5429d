"""A beginning that many rows share, computed once for parts of them that are computed in turn.

The keys and values of the beginning are leaves: each part's backward pass adds to their gradients,
and when all parts are through, one backward pass goes through the beginning itself. So a group of
responses is cut without its prompt being computed anew, and gradients are those of the whole group
but for the order of sums.

A beginning that fits into memory beside a part keeps its graph. A longer one is computed in
segments without a graph, and each once more when its gradient is known.

Shapes: T tokens of the line, P tokens of the beginning, K key heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from oversight.modeling.rows import Ids, TokenRow
from oversight.modeling.scoring.trie import common_prefix

KEPT_SHARE = 2
"""A beginning keeps its graph up to this part (one half) of the tokens computed at once."""

KeysValues = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Cut:
    """A group of rows in parts that share what all of them begin with."""

    num_shared: int
    """Tokens of the beginning, at none of which a row is read."""
    parts: list[list[int]]
    """Numbers of rows that are computed together."""
    num_tokens: int
    """The most that is held at a time."""


def cut(rows: Sequence[TokenRow], max_tokens: int, *, holds: bool = True) -> Cut:
    """The parts of rows in which at most `max_tokens` are computed at once, where possible.

    A row is not cut but for what it shares. Which rows come together depends on them alone.

    Args:
        rows: Of a group.
        max_tokens: Of a part and what is held beside it.
        holds: Whether what all rows begin with is held, or is a part of each part.
    """
    ids = [row.ids() for row in rows]
    shared = min(len(row.prompt_ids) for row in rows) - 1 if holds else 0
    for each in ids[1:] if shared else ():
        shared = min(shared, common_prefix(ids[0], each))
    kept = shared if shared * KEPT_SHARE <= max_tokens else 0
    parts: list[list[int]] = []
    size = most = 0
    before: Ids | None = None
    for i in sorted(range(len(rows)), key=lambda i: (ids[i].astype(">i8").tobytes(), i)):
        alone = len(ids[i]) - shared
        own = alone if before is None else len(ids[i]) - max(shared, common_prefix(before, ids[i]))
        if not parts or kept + size + own > max_tokens:
            parts.append([])
            size, own = 0, alone
        parts[-1].append(i)
        size += own
        most = max(most, kept + size)
        before = ids[i]
    return Cut(shared, parts, most if kept else max(most, min(shared, max_tokens)))


class HeldPrefix:
    """Keys and values of a beginning, layer by layer, as leaves in which gradients gather.

    Args:
        ids: The beginning.
        compute: Runs the model's layers over tokens [start, stop) of it.
    """

    def __init__(self, ids: Ids, compute: Callable[[HeldPrefix, int, int], None]) -> None:
        self.ids = ids
        self._compute = compute
        self._leaves: dict[torch.nn.Module, list[KeysValues]] = {}
        self._new: dict[torch.nn.Module, KeysValues] | None = None
        self._segments: list[tuple[int, int]] = []
        self._graph: dict[torch.nn.Module, KeysValues] | None = None
        """Keys and values of a lone segment, with their graph."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the beginning."""
        return len(self.ids)

    def begin(self, max_tokens: int) -> None:
        """Compute the beginning; with its graph if it leaves room for a part beside it."""
        keeps = self.num_tokens * KEPT_SHARE <= max_tokens
        num = 1 if keeps else -(-self.num_tokens // max_tokens)
        borders = np.linspace(0, self.num_tokens, num + 1).astype(int).tolist()
        for start, stop in pairwise(borders):
            with torch.set_grad_enabled(keeps and torch.is_grad_enabled()):
                new = self._segment(start, stop)
            self._segments.append((start, stop))
            if keeps and torch.is_grad_enabled():
                self._graph = new
            for module, pair in new.items():
                key, value = (_leaf(each) for each in pair)
                self._leaves.setdefault(module, []).append((key, value))

    def _segment(self, start: int, stop: int) -> dict[torch.nn.Module, KeysValues]:
        new: dict[torch.nn.Module, KeysValues] = {}
        self._new = new
        try:
            self._compute(self, start, stop)
        finally:
            self._new = None
        return new

    def joined(self, module: torch.nn.Module, key: torch.Tensor, value: torch.Tensor) -> KeysValues:
        """A layer's keys and values [1, K, T, D] behind those of the beginning.

        Raises:
            ValueError: One attention layer is called twice in one pass.
        """
        if self._new is not None:
            if module in self._new:
                raise ValueError("an attention layer is called twice in one pass")
            self._new[module] = (key, value)
        before = self._leaves.get(module)
        if not before:
            return key, value
        keys = torch.cat([*(k.to(key.dtype) for k, _ in before), key], dim=2)
        values = torch.cat([*(v.to(value.dtype) for _, v in before), value], dim=2)
        return keys, values

    def backward(self) -> None:
        """Give the gradients that have gathered on to the weights, from the last segment back."""
        while self._segments:
            start, stop = self._segments.pop()
            leaves = {module: pairs.pop() for module, pairs in self._leaves.items()}
            found = self._graph if self._graph is not None else self._segment(start, stop)
            self._graph = None
            outputs, grads = [], []
            for module, pair in found.items():
                for output, leaf in zip(pair, leaves[module], strict=True):
                    if output.requires_grad and leaf.grad is not None:
                        outputs.append(output)
                        grads.append(leaf.grad.to(output.dtype))
            if outputs:
                torch.autograd.backward(outputs, grads)


def _leaf(computed: torch.Tensor) -> torch.Tensor:
    """A copy that gathers gradients, in at least float32 as sums are."""
    exact = torch.promote_types(computed.dtype, torch.float32)
    return computed.detach().to(exact).requires_grad_(torch.is_grad_enabled())


class ScoredInParts(torch.autograd.Function):
    """Scores of rows [B, ...] whose backward pass computes each part of them once more.

    The gradients of the weights go where a pass of its own puts them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        anchor: torch.Tensor,
        scored: Callable[[list[int]], torch.Tensor],
        parts: list[list[int]],
    ) -> torch.Tensor:
        """Scores of all parts; of response tokens, padded to the longest response."""
        found = [scored(numbers) for numbers in parts]
        shape = [max(each.shape[dim] for each in found) for dim in range(1, found[0].dim())]
        whole = found[0].new_zeros(sum(map(len, parts)), *shape)
        for numbers, part in zip(parts, found, strict=True):
            whole[_rows(numbers, part.shape)] = part
        ctx.scored, ctx.parts, ctx.shapes = scored, parts, [each.shape for each in found]
        return whole

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        """Part by part."""
        for numbers, shape in zip(ctx.parts, ctx.shapes, strict=True):
            with torch.enable_grad():
                part = ctx.scored(numbers)
            if part.requires_grad:
                torch.autograd.backward(part, grad[_rows(numbers, shape)])
        return None, None, None


def _rows(numbers: list[int], shape: torch.Size) -> tuple[Any, ...]:
    """The index of some rows in a tensor whose further dimensions may be larger."""
    return numbers, *(slice(0, size) for size in shape[1:])
