"""Rotary angles that depend on how long a row is: each row gets those that it would get alone.

With `longrope` a model turns positions by other angles once a row is longer than what it was first
trained on, and with `dynamic` ones by angles of each length. transformers looks at the longest row
of a call, and at calls before: a row's logits then depend on its company. Here a call begins from
nothing, and a line of several rows may say how long each token's row is.

Sources: Ding et al., "LongRoPE", 2024; the dynamic scaling of NTK-aware angles.

Shapes: T tokens of a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch

LENGTHS = "oversight_row_lengths_T"
"""Attribute of a rotary module while it computes rows of several lengths."""


def own_angles(model: Any) -> None:
    """Let each call of a model begin with the angles that its own rows have."""
    for module in _changing(model):
        module.forward = MethodType(_forward, module)


def switch_length(model: Any) -> int | None:
    """The longest row for which angles do not depend on its length; None if they never do."""
    return min(
        (_switch(module, kind) for module in _changing(model) for kind in _kinds(module)),
        default=None,
    )


def switch_of(config: Any) -> int | None:
    """The same, as a configuration says it, without a model."""
    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or {}
    kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]
    found = [
        part.get("original_max_position_embeddings") or text.max_position_embeddings
        for part in kinds
        if part.get("rope_type") == "longrope"
    ]
    found += [
        text.max_position_embeddings for part in kinds if "dynamic" in str(part.get("rope_type"))
    ]
    return min(found, default=None)


def regime(model: Any, length: int) -> tuple[int, ...]:
    """Return what the angles of a row of `length` tokens depend on; those of one regime agree."""
    return tuple(
        _regime(module, kind, length) for module in _changing(model) for kind in _kinds(module)
    )


@contextmanager
def rows_of(model: Any, lengths_T: torch.Tensor | None) -> Iterator[None]:
    """While it lasts, tokens of the model's line belong to rows of these lengths."""
    modules = [] if lengths_T is None else list(_changing(model))
    for module in modules:
        setattr(module, LENGTHS, lengths_T)
    try:
        yield
    finally:
        for module in modules:
            delattr(module, LENGTHS)


def _changing(model: Any) -> Iterator[Any]:
    for module in model.modules():
        if _kinds(module):
            yield module


def _kinds(module: Any) -> list[str]:
    """Prefixes of the angles that change: one a kind of layer, or the empty one."""
    found = getattr(module, "rope_type", None)
    named = found.items() if isinstance(found, dict) else [(None, found)]
    return [
        "" if name is None else f"{name}_"
        for name, kind in named
        if isinstance(kind, str) and ("dynamic" in kind or kind == "longrope")
    ]


def _kind_of(module: Any, prefix: str) -> str:
    return str(module.rope_type[prefix[:-1]] if prefix else module.rope_type)


def _switch(module: Any, prefix: str) -> int:
    if _kind_of(module, prefix) != "longrope":
        return int(module.original_max_seq_len)
    rope = module.config.rope_parameters
    return int((rope[prefix[:-1]] if prefix else rope)["original_max_position_embeddings"])


def _regime(module: Any, prefix: str, length: int) -> int:
    if length <= _switch(module, prefix):
        return 0
    return 1 if _kind_of(module, prefix) == "longrope" else length


def _forward(
    self: Any, x: torch.Tensor, position_ids: torch.Tensor, *args: Any, **kwargs: Any
) -> Any:
    """The module's cosines and sines; for a line of rows, those that each row has alone."""
    lengths_T: torch.Tensor | None = getattr(self, LENGTHS, None)
    if lengths_T is None:
        _begin_anew(self)
        return type(self).forward(self, x, position_ids, *args, **kwargs)
    found: list[torch.Tensor] = []
    for length in sorted(set(lengths_T.tolist())):
        places = torch.nonzero(lengths_T == length)[:, 0]
        _begin_anew(self)
        # One more place, the last of the row: the module looks at the largest position.
        last = position_ids.new_full((1, 1), length - 1)
        asked = torch.cat([position_ids[:, places], last], dim=1)
        parts = type(self).forward(self, x, asked, *args, **kwargs)
        if not found:
            found = [part.new_empty(1, len(lengths_T), *part.shape[2:]) for part in parts]
        for whole, part in zip(found, parts, strict=True):
            whole[:, places] = part[:, :-1]
    return tuple(found)


def _begin_anew(module: Any) -> None:
    """As a module is that has computed nothing yet."""
    for prefix in _kinds(module):
        original = getattr(module, f"{prefix}original_inv_freq")
        now = getattr(module, f"{prefix}inv_freq")
        module.register_buffer(f"{prefix}inv_freq", original.to(now.device), persistent=False)
        if hasattr(module, f"{prefix}max_seq_len_cached"):
            setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)
        # Where it is there, transformers takes it for known and then does not find it.
        if prefix:
            module.__dict__.pop(f"{prefix}long_inv_freq", None)
