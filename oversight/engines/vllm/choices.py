"""What the model gave to the options of a choice before vLLM's mask forbade everything else."""

from __future__ import annotations

import math
from dataclasses import replace

from oversight.types import Completion, Request, Sampling

UNREADABLE = "\ufffd"
"""Stands in a token's text for bytes that are no character; many tokens share it."""


def first_token_request(request: Request) -> Request:
    """The same prompt with no constraint, for one greedy token and its alternatives."""
    num_top = request.sampling.top_logprobs
    sampling = Sampling(max_tokens=1, temperature=0.0, logprobs=True, top_logprobs=num_top)
    return replace(request, sampling=sampling)


def unmasked_top(
    free: Completion, constrained: Completion, temperature: float
) -> tuple[tuple[str, float], ...]:
    """The likeliest first tokens before the mask, and the options that are not among them.

    The mask takes every allowed token's log-probability up by the same amount
    (after division by the temperature). One token that is in both lists gives that amount, and
    with it the exact place of the others. If none is, the options are less
    likely than all tokens given here, and are left out.

    Args:
        free: Answer to `first_token_request`.
        constrained: Answer to the request itself.
        temperature: Of the log-probabilities of `constrained`; 1 for those of the model.
    """
    if not free.top:
        return ()
    seen = dict(free.top[0])
    masked = [pair for pair in (constrained.top or ((),))[0] if _identifies(pair[0])]
    shift = next((seen[text] - temperature * value for text, value in masked if text in seen), None)
    if shift is None or not math.isfinite(shift):
        return free.top[0]
    added = [(t, temperature * value + shift) for t, value in masked if t not in seen]
    return (*free.top[0], *added)


def _identifies(text: str) -> bool:
    return bool(text) and UNREADABLE not in text
