"""Attention with a mask for models whose query heads share keys and values.

With a mask, transformers copies keys and values for every query head before the
kernel runs. In decoding that copy is most of the time: here the kernel shares
them itself, or query heads stand in as queries of one shared head.

Shapes: N rows, Q query tokens, L visible columns, H query heads, K key heads,
G = H / K query heads to a key head, D head dimension.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "oversight_shared_heads"


def shared_heads_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention output [N, Q, H, D] of queries [N, H, Q, D] over keys and values [N, K, L, D].

    The signature is the one that transformers' models call. What is not masked decoding or
    masked work on a CPU goes to transformers' own function.
    """
    num_groups = query.shape[1] // key.shape[1]
    on_cpu = query.device.type == "cpu"
    ours = attention_mask is not None and num_groups > 1 and kwargs.get("position_bias") is None
    if not ours or not (on_cpu or query.shape[2] == 1):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
    if on_cpu:
        output = scaled_dot_product_attention(
            query, key, value, attention_mask, scale=scaling, enable_gqa=True
        )
    else:
        output = _one_query(query, key, value, attention_mask, scaling)
    return output.transpose(1, 2).contiguous(), None


def _one_query(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None,
) -> torch.Tensor:
    """Attention of one query token [N, H, 1, D]: the heads of a group as G queries of one head.

    On a GPU no kernel takes both a mask and shared heads.
    """
    num_rows, num_heads, _, head_dim = query.shape
    queries_NKGD = query.reshape(num_rows, key.shape[1], -1, head_dim)
    output = scaled_dot_product_attention(queries_NKGD, key, value, attention_mask, scale=scaling)
    return output.reshape(num_rows, num_heads, 1, -1)


def share_heads(model: Any) -> bool:
    """Let a model attend so if its heads share keys and values; true if it does now."""
    config = model.config.get_text_config()
    num_heads = getattr(config, "num_attention_heads", 0)
    num_key_heads = getattr(config, "num_key_value_heads", None) or num_heads
    if config._attn_implementation != "sdpa" or num_key_heads == num_heads:
        return False
    AttentionInterface.register(NAME, shared_heads_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
    return bool(config._attn_implementation == NAME)
