"""Attention masks for rows whose columns are positions.

transformers takes a ready mask of four dimensions as it is, for each kind of
attention layer that the model has.

Shapes: N rows, Q query tokens, L visible columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"


@dataclass(frozen=True)
class MaskStyle:
    """How a model wants its masks."""

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
            visible: What a query may see at most, [Q, L]; None for every column.
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
    """Whether rotary angles depend on the position alone, not on the longest row of a batch."""
    kinds = {rope.get("rope_type", "default")}
    kinds |= {part.get("rope_type", "default") for part in rope.values() if isinstance(part, dict)}
    return not kinds & {"dynamic", "longrope"}
