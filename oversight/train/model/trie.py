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

from oversight.train.types import Ids


@dataclass(frozen=True, slots=True)
class Run:
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
    runs: tuple[Run, ...]
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
            regimes: What else the computation of each row depends on; rows share beginnings
                only where it is the same. None where it is nothing.

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
    """How many tokens the trie of `rows` has, without building it."""
    ordered = sorted(rows, key=_sort_key)
    shared = sum(common_prefix(a, b) for a, b in pairwise(ordered))
    return sum(map(len, rows)) - shared


def common_prefix(left: Ids, right: Ids) -> int:
    """How many first tokens are the same in both."""
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


def _runs(ends_T: Ids) -> tuple[Run, ...]:
    """Stretches of places with the same end: tokens in them have no branch between them."""
    borders = np.flatnonzero(np.diff(ends_T)) + 1
    return tuple(_cut_runs(ends_T, [0, *borders.tolist(), len(ends_T)]))


def _cut_runs(ends_T: Ids, borders: Sequence[int]) -> Iterator[Run]:
    for start, stop in pairwise(borders):
        yield Run(start, stop, int(ends_T[start]))
