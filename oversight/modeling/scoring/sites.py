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

Modules are found by the names and classes that transformers gives them; a site that a model has not
got is refused by name. A `SiteEdit` changes a site at some tokens of a row. `Watch` holds both for
one line of a trie, whose rows share what they begin with only where they are changed alike.

Shapes: T tokens of the line, P tokens of a row that are read or changed, E hidden size, H heads,
D head dimension, K directions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch

from oversight.errors import ConfigError
from oversight.modeling import Ids, TokenRow
from oversight.modeling.scoring.trie import TokenTrie

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
    """An edit that takes out the span of directions [K, E] or [E], or everything where None."""
    basis = None
    if directions is not None:
        rows = directions.detach().reshape(-1, directions.shape[-1]).double()
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
        site, attention = Site("heads", layer), self.attention(layer)
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


@dataclass(slots=True)
class _PlacedEdit:
    edit: SiteEdit
    places: torch.Tensor | None
    """The changed tokens of what is computed; None for all."""
    keys: torch.Tensor | None = None
    """Of a pattern: places of the row's tokens."""


@dataclass(slots=True)
class Watch:
    """What is read and changed in one pass over a line, and afterwards what was found."""

    modules: SiteModules
    sites: tuple[Site, ...] = ()
    edits: dict[Site, list[_PlacedEdit]] = field(default_factory=dict)
    found: dict[Site, torch.Tensor] = field(default_factory=dict)
    """[T, E], [T, H, D] or [H, T, T] by site."""

    def place(
        self,
        edit: SiteEdit,
        row_places: Ids,
        offset: int = 0,
        taken: set[int] | None = None,
        *,
        grows: bool = False,
    ) -> None:
        """Let `edit` hold for the row that lies at `row_places` of the line.

        Args:
            edit: Of the row.
            row_places: The place of each of its tokens.
            offset: Tokens of the line that are not computed now.
            taken: Places where another row has the same edit, to which those of this row are added:
                what rows share is changed once.
            grows: Tokens that the row has not got yet may be meant.
        """
        self.modules.check(edit.site)
        size = len(row_places)
        most = max(size, *(at + 1 for at in edit.positions or (0,))) if grows else size
        positions = positions_in(edit, most) if edit.positions is not None else np.arange(size)
        at = row_places[np.minimum(positions, size - 1)]
        kept = (positions < size) & (at >= offset)
        if taken is not None and edit.site.kind != "pattern":
            kept &= ~np.isin(at, list(taken))
            taken.update(at.tolist())
        if not kept.any():
            return
        chosen, own = torch.from_numpy(np.flatnonzero(kept)), edit
        if edit.values is not None and edit.how != "ablate" and edit.values.dim() > 1:
            own = SiteEdit(edit.site, edit.how, edit.values[chosen], edit.positions, edit.heads)
        places = torch.from_numpy(at[kept] - offset)
        placed = _PlacedEdit(own, places, torch.from_numpy(row_places))
        self.edits.setdefault(edit.site, []).append(placed)

    def everywhere(self, edits: Sequence[SiteEdit]) -> None:
        """Let `edits` hold at every token of every pass, whatever calls the model.

        Raises:
            ConfigError: One of them is for chosen tokens, or of an attention pattern.
        """
        for edit in edits:
            self.modules.check(edit.site)
            if edit.positions is not None or edit.site.kind == "pattern":
                raise ConfigError(
                    f"edit of {edit.site}: everywhere means at all tokens, and not of a pattern; "
                    "give rows and their edits instead"
                )
            self.edits.setdefault(edit.site, []).append(_PlacedEdit(edit, None))

    @property
    def patterns(self) -> dict[torch.nn.Module, Callable[[torch.Tensor], torch.Tensor]]:
        """For attention modules whose weights are read or changed: from weights [H, Q, T] to those
        that are used."""
        layers = {s.layer for s in (*self.sites, *self.edits) if s.kind == "pattern"}
        return {
            self.modules.attention(layer): self._pattern(Site("pattern", layer)) for layer in layers
        }

    def _pattern(self, site: Site) -> Callable[[torch.Tensor], torch.Tensor]:
        def given(weights_HQT: torch.Tensor) -> torch.Tensor:
            for placed in self.edits.get(site, ()):
                assert placed.places is not None
                assert placed.keys is not None
                rows, keys = placed.places[:, None], placed.keys[None]
                heads = _heads(placed.edit, len(weights_HQT))
                before = weights_HQT[heads][:, rows, keys].transpose(0, 1)
                new = placed.edit.changed(before).transpose(0, 1)
                weights_HQT = weights_HQT.clone()
                weights_HQT[torch.tensor(heads)[:, None, None], rows[None], keys[None]] = new
            if site in self.sites:
                self.found[site] = weights_HQT
            return weights_HQT

        return given

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """While it lasts, passes of the model are read and changed."""
        with ExitStack() as stack:
            for site in dict.fromkeys((*self.sites, *self.edits)):
                if handle := self._hook(site):
                    stack.callback(handle.remove)
            yield

    def _hook(self, site: Site) -> Any:
        modules = self.modules
        modules.check(site)
        if site.kind == "residual" and site.layer < modules.num_layers:
            layer = modules.layers[site.layer]
            return layer.register_forward_pre_hook(self._before(site), with_kwargs=True)
        if site.kind == "heads":
            mixing = modules.mixing(site.layer)
            return mixing.register_forward_pre_hook(self._before(site), with_kwargs=True)
        if site.kind == "pattern" or (site.kind == "final" and site not in self.edits):
            return None  # asked for by the attention itself; what the pass returns
        module = {
            "residual": lambda: modules.layers[-1],
            "final": lambda: modules.norm,
            "attention": lambda: modules.attention(site.layer),
            "mlp": lambda: modules.mlp(site.layer),
        }[site.kind]()
        return module.register_forward_hook(self._after(site))

    def _before(self, site: Site) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if args:
                return (self._seen(site, args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": self._seen(site, kwargs["hidden_states"])}

        return hook

    def _after(self, site: Site) -> Any:
        def hook(module: Any, args: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (self._seen(site, output[0]), *output[1:])
            return self._seen(site, output)

        return hook

    def _seen(self, site: Site, given: torch.Tensor) -> torch.Tensor:
        """The tensor of a pass, changed; what is read of it is kept."""
        tensor = given.reshape(-1, given.shape[-1])  # some layers flatten the line
        if site.kind == "heads":
            tensor = tensor.view(len(tensor), self.modules.num_heads, -1)
        for placed in self.edits.get(site, ()):
            places = torch.arange(len(tensor)) if placed.places is None else placed.places
            places = places.to(tensor.device)
            tensor = tensor.clone()
            if site.kind == "heads":
                heads = torch.tensor(_heads(placed.edit, tensor.shape[1]), device=tensor.device)
                at = (places[:, None], heads[None])
                tensor[at] = placed.edit.changed(tensor[at])
            else:
                tensor[places] = placed.edit.changed(tensor[places])
        if site in self.sites:
            self.found[site] = tensor
        return tensor.reshape(given.shape)


def _heads(edit: SiteEdit, num: int) -> list[int]:
    heads = list(range(num)) if edit.heads is None else list(edit.heads)
    if heads and not 0 <= min(heads) <= max(heads) < num:
        raise ConfigError(f"edit of {edit.site}: heads {heads} are not all among {num}")
    return heads


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


def alike(
    edits: Sequence[Sequence[SiteEdit]] | None, rows: Sequence[TokenRow]
) -> list[Hashable] | None:
    """For each row what its changes are: rows share beginnings only where these are the same."""
    if edits is None:
        return None
    if len(edits) != len(rows):
        raise ValueError(f"edits are of {len(edits)} rows, and there are {len(rows)}")
    found: list[Hashable] = []
    for row, own in zip(rows, edits, strict=True):
        each: list[Hashable] = []
        for edit in own:
            at = None if edit.positions is None else positions_in(edit, row.num_tokens).tolist()
            each.append((id(edit), None if at is None else tuple(at)))
        found.append(tuple(each))
    return found


def placed(
    modules: SiteModules,
    sites: Sequence[Site],
    trie: TokenTrie,
    edits: Sequence[Sequence[SiteEdit]] | None,
) -> Watch:
    """The watch for a line. An edit of what several rows share is made once."""
    for site in sites:
        modules.check(site)
    watch = Watch(modules, tuple(sites))
    taken: dict[int, set[int]] = {}
    for row_places, own in zip(trie.places, edits or [()] * len(trie.places), strict=True):
        for edit in own:
            watch.place(edit, row_places, taken=taken.setdefault(id(edit), set()))
    return watch


def gathered(
    watch: Watch, trie: TokenTrie, asked: Sequence[Ids], sites: Sequence[Site]
) -> list[dict[Site, torch.Tensor]]:
    """Of each row what was found at the tokens asked for: [P, ...], of patterns [P, H, n]."""
    found = []
    for places, at in zip(trie.places, asked, strict=True):
        place_P, keys_n = torch.from_numpy(places[at]), torch.from_numpy(places)
        own = {}
        for site in sites:
            tensor = watch.found[site]
            if site.kind == "pattern":
                own[site] = tensor[:, place_P[:, None], keys_n[None]].transpose(0, 1)
            else:
                own[site] = tensor[place_P]
        found.append(own)
    return found
