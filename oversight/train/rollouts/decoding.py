"""Attention of many responses, one token each, over prompts they share and their own tokens.

A prompt's keys and values stand once, as the line of the prompts' trie. All
responses below a stretch of the line attend to it at the same time, as the
queries of one block; their own tokens are one further block a row. Blocks are
merged by their log-sum-exps (Dao et al., "FlashAttention", 2022; the split of
shared and own keys is that of Juravsky et al., "Hydragen", 2024).

Shapes: T tokens of the line, N rows (responses), S own tokens, K key heads,
g query heads to a key head, H = K * g query heads, D head dimension,
Q queries and L keys of one block, W rows or 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from oversight.modeling import Ids
from oversight.modeling.scoring.trie import TokenTrie

ROOM = 64
"""Own tokens that room is made for at a time."""


@dataclass(frozen=True, slots=True)
class TrieSpan:
    """A stretch [start, stop) of the line, and the prompts [first, last) that it is part of."""

    start: int
    stop: int
    first: int
    last: int


def pieces_of(trie: TokenTrie, lasts: Ids) -> Iterator[TrieSpan]:
    """The line cut so that each piece belongs whole to the same prompts.

    Args:
        trie: Of the prompts.
        lasts: Place of each prompt's last token, rising: the prompts in the line's order.
    """
    borders = {run.start for run in trie.runs} | {int(place) + 1 for place in lasts}
    for start, stop in pairwise(sorted(borders | {trie.num_tokens})):
        first, last = np.searchsorted(lasts, [start, trie.ends_T[start]])
        yield TrieSpan(start, stop, int(first), int(last))


@dataclass(slots=True)
class LayerCache:
    """One layer's keys and values: of the line [1, K, T, D], and of the rows [N, K, S, D]."""

    keys: torch.Tensor
    values: torch.Tensor
    own_keys: torch.Tensor | None = None
    own_values: torch.Tensor | None = None

    def append(self, key: torch.Tensor, value: torch.Tensor, step: int) -> None:
        """Write each row's newest key and value, [1, K, N, D], as its token `step`."""
        if self.own_keys is None or self.own_values is None or step == self.own_keys.shape[2]:
            self.own_keys = _with_room(self.own_keys, key)
            self.own_values = _with_room(self.own_values, value)
        self.own_keys[:, :, step] = key[0].transpose(0, 1)
        self.own_values[:, :, step] = value[0].transpose(0, 1)

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Forget all rows but these."""
        if self.own_keys is not None and self.own_values is not None:
            self.own_keys, self.own_values = self.own_keys[rows], self.own_values[rows]


def _with_room(own: torch.Tensor | None, new_1KND: torch.Tensor) -> torch.Tensor:
    shape = (new_1KND.shape[2], new_1KND.shape[1], ROOM, new_1KND.shape[3])
    room = new_1KND.new_empty(shape)
    return room if own is None else torch.cat([own, room], dim=2)


class SharedPrompts:
    """Keys and values of all layers, and which rows attend to which piece of the line.

    Give it as `decode=` to calls of a model that attends by `trie_attention`:
    with a trie it keeps what the layers compute, without one it attends.
    """

    def __init__(self, trie: TokenTrie, device: torch.device) -> None:
        prompt_lasts = np.array([place[-1] for place in trie.places])
        self.lasts, self.ranks = np.unique(prompt_lasts, return_inverse=True)
        """Each distinct prompt's last place, and for each prompt its number among them."""
        self.step = 0
        """Own tokens of each row before the one in work."""
        self._positions_T = torch.from_numpy(trie.positions_T).to(device)
        self._pieces = tuple(pieces_of(trie, self.lasts))
        self._layers: dict[tuple[torch.nn.Module, int], LayerCache] = {}
        """By layer, and number of the call where a layer attends several times in a pass."""
        self._calls: Counter[torch.nn.Module] = Counter()
        self._blocks: list[tuple[slice, slice]] = []
        self._lengths_N = self._positions_T

    def begin_pass(self) -> None:
        """Say that a model's layers are about to be called from the first on."""
        self._calls.clear()

    def aim(self, ranks_N: Ids, lengths_N: torch.Tensor) -> None:
        """Say of which prompt each row is, in rising order, and how long that prompt is."""
        self._lengths_N = lengths_N
        self._blocks = []
        for piece in self._pieces:
            first, last = np.searchsorted(ranks_N, [piece.first, piece.last]).tolist()
            if first < last:
                self._blocks.append((slice(first, last), slice(piece.start, piece.stop)))

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Forget the own tokens of all rows but these."""
        for layer in self._layers.values():
            layer.keep_rows(rows)

    def keep(self, module: torch.nn.Module, key: torch.Tensor, value: torch.Tensor) -> None:
        """Keep a layer's keys and values of the line, [1, K, T, D]."""
        # Read at every step: a head's keys side by side are read a quarter faster.
        self._layers[self._call(module)] = LayerCache(key.contiguous(), value.contiguous())

    def _call(self, module: torch.nn.Module) -> tuple[torch.nn.Module, int]:
        self._calls[module] += 1
        return module, self._calls[module]

    def attend(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        window: int | None,
    ) -> torch.Tensor:
        """Output [1, N, H, D] of each row's newest token, [1, H, N, D], whose keys are new."""
        layer = self._layers[self._call(module)]
        layer.append(key, value, self.step)
        num_keys = key.shape[1]
        num_rows, size = query.shape[2:]
        q_NKgD = query[0].view(num_keys, -1, num_rows, size).permute(2, 0, 1, 3)
        out_NKgD, lse_NKg = self._own(layer, q_NKgD, scale, window)
        for rows, keys in self._blocks:
            q_KQD = q_NKgD[rows].transpose(0, 1).flatten(1, 2)
            unseen = self._unseen(rows, keys, window, q_NKgD.shape[2])
            part, part_lse = attend_block(
                q_KQD[None], layer.keys[:, :, keys], layer.values[:, :, keys], scale, unseen
            )
            shape = (num_keys, rows.stop - rows.start, -1, size)
            part = part[0].reshape(shape).transpose(0, 1)
            part_lse = part_lse[0].reshape(shape[:3]).transpose(0, 1)
            _merge(out_NKgD[rows], lse_NKg[rows], part, part_lse)
        return out_NKgD.flatten(1, 2)[None].to(query.dtype)

    def _own(
        self, layer: LayerCache, q_NKgD: torch.Tensor, scale: float, window: int | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Output and log-sum-exp over the rows' own tokens, in float32 or better."""
        assert layer.own_keys is not None
        assert layer.own_values is not None
        stop = self.step + 1
        seen = slice(0 if window is None else max(0, stop - window), stop)
        out, lse = attend_block(
            q_NKgD, layer.own_keys[:, :, seen], layer.own_values[:, :, seen], scale, None
        )
        # Laid out in the order of the rows, as the blocks are merged into it in place.
        return out.to(lse.dtype).contiguous(), lse.contiguous()

    def _unseen(
        self, rows: slice, keys: slice, window: int | None, num_groups: int
    ) -> torch.Tensor | None:
        """Return the mask [Q, L] of keys past the newest token's window; None if none are."""
        if window is None:
            return None
        oldest_N1 = (self._lengths_N[rows] + self.step - window)[:, None]
        return (self._positions_T[keys] <= oldest_N1).repeat_interleave(num_groups, dim=0)


def attend_block(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    unseen_QL: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output [W, K, Q, D] and log-sum-exp [W, K, Q] of queries over all keys of a block."""
    if query.device.type == "cpu" and unseen_QL is None:
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, lse = flash(query, key, value, 0.0, False, scale=scale)
        return out, lse
    scores = query @ key.transpose(-1, -2)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32)) * scale
    if unseen_QL is not None:
        # Not minus infinity: a row that sees nothing of the block must not become NaN.
        scores = scores.masked_fill(unseen_QL, -1e30)
    lse = torch.logsumexp(scores, dim=-1)
    return (scores - lse[..., None]).exp().to(value.dtype) @ value, lse


def _merge(
    out: torch.Tensor, lse: torch.Tensor, part: torch.Tensor, part_lse: torch.Tensor
) -> None:
    """Add to `out`, in place, what more keys contribute; log-sum-exps weigh the two."""
    both = torch.logaddexp(lse, part_lse)
    out.lerp_(part.to(out.dtype), (part_lse - both).exp_()[..., None])
    lse.copy_(both)
