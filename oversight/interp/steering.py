"""Models run changed: scored, generated from, and steered wherever they are called.

`scores` and `generate` take a list of edits for each row (`oversight.modeling.scoring.sites`);
`steered` holds edits at all tokens of every pass while it lasts, whoever calls the model: the
engine, a trainer, or transformers' own `generate`. The edits are the field's interventions:
activation addition (Turner et al. 2023, arXiv:2308.10248), directional ablation (Arditi et al.
2024, arXiv:2406.11717), activation patching (Vig et al. 2020, arXiv:2004.12265).

Shapes: R response tokens of the longest row, E hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from oversight.errors import ConfigError
from oversight.modeling import Ids, TokenRow
from oversight.modeling.scoring.logprobs import token_logprobs
from oversight.modeling.scoring.policy import PolicyModel
from oversight.modeling.scoring.sites import SiteEdit, SiteModules
from oversight.modeling.scoring.watching import Watch, placed


@contextmanager
def steered(model: Any, edits: Sequence[SiteEdit]) -> Iterator[None]:
    """While it lasts, `edits` hold at all tokens of every pass of a transformers model.

    Raises:
        ConfigError: An edit is for chosen tokens, or of a site that the model has not got.
    """
    watch = Watch(SiteModules(model))
    watch.everywhere(edits)
    with watch.hooked():
        yield


def scores(
    policy: PolicyModel,
    rows: Sequence[TokenRow],
    edits: Sequence[Sequence[SiteEdit]] | None = None,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Natural log-probability [B, R] of each response token under the edits of its row; 0 where
    there is padding. They have a gradient, in edits too.

    Args:
        policy: The model.
        rows: Prompts and responses.
        edits: Of each row; None for none.
        temperature: Above 0.

    Raises:
        ConfigError: An edit does not fit the model or its row.
    """
    batch = policy.edited(rows, edits)
    watch = placed(policy.site_modules, (), batch.trie, edits)
    final_TE = policy.watched(batch, watch)
    logps_N, _ = token_logprobs(
        final_TE[batch.before_N],
        policy.head,
        batch.targets_N,
        temperature=temperature,
        with_entropy=False,
    )
    return batch.spread(logps_N)


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """Tokens that a model gave under edits, with their log-probabilities."""

    ids: Ids
    logprobs: torch.Tensor
    """Natural, of the tempered distribution; of the model's own where it was greedy."""


@torch.no_grad()
def generate(
    policy: PolicyModel,
    prompt: Ids,
    edits: Sequence[SiteEdit] = (),
    *,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    stop_ids: Sequence[int] = (),
) -> Generated:
    """Go on from a prompt under edits, which hold for its tokens and for those that come.

    An edit for chosen tokens counts them in prompt and answer together, from 0; one for all tokens
    holds at each new one. What is generated is what `scores` gives those log-probabilities.

    Args:
        policy: The model.
        prompt: At least one token.
        edits: Changes of the model while it reads and writes.
        max_new_tokens: The most that come.
        temperature: 0 for the likeliest token each time.
        seed: Of the sampling.
        stop_ids: Tokens after which it ends, such as the tokenizer's EOS.

    Raises:
        ConfigError: An edit counts tokens from the end, which moves, or does not fit the model.
    """
    for edit in edits:
        if any(at < 0 for at in edit.positions or ()):
            raise ConfigError(
                f"edit of {edit.site}: positions {list(edit.positions or ())} count from an end "
                "that moves while tokens come; count them from 0"
            )
    if policy.switch_length is not None and len(prompt) + max_new_tokens > policy.switch_length:
        raise ConfigError(
            f"max_new_tokens = {max_new_tokens}: past {policy.switch_length} tokens this model "
            "turns positions by other angles; generate fewer"
        )
    rng = torch.Generator().manual_seed(seed)
    row = policy.growing_row(edits)
    final_E = row.extend(prompt)[-1]
    ids: list[int] = []
    logprobs: list[torch.Tensor] = []
    while True:
        logps_V = policy.head.logits(final_E[None], temperature or 1.0)[0].log_softmax(-1)
        if temperature:
            token = int(torch.multinomial(logps_V.exp().cpu(), 1, generator=rng))
        else:
            token = int(logps_V.argmax())
        ids.append(token)
        logprobs.append(logps_V[token])
        if token in stop_ids or len(ids) >= max_new_tokens:
            break
        final_E = row.extend(np.array([token]))[-1]
    return Generated(np.array(ids), torch.stack(logprobs))
