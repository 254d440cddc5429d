"""A token trie: rows that begin alike share the computation of what they share.

Rows of ids become one line of T tokens in depth-first order, in which every
shared beginning stands once. A run is a stretch of tokens without a branch;
what follows a run in the trie follows it in the line, up to `Run.stop_below`. So
a token at place k is seen by the places q with `k <= q < ends_T[k]` and by no
others: causal attention over a whole forest, in one comparison.

Rows that share nothing are trees of their own in the same line: padding-free
packing is the trie whose trees have one path each.

Shapes: B rows, T tokens of the line.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from oversight.modeling.rows import Ids, Mask, TokenRow


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
