"""A line of a trie watched in one pass: its sites read and changed, row by row (`sites`).

Rows share what they begin with only where they are changed alike, and what they share is changed
once. Hooks stand on the model's modules for the length of a pass; attention patterns are asked for
by the attention over the trie (`blocks.watched_attention`).

Shapes: T tokens of the line, P tokens of a row that are read or changed, E hidden size, H heads,
D head dimension, Q queries.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from oversight.errors import ConfigError
from oversight.modeling import Ids, TokenRow
from oversight.modeling.scoring.sites import Site, SiteEdit, SiteModules, positions_in
from oversight.modeling.scoring.trie import TokenTrie


@dataclass(slots=True)
class _PlacedEdit:
    edit: SiteEdit
    places: torch.Tensor | None
    """The changed tokens of what is computed; None for all."""
    keys: torch.Tensor | None = None
    """Of a pattern: places of the row's tokens."""


@dataclass(slots=True)
class Watch:
    """Sites to read and to change in one pass over a line, and afterwards what was found."""

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
        edits = self.edits.get(site, ())
        tensor = tensor.clone() if edits else tensor
        for placed in edits:
            places = torch.arange(len(tensor)) if placed.places is None else placed.places
            places = places.to(tensor.device)
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
