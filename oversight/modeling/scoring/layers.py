"""Decoder layers of transformers whose last one computes only the places that are read.

Shapes: T tokens of the line, Q places that are read, H heads, E hidden size, D head dimension.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch

from oversight.modeling.scoring.attention import Layout, trie_attention

WINDOWS: dict[str, Callable[[Any], int | None]] = {
    "LlamaDecoderLayer": lambda attention: None,
    "MistralDecoderLayer": lambda attention: attention.config.sliding_window,
    "Qwen2DecoderLayer": lambda attention: attention.sliding_window,
    "Qwen3DecoderLayer": lambda attention: attention.sliding_window,
}
"""Layers that can be cut, and how many tokens back each looks (None: all)."""


def cut_last_layer(model: Any) -> bool:
    """Let the last layer of a model compute only what `Layout.ends` asks for; true if it can.

    Args:
        model: A transformers model, without peft's wrapping.
    """
    layers = getattr(model.base_model, "layers", None)
    if not layers or _kind(layers[-1]) is None:
        return False
    # The layer's own method is replaced, and not the layer: hooks that gather its weights from
    # other processes, and checkpointing, go on working around it. Bound to the layer, so that a
    # copy of the model has its own.
    layers[-1].forward = MethodType(_cut_or_whole, layers[-1])
    return True


def _kind(layer: Any) -> type | None:
    """The listed class that a layer is of; FSDP derives classes of its own from it."""
    return next((kind for kind in type(layer).__mro__ if kind.__name__ in WINDOWS), None)


def _cut_or_whole(layer: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    layout: Layout | None = kwargs.get("trie")
    if layout is None or layout.ends is None:
        return type(layer).forward(layer, hidden_states, *args, **kwargs)
    return _forward(layer, hidden_states, kwargs["position_embeddings"], layout.ends)


def _forward(
    layer: Any,
    hidden_1TE: torch.Tensor,
    angles: tuple[torch.Tensor, torch.Tensor],
    layout: Layout,
) -> torch.Tensor:
    """The layer's output [1, Q, E]."""
    places_Q = layout.asking_Q - layout.offset
    kind: Any = _kind(layer)
    rotate = sys.modules[kind.__module__].apply_rotary_pos_emb
    attention = layer.self_attn
    normed_1TE = layer.input_layernorm(hidden_1TE)
    key = _heads(attention.k_proj(normed_1TE), attention, "k_norm")
    value = _heads(attention.v_proj(normed_1TE), attention)
    cos, sin = angles
    key = rotate(key, key, cos, sin)[1]
    if layout.held is not None and not len(places_Q):
        layout.held.joined(attention, key, value)  # they are all that is wanted of it
        return hidden_1TE[:, places_Q]
    query = _heads(attention.q_proj(normed_1TE[:, places_Q]), attention, "q_norm")
    query = rotate(query, query, cos[:, places_Q], sin[:, places_Q])[0]
    attended, _ = trie_attention(
        attention,
        query,
        key,
        value,
        None,
        scaling=attention.scaling,
        trie=layout,
        sliding_window=WINDOWS[kind.__name__](attention),
    )
    output_1QE: torch.Tensor = hidden_1TE[:, places_Q] + attention.o_proj(attended.flatten(2))
    forwarded: torch.Tensor = layer.mlp(layer.post_attention_layernorm(output_1QE))
    return output_1QE + forwarded


def _heads(projected: torch.Tensor, attention: Any, norm: str = "") -> torch.Tensor:
    """Projections [1, n, H * D] as heads [1, H, n, D], normalised where the model does so."""
    heads = projected.view(*projected.shape[:2], -1, attention.head_dim)
    if norm and hasattr(attention, norm):
        heads = getattr(attention, norm)(heads)
    return heads.transpose(1, 2)
