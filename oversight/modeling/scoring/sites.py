"""Places inside a model by name, read and changed while it runs: its sites.

A `Site` is one kind of tensor of one layer, in the words of the field:

residual k      the stream before layer k, k = 0 to L; 0 are the embeddings, L the stream that the
                final norm reads. For k < L it is transformers' `hidden_states[k]`.
final           the stream after the final norm: `hidden_states[-1]`.
attention k     output of layer k's attention module, all heads together.
mlp k           output of layer k's feed-forward module.
heads k         output of each head of layer k before the projection that mixes them, [H, D].
pattern k       attention weights of layer k: for each token and head, over the row's tokens.
logits k        the head's logits of residual k after the final norm (`interp/reading` makes them).

Modules are found by the names and classes that transformers gives them; a site that a model lacks
is refused by name. A `SiteEdit` changes a site at some tokens of a row; `watching` does so for
rows of a trie.

Shapes: P tokens of a row that are read or changed, E hidden size, H heads,
D head dimension, K directions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from oversight.errors import ConfigError
from oversight.modeling import Ids

SiteKind = Literal["residual", "final", "attention", "mlp", "heads", "pattern", "logits"]
KINDS: tuple[SiteKind, ...] = get_args(SiteKind)


@dataclass(frozen=True, order=True, slots=True)
class Site:
    """One kind of tensor of one layer; written "residual.3", and "final" without a layer."""

    kind: SiteKind
    layer: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "final" else f"{self.kind}.{self.layer}"

    @classmethod
    def parse(cls, text: str) -> Site:
        """The site that is written so.

        Raises:
            ConfigError: There is no such kind, or no layer is given.
        """
        kind, dot, layer = text.partition(".")
        right = not dot if kind == "final" else layer.isdecimal()
        if kind not in KINDS or not right:
            raise ConfigError(
                f"site {text!r}: write KIND.LAYER, such as 'residual.2', or 'final'; kinds are "
                f"{', '.join(KINDS)}"
            )
        return cls(kind, int(layer or 0))


@dataclass(frozen=True, slots=True, eq=False)
class SiteEdit:
    """One change of one site at some tokens of a row; made by `add`, `replace` and `ablate`."""

    site: Site
    how: Literal["add", "replace", "ablate"]
    values: torch.Tensor | None = None
    """Added or put in place: [E], or [P, E] for each of `positions`; of heads and patterns, the
    numbers of the heads that are changed, flat: [H' * D], [P, H' * D], or [P, H', n] with weights
    of the row's first n tokens and 0 for others. Of an ablation, orthonormal directions [K, E]
    that are taken out; None for all."""
    positions: tuple[int, ...] | None = None
    """Tokens of the row, from 0, or from -1 backwards; None for all."""
    heads: tuple[int, ...] | None = None
    """Of sites "heads" and "pattern", those that are changed; None for all."""

    def __post_init__(self) -> None:
        if self.heads is not None and self.site.kind not in ("heads", "pattern"):
            raise ConfigError(f"edit of {self.site}: only 'heads' and 'pattern' have heads")
        if self.site.kind == "logits":
            raise ConfigError(f"edit of {self.site}: logits of a layer are read and not changed")
        if self.site.kind == "pattern" and self.how == "add":
            raise ConfigError(f"edit of {self.site}: weights are replaced or ablated, not added to")

    def changed(self, given: torch.Tensor) -> torch.Tensor:
        """The new values for `given` [P, E], [P, H', D] or [P, H', n]."""
        if self.how == "ablate" and self.values is None:
            return torch.zeros_like(given)
        assert self.values is not None
        values = self.values.to(given.device, given.dtype)
        flat = given if given.dim() == 2 else given.flatten(1)
        if self.how == "ablate":
            if values.shape[-1] != flat.shape[-1]:
                raise ConfigError(self._misfit(values, flat))
            return (flat - (flat @ values.T) @ values).view_as(given)
        if values.dim() > 2:
            if (short := given.shape[-1] - values.shape[-1]) > 0 and self.site.kind == "pattern":
                values = torch.nn.functional.pad(values, (0, short))
            values = values.flatten(1)
        if values.shape[-1] != flat.shape[-1] or (values.dim() == 2 and len(values) != len(flat)):
            raise ConfigError(self._misfit(values, flat))
        new = flat + values if self.how == "add" else values.expand_as(flat)
        return new.view_as(given)

    def _misfit(self, values: torch.Tensor, flat: torch.Tensor) -> str:
        return (
            f"edit of {self.site}: values of shape {list(values.shape)} do not fit the model's "
            f"{list(flat.shape)} at its tokens; take those of this model"
        )


def add(
    site: Site,
    values: torch.Tensor,
    positions: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> SiteEdit:
    """An edit that adds `values`, as steering along a direction does."""
    return SiteEdit(site, "add", values, _tuple(positions), _tuple(heads))


def replace(
    site: Site,
    values: torch.Tensor,
    positions: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> SiteEdit:
    """An edit that puts `values` in place; those of another run make it activation patching."""
    return SiteEdit(site, "replace", values, _tuple(positions), _tuple(heads))


def ablate(
    site: Site,
    directions: torch.Tensor | None = None,
    positions: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> SiteEdit:
    """An edit that takes out the span of directions [K, E] or [E], or everything where None.

    Raises:
        ConfigError: The directions are 0, or no numbers.
    """
    basis = None
    if directions is not None:
        rows = directions.detach().reshape(-1, directions.shape[-1]).double()
        if not (rows.isfinite().all() and rows.any()):
            raise ConfigError(f"ablation of {site}: give directions of numbers that are not all 0")
        _, spread, basis = torch.linalg.svd(rows, full_matrices=False)
        basis = basis[spread > 1e-10 * spread.max()]
    return SiteEdit(site, "ablate", basis, _tuple(positions), _tuple(heads))


def _tuple(numbers: Sequence[int] | None) -> tuple[int, ...] | None:
    return None if numbers is None else tuple(map(int, numbers))


_ATTENTION = ("self_attn", "attn", "attention", "self_attention")
_MLP = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "moe", "fc2")
_MIXING = ("o_proj", "out_proj", "c_proj", "dense", "wo", "proj", "output")
_NORM = re.compile(r"^(norm|ln_f|final_layer_?norm|norm_f|layer_norm)$")


class SiteModules:
    """The modules of a transformers model by what they are, found once.

    Args:
        model: A causal language or sequence-classification model, without peft's wrapping.
    """

    def __init__(self, model: Any) -> None:
        self.config = model.config.get_text_config()
        self.kind = str(model.config.model_type)
        num = int(self.config.num_hidden_layers)
        base = model.base_model
        lists = (
            (parent, child)
            for parent in base.modules()
            for child in parent.children()
            if isinstance(child, torch.nn.ModuleList) and len(child) == num
        )
        parent, layers = next(lists, (None, None))
        if parent is None or layers is None:
            raise ConfigError(f"a model of type {self.kind!r} has no list of its {num} layers")
        self.layers: list[torch.nn.Module] = list(layers)
        named = dict(parent.named_children())
        self._norm: torch.nn.Module | None = next(
            (module for name, module in named.items() if _NORM.match(name)), None
        )

    @property
    def num_layers(self) -> int:
        """Layers of the model."""
        return len(self.layers)

    @property
    def num_heads(self) -> int:
        """Query heads of a layer."""
        return int(self.config.num_attention_heads)

    @property
    def norm(self) -> torch.nn.Module:
        """The norm after the last layer."""
        if self._norm is None:
            raise ConfigError(f"a model of type {self.kind!r} has no final norm that is known here")
        return self._norm

    def attention(self, layer: int) -> torch.nn.Module:
        """The attention module of a layer."""
        return self._child(Site("attention", layer), _ATTENTION, "Attention")

    def mlp(self, layer: int) -> torch.nn.Module:
        """The feed-forward module of a layer."""
        return self._child(Site("mlp", layer), _MLP, "MLP")

    def mixing(self, layer: int) -> torch.nn.Module:
        """The projection from a layer's heads to its output."""
        site = Site("heads", layer)
        attention = self._child(site, _ATTENTION, "Attention")
        found = dict(attention.named_children())
        inner = [child for child in found.values() if "Attention" in type(child).__name__]
        for children in (found, *(dict(child.named_children()) for child in inner)):
            for name in _MIXING:
                if name in children:
                    return children[name]
        raise ConfigError(f"a model of type {self.kind!r} has no site {str(site)!r}")

    def _child(self, site: Site, names: Sequence[str], word: str) -> torch.nn.Module:
        self.check(site)
        children = dict(self.layers[site.layer].named_children())
        for name in names:
            if name in children:
                return children[name]
        for child in children.values():
            if word in type(child).__name__:
                return child
        raise ConfigError(
            f"a model of type {self.kind!r} has no site {str(site)!r}: layer {site.layer} is made "
            f"of {', '.join(children)}"
        )

    def check(self, site: Site) -> None:
        """Refuse a layer that is not there.

        Raises:
            ConfigError: It names the site and what there is.
        """
        last = self.num_layers if site.kind in ("residual", "logits") else self.num_layers - 1
        if site.kind != "final" and not 0 <= site.layer <= last:
            raise ConfigError(
                f"site {str(site)!r}: the model has {site.kind}.0 to {site.kind}.{last}"
            )

    def every(self, kinds: Iterable[SiteKind]) -> tuple[Site, ...]:
        """All sites of some kinds, in the order of the layers."""
        found: list[Site] = []
        for kind in kinds:
            more = kind in ("residual", "logits")
            num = 1 if kind == "final" else self.num_layers + more
            found += [Site(kind, layer) for layer in range(num)]
        return tuple(found)


def positions_in(edit: SiteEdit, size: int) -> Ids:
    """The tokens that an edit changes in a row of `size` tokens, from 0.

    Raises:
        ConfigError: There is no such token.
    """
    if edit.positions is None:
        return np.arange(size)
    at = np.asarray(edit.positions, dtype=np.int64)
    if at.size and not (-size <= at.min() and at.max() < size):
        raise ConfigError(
            f"edit of {edit.site}: positions {at.tolist()} are not all among {size} tokens"
        )
    found: Ids = at % size
    return found
