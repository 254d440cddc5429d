"""A trie as the attention layers need it, on the model's device.

Shapes: T tokens of the line.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from oversight.train.model.trie import Run, TokenTrie


class Layout:
    """Who sees whom in a line of tokens; masks are made when first asked for and kept."""

    def __init__(self, trie: TokenTrie, device: torch.device, back_end: str) -> None:
        self.back_end = back_end
        self.runs: tuple[Run, ...] = trie.runs
        self.max_length = int(trie.positions_T.max()) + 1
        self.ends_T = torch.from_numpy(trie.ends_T).to(device)
        self.positions_T = torch.from_numpy(trie.positions_T).to(device)
        self._masks: dict[int | None, Any] = {}

    @cached_property
    def places_T(self) -> torch.Tensor:
        """0 to T - 1."""
        return torch.arange(len(self.ends_T), device=self.ends_T.device)

    def visible(self, window: int | None) -> torch.Tensor:
        """Whether a query sees a key, [T, T], at most `window` tokens back."""
        if window not in self._masks:
            query_T1 = self.places_T[:, None]
            seen = (self.places_T <= query_T1) & (query_T1 < self.ends_T)
            if window is not None:
                seen &= self.positions_T > self.positions_T[:, None] - window
            self._masks[window] = seen
        mask: torch.Tensor = self._masks[window]
        return mask

    def block_mask(self, window: int | None) -> Any:
        """The same for FlexAttention, block by block."""
        from torch.nn.attention.flex_attention import create_block_mask

        if window not in self._masks:
            ends_T, positions_T = self.ends_T, self.positions_T

            def sees(
                batch: torch.Tensor, head: torch.Tensor, query: torch.Tensor, key: torch.Tensor
            ) -> torch.Tensor:
                seen = (key <= query) & (query < ends_T[key])
                if window is not None:
                    seen = seen & (positions_T[key] > positions_T[query] - window)
                return seen

            size = len(ends_T)
            self._masks[window] = create_block_mask(
                sees, B=None, H=None, Q_LEN=size, KV_LEN=size, device=str(ends_T.device)
            )
        return self._masks[window]
