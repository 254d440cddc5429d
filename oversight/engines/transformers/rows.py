"""The sequences that a model is working on, and the passes that take them further.

`BatchedRows` runs all rows in one forward pass, whose masks let each column be a position, and
copies beginnings between them. `SingleRows` gives each row a cache of the model's own kind and
computes one after the other.

Shapes: N rows of a pass, Q query tokens, L visible columns, V vocabulary.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from oversight.chat.prompt_ids import TokenIds
from oversight.engines.transformers.prefix_tree import KVRows, LayersKV, Prefix
from oversight.modeling.contract import regime, switch_length

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"


@dataclass(frozen=True)
class MaskStyle:
    """The form in which a model takes its attention masks."""

    kinds: tuple[str, ...]
    """The kinds of attention layers."""
    window: int | None
    """Tokens that a sliding layer looks back, its own position included."""
    chunk: int | None
    """Tokens of a chunk, within which a chunked layer looks back."""
    by_kind: bool
    """One mask for each kind, under its name, instead of a single one."""
    additive: bool
    """Numbers to add to the scores instead of booleans."""

    def build(
        self,
        query_positions_NQ: torch.Tensor,
        key_positions_L: torch.Tensor,
        dtype: torch.dtype,
        visible: torch.Tensor | None = None,
    ) -> torch.Tensor | dict[str, torch.Tensor]:
        """Masks of shape [N, 1, Q, L].

        Args:
            query_positions_NQ: Position of each token of this pass.
            key_positions_L: Position that each column holds.
            dtype: The model's, for additive masks.
            visible: Columns that a query may see at most, [Q, L]; None for every column.
        """
        masks = {}
        for kind in self.kinds:
            allowed = self._allowed(kind, query_positions_NQ[:, :, None], key_positions_L)
            if visible is not None:
                allowed = allowed & visible
            masks[kind] = self._as_model_wants(allowed[:, None], dtype)
        return masks if self.by_kind else masks[self.kinds[0]]

    def _allowed(self, kind: str, queries_NQ1: torch.Tensor, keys_L: torch.Tensor) -> torch.Tensor:
        allowed = keys_L <= queries_NQ1
        if kind == SLIDING and self.window is not None:
            allowed = allowed & (keys_L > queries_NQ1 - self.window)
        if kind == CHUNKED and self.chunk is not None:
            allowed = allowed & (keys_L // self.chunk == queries_NQ1 // self.chunk)
        return allowed

    def _as_model_wants(self, allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        if not self.additive:
            return allowed
        lowest = torch.finfo(dtype).min
        return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, lowest)


def mask_styles(config: Any) -> list[MaskStyle]:
    """Styles to try on a model, likeliest first; none if it cannot take ready masks.

    Args:
        config: The text part of a transformers configuration.
    """
    implementation = getattr(config, "_attn_implementation", None)
    rope = getattr(config, "rope_parameters", None) or {}
    if implementation not in ("sdpa", "eager") or not _row_independent(rope):
        return []
    window = getattr(config, "sliding_window", None)
    chunk = getattr(config, "attention_chunk_size", None)
    kinds = tuple(sorted(set(getattr(config, "layer_types", None) or ())))
    if not set(kinds) <= {FULL, SLIDING, CHUNKED}:
        return []
    additive = implementation == "eager"
    if kinds:
        styles = [MaskStyle(kinds, window, chunk, by_kind=True, additive=additive)]
        if len(kinds) == 1:
            styles.append(MaskStyle(kinds, window, chunk, by_kind=False, additive=additive))
        return styles
    kind = SLIDING if window is not None else CHUNKED if chunk is not None else FULL
    return [MaskStyle((kind,), window, chunk, by_kind=False, additive=additive)]


def _row_independent(rope: dict[str, Any]) -> bool:
    """True if rotary angles depend on the position alone, not on the longest row of a batch."""
    kinds = {rope.get("rope_type", "default")}
    kinds |= {part.get("rope_type", "default") for part in rope.values() if isinstance(part, dict)}
    return not kinds & {"dynamic", "longrope"}


CHUNK_TOKENS = 2048
"""Tokens of one forward pass at most, which bounds its memory and how long others wait."""
MAX_PADDING = 0.25
"""Share of a pass that may be padding before it is cut in two."""


@dataclass
class Work:
    """Computation of a row as far as it has come."""

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
    """Return the number of tokens of each row that the next pass takes.

    The most for which at most `MAX_PADDING` of the pass is padding and the pass is not too big.
    """
    bound = max(CHUNK_TOKENS // len(remaining), 1)
    widths = sorted({min(left, bound) for left in remaining}, reverse=True)
    # The smallest has no padding at all.
    return next(width for width in widths if _padding(remaining, width) <= MAX_PADDING)


def _padding(remaining: list[int], width: int) -> float:
    return 1 - sum(min(left, width) for left in remaining) / (width * len(remaining))


CACHE_NAMES = ("past_key_values", "cache_params", "state")


class SingleRows:
    """Rows that each have a cache of the model's own kind, computed one after the other."""

    def __init__(self, model: Any) -> None:
        self.work = Work()
        self.lengths: list[int] = []
        self._model = model
        self._caches: list[Any] = []
        self._ids: list[TokenIds] = []
        self._has_regimes = switch_length(model) is not None
        self._cache_name = _cache_name(model)

    def join(self, max_lengths: Sequence[int]) -> None:
        """Add empty rows behind the others; their caches grow as needed."""
        self.lengths += [0] * len(max_lengths)
        self._caches += [None] * len(max_lengths)
        self._ids += [np.empty(0, np.int64)] * len(max_lengths)

    def extend(self, first_row: int, token_ids: Sequence[TokenIds]) -> torch.Tensor:
        """Compute more tokens of each row; gives logits [N, V] after the last of each."""
        logits = []
        for row, ids in enumerate(token_ids, first_row):
            self._caches[row], output_QV = self._run(self._caches[row], self._ids[row], ids)
            self._ids[row] = np.concatenate([self._ids[row], ids])
            self.lengths[row] += len(ids)
            logits.append(output_QV[-1])
        return torch.stack(logits).float()

    def score(self, row: int, branches: Sequence[TokenIds]) -> list[torch.Tensor]:
        """Logits after each token of each branch, on copies of the row's cache."""
        scored = []
        for branch in branches:
            cache, steps, before = copy.deepcopy(self._caches[row]), [], self._ids[row]
            # Token by token: models with a recurrent state take a state and one token only.
            for i in range(len(branch)):
                cache, output_QV = self._run(cache, before, branch[i : i + 1])
                before = np.concatenate([before, branch[i : i + 1]])
                steps.append(output_QV[-1].float())
            scored.append(torch.stack(steps))
        return scored

    def _run(self, cache: Any, before: TokenIds, ids: TokenIds) -> tuple[Any, torch.Tensor]:
        """The new cache, and logits after each of `ids`, which follow `before`."""
        if self._has_regimes and cache is not None:
            length = len(before) + len(ids)
            if regime(self._model, length) != regime(self._model, len(before)):
                cache, ids = None, np.concatenate([before, ids])
        self.work.num_passes += 1
        self.work.num_tokens += len(ids)
        ids_1Q = torch.from_numpy(ids)[None].to(self._model.device)
        kept = {} if cache is None else {self._cache_name: cache}
        output = self._model(input_ids=ids_1Q, use_cache=True, **kept)
        return getattr(output, self._cache_name), output.logits[0]

    def remove(self, row: int) -> None:
        """Drop a row; the last row takes its number."""
        self.lengths[row], self._caches[row] = self.lengths[-1], self._caches[-1]
        self._ids[row] = self._ids[-1]
        self.lengths.pop()
        self._caches.pop()
        self._ids.pop()

    def clear(self) -> None:
        """Drop all rows."""
        self.lengths.clear()
        self._caches.clear()
        self._ids.clear()


def _cache_name(model: Any) -> str:
    """The argument that takes the cache; state-space and recurrent models name it otherwise."""
    names = inspect.signature(model.forward).parameters
    return next((name for name in CACHE_NAMES if name in names), CACHE_NAMES[0])
