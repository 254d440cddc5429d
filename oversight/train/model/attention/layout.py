"""A trie as the attention layers need it, on the model's device.

Shapes: T tokens of the line, Q those of them that ask.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch

from oversight.train.model.attention.blocks import Block, blocks_of
from oversight.train.model.trie import Run, TokenTrie
from oversight.train.types import Ids


class Layout:
    """Who sees whom in a line of tokens; masks are made when first asked for and kept.

    Args:
        trie: The line.
        device: Of the model.
        back_end: Which one attends.
        tails: For each run the first place that asks; None where every place does.
    """

    def __init__(
        self,
        trie: TokenTrie,
        device: torch.device,
        back_end: str,
        tails: tuple[int, ...] | None = None,
    ) -> None:
        self.back_end = back_end
        self.runs: tuple[Run, ...] = trie.runs
        self.max_length = int(trie.positions_T.max()) + 1
        self.ends_T = torch.from_numpy(trie.ends_T).to(device)
        self.positions_T = torch.from_numpy(trie.positions_T).to(device)
        self.tails = tuple(run.start for run in trie.runs) if tails is None else tails
        self.ends: Layout | None = None
        """The same line with fewer places that ask: for the last layer, if it is cut."""
        self._masks: dict[int | None, Any] = {}

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The same as dense blocks."""
        return blocks_of(self.runs, self.tails)

    @cached_property
    def places_T(self) -> torch.Tensor:
        """0 to T - 1."""
        return torch.arange(len(self.ends_T), device=self.ends_T.device)

    @cached_property
    def asking_Q(self) -> torch.Tensor:
        """The places that ask, in order."""
        return torch.from_numpy(asking(self.runs, self.tails)).to(self.ends_T.device)

    def visible(self, window: int | None) -> torch.Tensor:
        """Whether a query sees a key, [Q, T], at most `window` tokens back."""
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


def tails_of(runs: tuple[Run, ...], needed: Ids) -> tuple[int, ...]:
    """For each run its first place that is needed, or its end if none is.

    Args:
        runs: Of a line.
        needed: Places, in rising order.
    """
    firsts = np.searchsorted(needed, [run.start for run in runs])
    known = np.append(needed, np.iinfo(np.int64).max)
    return tuple(min(int(known[i]), run.stop) for i, run in zip(firsts, runs, strict=True))


def asking(runs: tuple[Run, ...], tails: tuple[int, ...]) -> Ids:
    """The places from each run's tail to its end."""
    parts = [np.arange(tail, run.stop) for run, tail in zip(runs, tails, strict=True)]
    return np.concatenate(parts)
