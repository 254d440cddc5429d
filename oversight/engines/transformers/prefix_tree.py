"""Keys and values of earlier prompts and answers, kept as a tree over their token ids.

Prompts of one debate share their first parts, and so do the prompts of both
debaters and of all candidates of one turn: a shared part is kept once. A node
is a run of tokens with its keys and values; paths from the root are the token
sequences seen. The least recently used ends are dropped first (Zheng et al.,
"SGLang: Efficient Execution of Structured Language Model Programs", 2024).

Shapes: H heads, T tokens, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from oversight.chat.prompt_ids import TokenIds

LayersKV = list[tuple[torch.Tensor, torch.Tensor]]
"""For each layer its keys and values, each of shape [H, T, D]."""


def common_prefix(left: TokenIds, right: TokenIds) -> int:
    """Return the number of first tokens that both share."""
    length = min(len(left), len(right))
    differs = left[:length] != right[:length]
    return int(differs.argmax()) if differs.any() else length


@dataclass(eq=False)
class Node:
    """A run of tokens that follows its parent's."""

    token_ids: TokenIds
    kv: LayersKV
    parent: Node | None
    children: dict[int, Node] = field(default_factory=dict)
    """By the first token of each."""
    last_used: int = 0

    def adopt(self, child: Node) -> None:
        """Make `child` follow this run."""
        child.parent = self
        self.children[int(child.token_ids[0])] = child


@dataclass(frozen=True)
class Prefix:
    """The longest kept beginning of a prompt: runs in order, and how much of each is shared."""

    length: int
    runs: tuple[tuple[Node, int], ...]


class PrefixTree:
    """At most `capacity` tokens of keys and values, found again by token ids.

    Not safe for use by several threads.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.num_tokens = 0
        self._clock = 0
        self._root = Node(np.empty(0, np.int64), [], None)

    def match(self, token_ids: TokenIds) -> Prefix:
        """The longest beginning of `token_ids` that is kept; its runs count as used now."""
        self._clock += 1
        node, position, runs = self._root, 0, []
        while position < len(token_ids):
            child = node.children.get(int(token_ids[position]))
            if child is None:
                break
            shared = common_prefix(child.token_ids, token_ids[position:])
            child.last_used = self._clock
            runs.append((child, shared))
            position += shared
            if shared < len(child.token_ids):
                break
            node = child
        return Prefix(position, tuple(runs))

    def insert(self, token_ids: TokenIds, read: Callable[[int, int], LayersKV]) -> None:
        """Keep a sequence, as much of its beginning as fits.

        Args:
            token_ids: The whole sequence.
            read: Gives copies of its keys and values from a start up to an end position.
        """
        token_ids = token_ids[: self.capacity]
        prefix = self.match(token_ids)
        if prefix.length == len(token_ids):
            return
        self._evict(self.capacity - (len(token_ids) - prefix.length))
        # The sequence's own path was used last, so that it is still there, but for the case
        # that it alone did not leave enough room.
        prefix = self.match(token_ids)
        parent = self._branch_point(prefix)
        end = min(len(token_ids), prefix.length + self.capacity - self.num_tokens)
        if end > prefix.length:
            node = Node(token_ids[prefix.length : end].copy(), read(prefix.length, end), parent)
            node.last_used = self._clock
            parent.adopt(node)
            self.num_tokens += len(node.token_ids)

    def clear(self) -> None:
        """Forget everything."""
        self._root.children.clear()
        self.num_tokens = 0

    def _branch_point(self, prefix: Prefix) -> Node:
        """The node that ends where `prefix` does, made by cutting a run in two if need be."""
        if not prefix.runs:
            return self._root
        node, shared = prefix.runs[-1]
        return node if shared == len(node.token_ids) else _split(node, shared)

    def _evict(self, num_tokens: int) -> None:
        """Drop the least recently used ends until at most `num_tokens` are kept."""
        while self.num_tokens > num_tokens:
            leaf = min(self._leaves(), key=lambda node: node.last_used)
            assert leaf.parent is not None
            del leaf.parent.children[int(leaf.token_ids[0])]
            self.num_tokens -= len(leaf.token_ids)

    def _leaves(self) -> list[Node]:
        found, open_nodes = [], list(self._root.children.values())
        while open_nodes:
            node = open_nodes.pop()
            open_nodes.extend(node.children.values())
            if not node.children:
                found.append(node)
        return found


def _split(node: Node, length: int) -> Node:
    """Cut `node` after `length` tokens; gives the first half, which the second now follows.

    Both halves are copies: a view would keep the memory of the whole run alive
    after one half is dropped.
    """
    assert node.parent is not None
    head = Node(
        node.token_ids[:length].copy(),
        [(keys[:, :length].clone(), values[:, :length].clone()) for keys, values in node.kv],
        node.parent,
        last_used=node.last_used,
    )
    node.parent.adopt(head)
    node.token_ids = node.token_ids[length:].copy()
    node.kv = [(keys[:, length:].clone(), values[:, length:].clone()) for keys, values in node.kv]
    head.adopt(node)
    return head


COLUMN_MULTIPLE = 64


@dataclass
class CacheSpan:
    """Cache places that one forward pass writes to, and the stretch it may attend to."""

    num_rows: int = 0
    """R: rows held."""
    num_columns: int = 0
    """C: columns held, the spare one not counted."""
    start: int = 0
    stop: int = 0
    """The rows of this pass."""
    columns_NQ: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """The slot that each token is written to."""
    visible: int = 0
    """L."""


class RowLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    """One layer's rows, laid out when the first keys arrive and say their shape and type."""

    def __init__(self, span: CacheSpan) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.span = span

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Lay out the rows; zeros, as a masked column still must be a number."""
        shape = (self.span.num_rows, key_states.shape[1], self.span.num_columns + 1)
        self.keys = key_states.new_zeros(*shape, key_states.shape[-1])
        self.values = value_states.new_zeros(*shape, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new keys and values [N, H, Q, D]; gives all visible ones [N, H, L, D]."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        span = self.span
        keys, values = self.tensors()
        rows_N1 = torch.arange(span.start, span.stop, device=keys.device)[:, None]
        keys[rows_N1, :, span.columns_NQ] = key_states.transpose(1, 2)
        values[rows_N1, :, span.columns_NQ] = value_states.transpose(1, 2)
        visible = slice(None), slice(0, span.visible)
        rows = slice(span.start, span.stop)
        return keys[rows, *visible], values[rows, *visible]

    def resize(self, num_rows: int, num_columns: int) -> None:
        """Lay the rows out anew with what they hold; the spare column stays the last."""
        old = self.tensors()
        new = tuple(
            tensor.new_zeros(num_rows, tensor.shape[1], num_columns + 1, tensor.shape[3])
            for tensor in old
        )
        for source, target in zip(old, new, strict=True):
            rows = min(source.shape[0], num_rows)
            columns = min(source.shape[2] - 1, num_columns)
            target[:rows, :, :columns] = source[:rows, :, :columns]
        self.keys, self.values = new

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values, each [R, H, C + 1, D]."""
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Visible columns, from the first on."""
        return self.span.visible, 0

    def get_seq_length(self) -> int:
        """Visible columns before this pass."""
        return max(self.span.visible - self.span.columns_NQ.shape[-1], 0)

    def get_max_length(self) -> int:
        """-1: rows grow as needed."""
        return -1


class KVRows(Cache):
    """All layers' rows, as the cache that a model reads and writes."""

    def __init__(self) -> None:
        self.span = CacheSpan()
        # A factory does here, though the base class names a type: it is only called.
        super().__init__(layer_class_to_replicate=partial(RowLayer, self.span))  # type: ignore[arg-type]

    def row_layers(self) -> Iterator[RowLayer]:
        """The layers that hold something."""
        for layer in self.layers:
            if isinstance(layer, RowLayer) and layer.is_initialized:
                yield layer

    def reserve(self, num_rows: int, num_columns: int, max_tokens: int) -> None:
        """Make room for so many rows and columns, with head-room while `max_tokens` allows it."""
        span = self.span
        if num_rows <= span.num_rows and num_columns <= span.num_columns:
            return
        columns = -(-max(num_columns, span.num_columns) // COLUMN_MULTIPLE) * COLUMN_MULTIPLE
        rows = span.num_rows if num_rows <= span.num_rows else 1 << (num_rows - 1).bit_length()
        if rows * columns > max_tokens:
            rows, columns = num_rows, num_columns
        for layer in self.row_layers():
            layer.resize(rows, columns)
        span.num_rows, span.num_columns = rows, columns

    def aim(self, start: int, stop: int, columns_NQ: torch.Tensor, visible: int) -> None:
        """Say which rows the next forward pass takes, and where it writes."""
        span = self.span
        span.start, span.stop = start, stop
        span.columns_NQ, span.visible = columns_NQ, visible

    def read(self, row: int, start: int, stop: int) -> LayersKV:
        """Copies of a row's keys and values from `start` up to `stop`."""
        return [
            (keys[row, :, start:stop].clone(), values[row, :, start:stop].clone())
            for keys, values in (layer.tensors() for layer in self.row_layers())
        ]

    def write(self, row: int, start: int, kv: LayersKV, length: int) -> None:
        """Put the first `length` tokens of `kv` into a row, from column `start` on."""
        stop = start + length
        for layer, (new_keys, new_values) in zip(self.row_layers(), kv, strict=True):
            keys, values = layer.tensors()
            keys[row, :, start:stop] = new_keys[:, :length]
            values[row, :, start:stop] = new_values[:, :length]

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` columns of one row to another."""
        for layer in self.row_layers():
            for tensor in layer.tensors():
                tensor[target, :, :length] = tensor[source, :, :length]

    def wipe(self, row: int) -> None:
        """Set a row to zero: a number that is none (NaN) would pass through any mask."""
        for layer in self.row_layers():
            for tensor in layer.tensors():
                tensor[row].zero_()
