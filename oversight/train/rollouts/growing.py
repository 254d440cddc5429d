"""The responses of one batch while they grow: what is drawn, what has ended, who leaves.

Shapes: N rows (responses) still in the batch, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from oversight.engines.transformers.sampling import sample as draw
from oversight.train.rollouts.decoding import SharedPrompts
from oversight.train.rollouts.types import Sampled
from oversight.train.types import Ids

LEAVE_SHARE = 8
"""Ended rows leave when they are this part (one eighth) of the batch: leaving copies the rest."""

Uniforms = npt.NDArray[np.float64]


class Growing:
    """The responses of one batch while they grow, those of one prompt side by side."""

    def __init__(
        self,
        shared: SharedPrompts,
        ranks_N: Ids,
        lengths_N: torch.Tensor,
        uniforms: Uniforms,
        eos_ids: frozenset[int],
    ) -> None:
        self.ranks_N = ranks_N
        self.lengths_N = lengths_N
        """Tokens of each row's prompt."""
        self._shared = shared
        self._uniforms = uniforms
        self._eos_ids = eos_ids
        self._row_N = np.arange(len(ranks_N))
        """Number of each row that is still in the batch."""
        self._tokens = np.zeros(uniforms.shape, dtype=np.int64)
        self._logprobs = np.zeros(uniforms.shape, dtype=np.float32)
        self._lengths = np.zeros(len(ranks_N), dtype=np.int64)
        """Tokens of each response that has ended; 0 while it grows."""
        self._num_steps, self._max_steps = 0, uniforms.shape[-1]
        shared.aim(ranks_N, lengths_N)

    @property
    def done(self) -> bool:
        """Whether no response grows any more."""
        return self._num_steps == self._max_steps or bool(self._lengths.all())

    def take(self, logits_NV: torch.Tensor) -> torch.Tensor:
        """Draw a token for each row and let those go that have ended; the others' tokens [N]."""
        step = min(self._num_steps, self._max_steps - 1)
        num_rows = len(self._row_N)
        ones = [1.0] * num_rows
        tokens, logps = draw(logits_NV, ones, ones, self._uniforms[self._row_N, step].tolist())
        tokens_N = np.array(tokens)
        if not self.done:
            self._write(tokens_N, np.array(logps, dtype=np.float32), step)
            self._num_steps += 1
        ended_N = self._lengths[self._row_N] > 0
        if not self.done and ended_N.sum() * LEAVE_SHARE >= num_rows:
            tokens_N = tokens_N[~ended_N]
            self._leave(~ended_N)
        return torch.from_numpy(tokens_N).to(logits_NV.device)

    def _write(self, tokens_N: Ids, logps_N: npt.NDArray[np.float32], step: int) -> None:
        grows_N = self._lengths[self._row_N] == 0
        rows = self._row_N[grows_N]
        self._tokens[rows, step] = tokens_N[grows_N]
        self._logprobs[rows, step] = logps_N[grows_N]
        self._lengths[rows[np.isin(tokens_N[grows_N], list(self._eos_ids))]] = step + 1

    def _leave(self, stays_N: npt.NDArray[np.bool_]) -> None:
        kept = torch.from_numpy(np.flatnonzero(stays_N)).to(self.lengths_N.device)
        self._row_N, self.ranks_N = self._row_N[stays_N], self.ranks_N[stays_N]
        self.lengths_N = self.lengths_N[kept]
        self._shared.keep_rows(kept)
        self._shared.aim(self.ranks_N, self.lengths_N)

    def responses(self) -> list[Sampled]:
        """All of them, in the order of the rows at the beginning."""
        return [
            Sampled(
                token_ids=self._tokens[i, : length or self._num_steps].copy(),
                logprobs=self._logprobs[i, : length or self._num_steps].copy(),
                finished=bool(length),
            )
            for i, length in enumerate(self._lengths)
        ]
