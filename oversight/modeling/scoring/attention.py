"""Token tries in transformers' models: attention over a trie, and a last layer of the read places.

A model scores a trie by `use_trie_attention(model)` once, and then by calls with
`trie_arguments(layout)`; all other calls attend as ever. The back ends:

blocks
    SDPA's flash kernel on contiguous blocks of the line, without a mask and
    without a copy of keys or values: for a CPU.
dense
    SDPA with a mask of T x T truth values: for any device, and for layers that
    look back a limited number of tokens.
flex
    FlexAttention with the trie as its block mask: fastest on a GPU, which
    alone can run its backward pass.

Shapes: T tokens of the line, Q places that are read, H query heads, K key heads, E hidden size,
D head dimension.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import MethodType
from typing import Any, Literal, Protocol

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from oversight.errors import ConfigError
from oversight.modeling.scoring.blocks import (
    BlockAttention,
    Layout,
    dense_attention,
    flex_attention_over,
    has_block_kernel,
    watched_attention,
)

NAME = "oversight_trie"

BackEnd = Literal["auto", "blocks", "dense", "flex"]

UNSUPPORTED = ("softcap", "s_aux", "position_bias")
"""Arguments of attention layers that change its scores and that no back end here knows."""


class Decoder(Protocol):
    """Keys and values of a line that is answered token by token (`train/rollouts`)."""

    def keep(self, module: torch.nn.Module, key: torch.Tensor, value: torch.Tensor) -> None:
        """Keep a layer's keys and values of the line, [1, K, T, D]."""

    def attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """Output [1, N, H, D] of each answer's newest token."""
        ...


def choose_back_end(wanted: BackEnd, device: torch.device) -> BackEnd:
    """The back end that `auto` stands for on `device`; others are checked.

    Raises:
        ConfigError: The back end does not run there.
    """
    if wanted == "auto":
        return (
            "flex" if device.type == "cuda" else "blocks" if has_block_kernel(device) else "dense"
        )
    if wanted == "blocks" and not has_block_kernel(device):
        raise ConfigError(f"model.attention = 'blocks' runs on a CPU only, not on {str(device)!r}")
    if wanted == "flex" and device.type == "cpu":
        raise ConfigError("model.attention = 'flex' has no backward pass on a CPU; take 'auto'")
    return wanted


def trie_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    *,
    trie: Layout | None = None,
    decode: Decoder | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Output [1, T, H, D] of queries [1, H, T, D] over keys and values [1, K, T, D].

    The signature is the one that transformers' models call. With `decode` and a trie the
    decoder keeps the line's keys and values; with `decode` alone it attends itself. Keys and
    values of a beginning that `trie` holds come before those given.

    Raises:
        ConfigError: The layer asks for a kind of attention that cannot run over a trie.
    """
    if trie is None and decode is None:
        return sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout,
            scaling,
            sliding_window=sliding_window,
            **kwargs,
        )
    _check(module, dropout, kwargs)
    if trie is not None and trie.held is not None:
        key, value = trie.held.joined(module, key, value)
    if torch.is_autocast_enabled(query.device.type):
        lower = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(lower), key.to(lower), value.to(lower)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if decode is not None and trie is None:
        return decode.attend(module, query, key, value, scale, sliding_window), None
    assert trie is not None
    if decode is not None:
        decode.keep(module, key, value)
    # A window wider than the longest row limits nothing.
    window = sliding_window if sliding_window and sliding_window < trie.max_length else None
    if (pattern := trie.patterns.get(module)) is not None:
        output = watched_attention(query, key, value, trie, scale, window, pattern)
    elif trie.back_end == "flex":
        output = flex_attention_over(query, key, value, trie, scale, window)
    elif trie.back_end == "blocks" and window is None:
        blocks = trie.blocks if query.dtype.itemsize < 4 else trie.blocks_in_pieces
        output = BlockAttention.apply(query, key, value, blocks, scale)  # type: ignore[no-untyped-call]
    else:
        output = dense_attention(query, key, value, trie, scale, window)
    return output.transpose(1, 2), None


def _check(module: torch.nn.Module, dropout: float, arguments: dict[str, Any]) -> None:
    foreign = [name for name in UNSUPPORTED if arguments.get(name) is not None]
    if dropout or foreign:
        reason = "its dropout must be 0" if dropout else f"its scores depend on {foreign[0]!r}"
        raise ConfigError(f"{type(module).__name__} cannot attend over a token trie: {reason}")


def use_trie_attention(model: Any) -> None:
    """Let a transformers model attend over a trie where a call gives it one."""
    AttentionInterface.register(NAME, trie_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def trie_arguments(layout: Layout) -> dict[str, Any]:
    """Return the arguments of a model's call besides ids and positions.

    A mask of four dimensions is handed through as it is, so none is made for nothing.
    """
    return {"trie": layout, "attention_mask": layout.places_T.new_empty(1, 1, 0, 0)}


__all__ = [
    "BackEnd",
    "Decoder",
    "Layout",
    "choose_back_end",
    "trie_arguments",
    "trie_attention",
    "use_trie_attention",
]


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
