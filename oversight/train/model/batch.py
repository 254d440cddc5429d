"""Token rows made ready for a model: their trie, and where in its line each response stands.

Shapes: B rows, T tokens of the line, R response tokens of the longest row,
N distinct response tokens (rows may share some).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from oversight.train.model.trie import TokenTrie
from oversight.train.types import Mask, TokenRow


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
    """Which response tokens of a row are learnt from; false where there is padding."""
    last_B: torch.Tensor
    """Place of each row's last token."""
    lengths_B: torch.Tensor
    """Response tokens of each row, learnt from or not."""

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
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
        """Where there is a response token and no padding."""
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
            rows: What is scored.
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
