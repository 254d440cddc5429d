"""The sequences that a model is working on, and the passes that take them further.

`BatchedRows` runs all rows in one forward pass and copies beginnings between
them. What else can run rows is in `single_rows`.

Shapes: N rows of a pass, Q query tokens, L visible columns, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from oversight.chat.prompt_ids import TokenIds
from oversight.engines.transformers.kv_rows import KVRows
from oversight.engines.transformers.masks import MaskStyle
from oversight.engines.transformers.prefix_tree import LayersKV, Prefix

CHUNK_TOKENS = 2048
"""Tokens of one forward pass at most, which bounds its memory and how long others wait."""
MAX_PADDING = 0.25
"""Share of a pass that may be padding before it is cut in two."""


@dataclass
class Work:
    """What has been computed so far."""

    num_passes: int = 0
    num_tokens: int = 0
    num_padding: int = 0

    def reset(self) -> None:
        """Count from zero again."""
        self.num_passes = self.num_tokens = self.num_padding = 0


class Rows(Protocol):
    """Sequences under way, numbered from 0; a removed row's number goes to the last one."""

    lengths: list[int]
    """Tokens computed of each row."""
    work: Work

    def join(self, max_lengths: Sequence[int]) -> None:
        """Add empty rows behind the others, each for up to so many tokens, scored ones included."""
        ...

    def extend(self, first_row: int, token_ids: Sequence[TokenIds]) -> torch.Tensor:
        """Compute more tokens of the rows from `first_row` on, longest input first; gives float32
        logits [N, V] after the last of each."""
        ...

    def score(self, row: int, branches: Sequence[TokenIds]) -> list[torch.Tensor]:
        """Float32 logits [T, V] after each token of each branch, had it followed the row."""
        ...

    def remove(self, row: int) -> None:
        """Drop a row; the last row takes its number."""
        ...

    def clear(self) -> None:
        """Drop all rows and the memory they held."""
        ...


class BatchedRows:
    """Rows that share each forward pass, and whose beginnings can be copied in and out."""

    def __init__(self, model: Any, style: MaskStyle, max_tokens: int) -> None:
        self.work = Work()
        self.lengths: list[int] = []
        self._model = model
        self._style = style
        self._max_tokens = max_tokens
        self._max_lengths: list[int] = []
        self._kv = KVRows()

    def join(self, max_lengths: Sequence[int]) -> None:
        """Add empty rows behind the others, each for up to so many tokens, scored ones included."""
        self.lengths += [0] * len(max_lengths)
        self._max_lengths += max_lengths
        self._kv.reserve(len(self.lengths), max(self._max_lengths), self._max_tokens)

    def fill(self, row: int, source: Prefix | tuple[int, int]) -> None:
        """Give an empty row a beginning: a kept one, or (row, length) of another row."""
        if isinstance(source, tuple):
            other, length = source
            self._kv.copy(other, row, length)
        else:
            length = 0
            for node, taken in source.runs:
                self._kv.write(row, length, node.kv, taken)
                length += taken
        self.lengths[row] = length

    def extend(self, first_row: int, token_ids: Sequence[TokenIds]) -> torch.Tensor:
        """Compute more tokens of rows `first_row` to `first_row + len(token_ids)`.

        Long inputs are computed in several passes of at most `CHUNK_TOKENS`, cut so that little
        of a pass is padding. Rows must come longest input first.
        """
        remaining = [len(ids) for ids in token_ids]
        done = [0] * len(token_ids)
        logits: list[torch.Tensor | None] = [None] * len(token_ids)
        num_rows = len(token_ids)
        while num_rows:
            width = _width(remaining[:num_rows])
            taken = [min(left, width) for left in remaining[:num_rows]]
            parts = [token_ids[i][done[i] : done[i] + taken[i]] for i in range(num_rows)]
            pass_logits_NV = self._pass(first_row, parts, width)
            for i in range(num_rows):
                done[i] += taken[i]
                remaining[i] -= taken[i]
                logits[i] = pass_logits_NV[i]
            num_rows = sum(left > 0 for left in remaining)
        return torch.stack([row_V for row_V in logits if row_V is not None]).float()

    def _pass(self, first_row: int, parts: list[TokenIds], width: int) -> torch.Tensor:
        """One forward pass; gives logits [N, V] after the last token of each row.

        Tokens stand at the right, so that the last of each row is in the last place; what pads
        them on the left is written to the spare column and sees position 0 only.
        """
        shape = (len(parts), width)
        ids_NQ, positions_NQ = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        columns_NQ = np.full(shape, self._kv.span.num_columns)
        for i, ids in enumerate(parts):
            start = self.lengths[first_row + i]
            places = np.arange(start, start + len(ids))
            ids_NQ[i, width - len(ids) :] = ids
            positions_NQ[i, width - len(ids) :] = places
            columns_NQ[i, width - len(ids) :] = places
        ends = [self.lengths[first_row + i] + len(ids) for i, ids in enumerate(parts)]
        logits_N1V = self._forward(
            first_row,
            torch.from_numpy(ids_NQ),
            torch.from_numpy(positions_NQ),
            torch.from_numpy(columns_NQ),
            torch.arange(max(ends)),
            logits_to_keep=1,
        )
        for i, end in enumerate(ends):
            self.lengths[first_row + i] = end
        num_tokens = sum(len(ids) for ids in parts)
        self.work.num_tokens += num_tokens
        self.work.num_padding += ids_NQ.size - num_tokens
        return logits_N1V[:, -1]

    def score(self, row: int, branches: Sequence[TokenIds]) -> list[torch.Tensor]:
        """Logits after each token of each branch, all branches in one pass.

        They stand side by side behind the row, each token at the position it would have had,
        and a branch sees the row and itself.
        """
        start = self.lengths[row]
        sizes = [len(branch) for branch in branches]
        places = torch.cat([torch.arange(start, start + size) for size in sizes])
        owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        key_positions_L = torch.cat([torch.arange(start), places])
        key_owner_L = torch.cat([torch.full((start,), -1), owner])
        visible_QL = (key_owner_L == -1) | (key_owner_L == owner[:, None])
        ids = torch.cat([torch.from_numpy(branch) for branch in branches])
        columns = torch.arange(start, start + len(ids))
        logits_1QV = self._forward(
            row, ids[None], places[None], columns[None], key_positions_L, 0, visible_QL
        )
        self.work.num_tokens += len(ids)
        return list(torch.split(logits_1QV[0].float(), sizes))

    def _forward(
        self,
        first_row: int,
        ids_NQ: torch.Tensor,
        positions_NQ: torch.Tensor,
        columns_NQ: torch.Tensor,
        key_positions_L: torch.Tensor,
        logits_to_keep: int,
        visible_QL: torch.Tensor | None = None,
    ) -> torch.Tensor:
        device, dtype = self._model.device, self._model.dtype
        self._kv.aim(
            first_row, first_row + len(ids_NQ), columns_NQ.to(device), len(key_positions_L)
        )
        positions_NQ = positions_NQ.to(device)
        mask = self._style.build(
            positions_NQ,
            key_positions_L.to(device),
            dtype,
            None if visible_QL is None else visible_QL.to(device),
        )
        self.work.num_passes += 1
        output = self._model(
            input_ids=ids_NQ.to(device),
            attention_mask=mask,
            position_ids=positions_NQ,
            past_key_values=self._kv,
            use_cache=True,
            logits_to_keep=logits_to_keep,
        )
        logits: torch.Tensor = output.logits
        return logits

    def read(self, row: int, start: int, stop: int) -> LayersKV:
        """Copies of a row's keys and values."""
        return self._kv.read(row, start, stop)

    def remove(self, row: int) -> None:
        """Drop a row; the last row takes its number."""
        last = len(self.lengths) - 1
        self._kv.wipe(row)
        if row != last:
            self._kv.copy(last, row, self.lengths[last])
            self.lengths[row], self._max_lengths[row] = self.lengths[last], self._max_lengths[last]
            self._kv.wipe(last)
        self.lengths.pop()
        self._max_lengths.pop()

    def clear(self) -> None:
        """Drop all rows and the memory they held."""
        self.lengths.clear()
        self._max_lengths.clear()
        self._kv = KVRows()


def _width(remaining: list[int]) -> int:
    """How many tokens of each row the next pass takes.

    The most for which at most `MAX_PADDING` of the pass is padding and the pass is not too big.
    """
    bound = max(CHUNK_TOKENS // len(remaining), 1)
    widths = sorted({min(left, bound) for left in remaining}, reverse=True)
    # The smallest has no padding at all.
    return next(width for width in widths if _padding(remaining, width) <= MAX_PADDING)


def _padding(remaining: list[int], width: int) -> float:
    return 1 - sum(min(left, width) for left in remaining) / (width * len(remaining))
