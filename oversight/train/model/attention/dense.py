"""Attention over a trie with one mask: the plain form, which the others are tested against.

Shapes: T tokens of the line, H query heads, K key heads, D head dimension.
"""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

from oversight.train.model.attention.layout import Layout


def dense_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """Output [1, H, T, D] of queries [1, H, T, D] over keys and values [1, K, T, D]."""
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=layout.visible(window),
        scale=scale,
        enable_gqa=key.shape[1] != query.shape[1],
    )
