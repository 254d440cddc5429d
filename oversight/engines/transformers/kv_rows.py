"""Keys and values of the sequences in a batch: one row each, every token at its own position.

Column `p` of a row holds the token at position `p`, so that rows of any lengths
stand side by side without padding inside, join and leave at any step, and a
beginning computed elsewhere is copied in place. What a query may see is said by
the mask alone; a spare last column takes what padding tokens write.

Shapes: N rows of a forward pass, R rows and C columns held, Q query tokens,
L visible columns, H heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from oversight.engines.transformers.prefix_tree import LayersKV

COLUMN_MULTIPLE = 64


@dataclass
class Span:
    """Where one forward pass writes, and how far it may look."""

    num_rows: int = 0
    """R: rows held."""
    num_columns: int = 0
    """C: columns held, the spare one not counted."""
    start: int = 0
    stop: int = 0
    """The rows of this pass."""
    columns_NQ: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """Where each token is written."""
    visible: int = 0
    """L."""


class RowLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    """One layer's rows, laid out when the first keys arrive and say their shape and type."""

    def __init__(self, span: Span) -> None:
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
        self.span = Span()
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
