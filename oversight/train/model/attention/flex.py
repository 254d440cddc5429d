"""Attention over a trie by FlexAttention, whose kernel skips blocks in which nobody sees anybody.

Its backward pass runs on a GPU only (torch 2.13). Source: Dong et al., "Flex
Attention: A Programming Model for Generating Optimized Attention Kernels", 2024.

Shapes: T tokens of the line, H query heads, K key heads, D head dimension.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from oversight.train.model.attention.layout import Layout


def flex_attention_over(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    layout: Layout,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """Output [1, H, T, D] of queries [1, H, T, D] over keys and values [1, K, T, D]."""
    output: torch.Tensor = _kernel()(
        query,
        key,
        value,
        block_mask=layout.block_mask(window),
        scale=scale,
        enable_gqa=key.shape[1] != query.shape[1],
    )
    return output


@cache
def _kernel() -> Any:
    """The compiled kernel, one for all lengths of a line."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)
