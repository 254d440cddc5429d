"""Token rows, which models score, and the contract that every model is held to: see `contract`.

A row is a prompt and a response as ids; it is imported without torch. `scoring` gives
log-probabilities, rewards and hidden states of rows; `small` makes the models that the contract is
tried on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
"""Token ids, shape [T]."""


Mask = npt.NDArray[np.bool_]
"""One truth value a token, shape [T]."""


Floats = npt.NDArray[np.float32]
"""One number a token, shape [T]."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenRow:
    """A prompt and one response to it: what a model scores.

    Of one trajectory with several turns of the policy, either each turn is a
    row whose prompt is all before it (rows share what they share when they are
    scored together), or the whole is one row whose mask leaves out what was given.
    """

    prompt_ids: Ids
    """At least one token: the first of a sequence is predicted by nothing."""
    response_ids: Ids
    mask: Mask | None = None
    """Marks of the response tokens that are learnt from; None for all."""
    logprobs: Floats | None = None
    """The sampler's own natural log-probability of each response token, at the temperature that it
    sampled at: to be compared with scores at that temperature alone."""
    id: str = ""
    """Its source, for messages."""

    @property
    def num_tokens(self) -> int:
        """Tokens of prompt and response."""
        return len(self.prompt_ids) + len(self.response_ids)

    @property
    def num_trained(self) -> int:
        """Response tokens that are learnt from."""
        return len(self.response_ids) if self.mask is None else int(self.mask.sum())

    def ids(self) -> Ids:
        """Prompt and response as one sequence."""
        return np.concatenate([self.prompt_ids, self.response_ids])
