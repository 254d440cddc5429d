"""Attention over a token trie, behind the interface that transformers' models call.

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

Shapes: T tokens of the line, H query heads, K key heads, D head dimension.
"""

from __future__ import annotations

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
    if trie.back_end == "flex":
        output = flex_attention_over(query, key, value, trie, scale, window)
    elif trie.back_end == "blocks" and window is None:
        output = BlockAttention.apply(  # type: ignore[no-untyped-call]
            query, key, value, trie.blocks, scale
        )
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
