"""Rows that each have a cache of the model's own kind, computed one after the other.

For models that take no ready masks, or that keep a state other than keys and
values. Nothing is shared between rows. Where a row grows so long that all its
tokens get other rotary angles, it is computed anew with those.

Shapes: N rows, Q query tokens, T tokens of a branch, V vocabulary.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from oversight.chat.prompt_ids import TokenIds
from oversight.engines.transformers.rows import Work
from oversight.modeling.angles import regime, switch_length

CACHE_NAMES = ("past_key_values", "cache_params", "state")


class SingleRows:
    """Rows that each have a cache of the model's own kind, computed one after the other."""

    def __init__(self, model: Any) -> None:
        self.work = Work()
        self.lengths: list[int] = []
        self._model = model
        self._caches: list[Any] = []
        self._ids: list[TokenIds] = []
        self._has_regimes = switch_length(model) is not None
        self._cache_name = _cache_name(model)

    def join(self, max_lengths: Sequence[int]) -> None:
        """Add empty rows behind the others; their caches grow as needed."""
        self.lengths += [0] * len(max_lengths)
        self._caches += [None] * len(max_lengths)
        self._ids += [np.empty(0, np.int64)] * len(max_lengths)

    def extend(self, first_row: int, token_ids: Sequence[TokenIds]) -> torch.Tensor:
        """Compute more tokens of each row; gives logits [N, V] after the last of each."""
        logits = []
        for row, ids in enumerate(token_ids, first_row):
            self._caches[row], output_QV = self._run(self._caches[row], self._ids[row], ids)
            self._ids[row] = np.concatenate([self._ids[row], ids])
            self.lengths[row] += len(ids)
            logits.append(output_QV[-1])
        return torch.stack(logits).float()

    def score(self, row: int, branches: Sequence[TokenIds]) -> list[torch.Tensor]:
        """Logits after each token of each branch, on copies of the row's cache."""
        scored = []
        for branch in branches:
            cache, steps, before = copy.deepcopy(self._caches[row]), [], self._ids[row]
            # Token by token: models with a recurrent state take a state and one token only.
            for i in range(len(branch)):
                cache, output_QV = self._run(cache, before, branch[i : i + 1])
                before = np.concatenate([before, branch[i : i + 1]])
                steps.append(output_QV[-1].float())
            scored.append(torch.stack(steps))
        return scored

    def _run(self, cache: Any, before: TokenIds, ids: TokenIds) -> tuple[Any, torch.Tensor]:
        """The new cache, and logits after each of `ids`, which follow `before`."""
        if self._has_regimes and cache is not None:
            length = len(before) + len(ids)
            if regime(self._model, length) != regime(self._model, len(before)):
                cache, ids = None, np.concatenate([before, ids])
        self.work.num_passes += 1
        self.work.num_tokens += len(ids)
        ids_1Q = torch.from_numpy(ids)[None].to(self._model.device)
        kept = {} if cache is None else {self._cache_name: cache}
        output = self._model(input_ids=ids_1Q, use_cache=True, **kept)
        return getattr(output, self._cache_name), output.logits[0]

    def remove(self, row: int) -> None:
        """Drop a row; the last row takes its number."""
        self.lengths[row], self._caches[row] = self.lengths[-1], self._caches[-1]
        self._ids[row] = self._ids[-1]
        self.lengths.pop()
        self._caches.pop()
        self._ids.pop()

    def clear(self) -> None:
        """Drop all rows."""
        self.lengths.clear()
        self._caches.clear()
        self._ids.clear()


def _cache_name(model: Any) -> str:
    """The argument that takes the cache; state-space and recurrent models name it otherwise."""
    names = inspect.signature(model.forward).parameters
    return next((name for name in CACHE_NAMES if name in names), CACHE_NAMES[0])
