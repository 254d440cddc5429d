"""A token trie: rows that begin alike share what they share, at once or in parts computed in turn.

Rows of ids become one line of T tokens in depth-first order, in which every
shared beginning stands once. A run is a stretch of tokens without a branch;
what follows a run in the trie follows it in the line, up to `Run.stop_below`. So
a token at place k is seen by the places q with `k <= q < ends_T[k]` and by no
others: causal attention over a whole forest, in one comparison.

Rows that share nothing are trees of their own in the same line: padding-free
packing is the trie whose trees have one path each.

Rows too many for memory are computed in parts over the keys and values of their beginning. These
are leaves: each part's backward pass adds to their gradients,
and when all parts are through, one backward pass goes through the beginning itself. So a group of
responses is cut without its prompt being computed anew, and gradients are those of the whole group
but for the order of sums.

A beginning that fits into memory beside a part keeps its graph. A longer one is computed in
segments without a graph, and each once more when its gradient is known.

Shapes: B rows, T tokens of the line, P tokens of the beginning, K key heads, D head dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from oversight.modeling import Ids, Mask, TokenRow


@dataclass(frozen=True, slots=True)
class TrieSegment:
    """Tokens [start, stop) without a branch, and where the last of what follows them ends."""

    start: int
    stop: int
    stop_below: int
    """End of the subtree in the line; equal to `stop` for a leaf."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenTrie:
    """The line of all rows' tokens, each shared beginning once."""

    ids_T: Ids
    positions_T: Ids
    """Distance of each token from the beginning of its row."""
    ends_T: Ids
    """One past the last place that sees the token."""
    runs: tuple[TrieSegment, ...]
    """In the order of the line."""
    places: tuple[Ids, ...]
    """For each row the place of each of its tokens in the line."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the line."""
        return len(self.ids_T)

    @classmethod
    def build(cls, rows: Sequence[Ids], regimes: Sequence[Hashable] | None = None) -> TokenTrie:
        """The trie of `rows`, each of at least one token.

        Args:
            rows: Token ids.
            regimes: Further terms that the computation of each row depends on; rows share
                beginnings only where these are the same. None where there are none.

        Raises:
            ValueError: A row has no token.
        """
        if not rows or not all(len(row) for row in rows):
            raise ValueError("a trie is built of rows of at least one token each")
        apart = [0] * len(rows) if regimes is None else _numbers(regimes)
        order = sorted(range(len(rows)), key=lambda i: (apart[i], _sort_key(rows[i])))
        ids: list[Ids] = []
        positions: list[Ids] = []
        places: list[Ids] = [rows[0]] * len(rows)
        size = 0
        before: int | None = None
        for i in order:
            same = before is not None and apart[before] == apart[i]
            shared = common_prefix(rows[before], rows[i]) if before is not None and same else 0
            own = rows[i][shared:]
            new = np.arange(size, size + len(own))
            places[i] = new if before is None else np.concatenate([places[before][:shared], new])
            ids.append(own)
            positions.append(np.arange(shared, len(rows[i])))
            size += len(own)
            before = i
        positions_T = np.concatenate(positions)
        ends_T = _ends(positions_T)
        return cls(np.concatenate(ids), positions_T, ends_T, _runs(ends_T), tuple(places))


def num_trie_tokens(rows: Sequence[Ids]) -> int:
    """Return the number of tokens of the trie of `rows`, without building it."""
    ordered = sorted(rows, key=_sort_key)
    shared = sum(common_prefix(a, b) for a, b in pairwise(ordered))
    return sum(map(len, rows)) - shared


def common_prefix(left: Ids, right: Ids) -> int:
    """Return the number of first tokens that both share."""
    length = min(len(left), len(right))
    differs = left[:length] != right[:length]
    return int(differs.argmax()) if differs.any() else length


def _numbers(regimes: Sequence[Hashable]) -> list[int]:
    known = {regime: number for number, regime in enumerate(dict.fromkeys(regimes))}
    return [known[regime] for regime in regimes]


def _sort_key(row: Ids) -> bytes:
    """Bytes that order rows so that those with a common beginning stand together."""
    return np.asarray(row, dtype=">i8").tobytes()


def _ends(positions_T: Ids) -> Ids:
    """For each place the next one whose position is not greater: there its subtree has ended."""
    ends_T = np.full(len(positions_T), len(positions_T), dtype=np.int64)
    is_open_T = np.ones(len(positions_T), dtype=np.bool_)
    # A subtree can only end where the line does not simply go on.
    for cut in (np.flatnonzero(np.diff(positions_T) != 1) + 1).tolist():
        ended = np.flatnonzero(is_open_T[:cut] & (positions_T[:cut] >= positions_T[cut]))
        ends_T[ended] = cut
        is_open_T[ended] = False
    return ends_T


def _runs(ends_T: Ids) -> tuple[TrieSegment, ...]:
    """Stretches of places with the same end: tokens in them have no branch between them."""
    borders = np.flatnonzero(np.diff(ends_T)) + 1
    return tuple(_cut_runs(ends_T, [0, *borders.tolist(), len(ends_T)]))


def _cut_runs(ends_T: Ids, borders: Sequence[int]) -> Iterator[TrieSegment]:
    for start, stop in pairwise(borders):
        yield TrieSegment(start, stop, int(ends_T[start]))


@dataclass(frozen=True, slots=True, eq=False)
class RowBatch:
    """Rows as one line, and the indices that lead from rows to places and back."""

    rows: tuple[TokenRow, ...]
    trie: TokenTrie
    ids_T: torch.Tensor
    positions_T: torch.Tensor
    before_N: torch.Tensor
    """Place of the token before each distinct response token: what predicts it."""
    targets_N: torch.Tensor
    """The response tokens themselves."""
    index_BR: torch.Tensor
    """For each row and response token its number among the N; 0 where there is padding."""
    mask_BR: torch.Tensor
    """Marks of the response tokens of a row that are learnt from; false where there is padding."""
    last_B: torch.Tensor
    """Place of each row's last token."""
    lengths_B: torch.Tensor
    """Response tokens of each row, learnt from or not."""

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.last_B)

    def row_lengths_T(self) -> torch.Tensor:
        """For each token of the line, how long a row is that it belongs to."""
        lengths = np.zeros(self.trie.num_tokens, dtype=np.int64)
        for place in self.trie.places:
            lengths[place] = np.maximum(lengths[place], len(place))
        return torch.from_numpy(lengths).to(self.ids_T.device)

    def spread(self, values_N: torch.Tensor) -> torch.Tensor:
        """Values of distinct response tokens as rows [B, R]; 0 where there is padding."""
        values_BR = values_N[self.index_BR]
        return values_BR.masked_fill(~self.present_BR, 0.0)

    @property
    def present_BR(self) -> torch.Tensor:
        """Mask [B, R] of response tokens; False where there is padding."""
        columns = torch.arange(self.mask_BR.shape[1], device=self.mask_BR.device)
        return columns < self.lengths_B[:, None]

    @classmethod
    def build(
        cls,
        rows: Sequence[TokenRow],
        device: torch.device | str = "cpu",
        regimes: Sequence[Hashable] | None = None,
    ) -> RowBatch:
        """The batch of `rows`, each with at least one prompt token.

        Args:
            rows: The rows that are scored.
            device: Of the model.
            regimes: As `TokenTrie.build` takes them.

        Raises:
            ValueError: A row has no prompt token.
        """
        for row in rows:
            if not len(row.prompt_ids):
                raise ValueError(
                    f"row {row.id!r} has no prompt token; the first token of a "
                    "sequence is predicted by nothing"
                )
        trie = TokenTrie.build([row.ids() for row in rows], regimes)
        starts = [len(row.prompt_ids) for row in rows]
        places = [place[start:] for place, start in zip(trie.places, starts, strict=True)]
        before = [place[start - 1 : -1] for place, start in zip(trie.places, starts, strict=True)]
        distinct_N, first, number = np.unique(
            np.concatenate(places), return_index=True, return_inverse=True
        )
        lengths = np.array([len(row.response_ids) for row in rows])
        present_BR = np.arange(max(1, lengths.max())) < lengths[:, None]
        index_BR = np.zeros(present_BR.shape, dtype=np.int64)
        index_BR[present_BR] = number
        mask_BR = np.zeros(present_BR.shape, dtype=np.bool_)
        mask_BR[present_BR] = np.concatenate([_mask(row) for row in rows])
        last = np.array([place[-1] for place in trie.places])

        def tensor(array: np.ndarray[tuple[int, ...], np.dtype[np.int64]] | Mask) -> torch.Tensor:
            return torch.from_numpy(array).to(device)

        return cls(
            rows=tuple(rows),
            trie=trie,
            ids_T=tensor(trie.ids_T),
            positions_T=tensor(trie.positions_T),
            before_N=tensor(np.concatenate(before)[first]),
            targets_N=tensor(trie.ids_T[distinct_N]),
            index_BR=tensor(index_BR),
            mask_BR=tensor(mask_BR),
            last_B=tensor(last),
            lengths_B=tensor(lengths),
        )


def _mask(row: TokenRow) -> Mask:
    return np.ones(len(row.response_ids), dtype=np.bool_) if row.mask is None else row.mask


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

    def extend(self, ids: Ids) -> None:
        """Go on with further tokens, without a graph: a beginning that grows as it is answered."""
        start, self.ids = len(self.ids), np.concatenate([self.ids, ids])
        with torch.no_grad():
            new = self._segment(start, len(self.ids))
            for module, pair in new.items():
                before = self._leaves.get(module, [])
                whole = [torch.cat(parts, dim=2) for parts in zip(*before, pair, strict=True)]
                self._leaves[module] = [(whole[0], whole[1])]

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


@dataclass(frozen=True, slots=True, eq=False)
class GrowingRow:
    """A row whose keys and values are kept while tokens are put to it; without a gradient."""

    held: HeldPrefix
    found: list[torch.Tensor]

    def extend(self, ids: Ids) -> torch.Tensor:
        """The last layer's output [n, E] at n further tokens."""
        self.held.extend(ids)
        return self.found.pop()


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
