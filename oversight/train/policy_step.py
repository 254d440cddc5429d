"""One optimiser step of a policy-gradient method on a mini-batch of rollouts.

Shapes: B responses, R response tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from oversight.errors import ConfigError
from oversight.modeling.scoring.policy import PolicyModel, Scores
from oversight.modeling.scoring.trie import RowBatch
from oversight.train.batches import padded
from oversight.train.experience import Experience
from oversight.train.experience_settings import ExperienceSettings
from oversight.train.losses import load
from oversight.train.losses.kl import estimate
from oversight.train.losses.metrics import (
    SIGNAL,
    Metrics,
    Peak,
    is_rounding,
    masked_sum,
    mean_of,
    merge,
    peak_of,
)
from oversight.train.losses.policy_batch import PolicyBatch, importance_weights
from oversight.train.rollouts.buffer import RolloutBatch
from oversight.train.session import Objective, Session

Surrogate = Callable[..., tuple[torch.Tensor, Metrics]]
Added = Callable[[Scores, RolloutBatch, RowBatch], tuple[torch.Tensor, Metrics]]
"""A further term of the loss, such as the critic's."""


def policy_step(
    config: Any,
    policy: PolicyModel,
    session: Session,
    experience: Experience,
    batch: RolloutBatch,
    surrogate: Surrogate,
    added: Added | None = None,
) -> Objective:
    """The policy's loss on `batch`, divided by counts over the step and all processes.

    Args:
        config: Settings of the run; `loss` names the surrogate.
        policy: The model that is trained.
        session: The run.
        experience: Where the batch comes from.
        batch: Rollouts with `advantages`, a number a row or one a token.
        surrogate: The loss, which takes a PolicyBatch and a normalizer.
        added: A further term.

    Raises:
        ConfigError: The batch was sampled at another temperature than it would be scored at.
    """
    at = config.sampling.temperature
    if batch.temperature is not None and batch.temperature != at:
        raise ConfigError(
            f"sampling.temperature = {at:g}: the batch was sampled at {batch.temperature:g}, and "
            "log-probabilities and ratios are of the temperature sampled at: set "
            f"sampling.temperature = {batch.temperature:g}"
        )
    groups = [np.flatnonzero(batch.groups_B == number) for number in np.unique(batch.groups_B)]
    normalizer = _normalizer(config, session, batch)
    is_fresh = experience.is_fresh

    def loss_of(numbers: list[int]) -> tuple[torch.Tensor, Metrics]:
        return of_part(batch.select(np.concatenate([groups[i] for i in numbers])))

    def of_rows(number: int, rows: list[int]) -> tuple[torch.Tensor, Metrics]:
        return of_part(batch.select(groups[number][rows]))

    def of_part(part: RolloutBatch) -> tuple[torch.Tensor, Metrics]:
        line = RowBatch.build(part.rows, policy.device)
        scores = policy(line, config.sampling.temperature, with_entropy=True)
        given, metrics = policy_batch(config, scores, part)
        total, found = surrogate(given, normalizer=normalizer)
        metrics |= {_renamed(name): value for name, value in found.items()}
        metrics |= _divergences(given, is_fresh)
        metrics[SIGNAL] = _signal(config, given)
        if added is not None:
            term, found = added(scores, part, line)
            total, metrics = total + term, merge(metrics, found)
        return total, metrics

    given_rows = [[batch.rows[i] for i in group] for group in groups]
    return Objective(given_rows, loss_of, of_rows=of_rows)


def policy_batch(
    config: ExperienceSettings, scores: Scores, part: RolloutBatch
) -> tuple[PolicyBatch, Metrics]:
    """Return a surrogate's input: log-probabilities now and then, advantages, weights."""
    mask_BR = scores.mask_BR
    if config.shaping.mask_unfinished:
        finished_B = torch.from_numpy(part.finished_B).to(mask_BR.device)
        mask_BR = mask_BR & finished_B[:, None]

    def tokens(name: str) -> torch.Tensor | None:
        if name not in part.token_values:
            return None
        rows = [torch.from_numpy(np.asarray(v)) for v in part.token_values[name]]
        return padded(rows, mask_BR)

    old_BR = tokens("old_logps")
    if old_BR is None:  # the only step on these rollouts: the policy is the one that sampled
        old_BR = scores.logps_BR.detach()
    advantages_BR = tokens("advantages")
    if advantages_BR is None:
        by_row = torch.from_numpy(part.row_values["advantages"]).float().to(mask_BR.device)
        advantages_BR = by_row[:, None].expand(mask_BR.shape)
    sampler_BR = _sampler_logps(part, mask_BR)
    weights_BR, metrics = _weights(config, old_BR, sampler_BR, mask_BR)
    return (
        PolicyBatch(
            logps_BT=scores.logps_BR,
            old_logps_BT=old_BR,
            advantages_BT=advantages_BR,
            mask_BT=mask_BR,
            ref_logps_BT=tokens("ref_logps"),
            sampler_logps_BT=sampler_BR,
            entropy_BT=scores.entropy_BR,
            importance_BT=weights_BR,
        ),
        metrics,
    )


def _sampler_logps(part: RolloutBatch, mask_BR: torch.Tensor) -> torch.Tensor:
    """The sampler's own log-probabilities; NaN where it gave none."""
    rows = [
        torch.full((len(row.response_ids),), torch.nan)
        if row.logprobs is None
        else torch.from_numpy(row.logprobs)
        for row in part.rows
    ]
    return padded(rows, mask_BR)


def _weights(
    config: ExperienceSettings,
    old_BR: torch.Tensor,
    sampler_BR: torch.Tensor,
    mask_BR: torch.Tensor,
) -> tuple[torch.Tensor | None, Metrics]:
    how = config.importance
    if how.mode == "none":
        return None, {}
    return importance_weights(
        old_BR, sampler_BR, mask_BR, level=how.level, mode=how.mode, high=how.high, low=how.low
    )


@torch.no_grad()
def _signal(config: Any, given: PolicyBatch) -> Peak:
    """0 where nothing in these rollouts says where the policy should go, else more.

    That is where all advantages are 0, there is no entropy bonus, and a divergence from the
    reference that is held down is rounding. Of a gradient of 1e-9 Adam makes steps as large as
    its rate.
    """
    mask_BT = given.mask_BT
    signal_BT = given.advantages_BT.abs().expand(mask_BT.shape)
    coefficient = getattr(config, "kl_coefficient", 0.0)
    if coefficient and given.ref_logps_BT is not None and mask_BT.any():
        ours, theirs = given.logps_BT[mask_BT], given.ref_logps_BT[mask_BT]
        if not is_rounding(ours, theirs, config.model.precision):
            signal_BT = torch.ones_like(signal_BT)
    if config.entropy_coefficient:
        signal_BT = torch.ones_like(signal_BT)
    return peak_of(signal_BT, mask_BT)


@torch.no_grad()
def _divergences(given: PolicyBatch, is_fresh: bool) -> Metrics:
    """KL from the reference in nats a response, and how far the sampler is off."""
    metrics: Metrics = {}
    rows_B = given.mask_BT.any(1)
    if given.ref_logps_BT is not None:
        tokens_BT = estimate(given.logps_BT, given.ref_logps_BT)
        metrics["kl"] = mean_of(masked_sum(tokens_BT, given.mask_BT, 1), rows_B)
    if is_fresh and given.sampler_logps_BT is not None:
        known_BT = given.mask_BT & ~given.sampler_logps_BT.isnan()
        error_BT = (given.logps_BT - given.sampler_logps_BT).exp().sub(1.0).abs()
        metrics["ratio_error"] = peak_of(error_BT, known_BT)
    return metrics


def _renamed(name: str) -> str:
    """The surrogate's KL is a token's; guards and people look at a response's."""
    return "kl_per_token" if name == "kl" else name


def _normalizer(config: Any, session: Session, batch: RolloutBatch) -> float:
    finished = batch.finished_B if config.shaping.mask_unfinished else np.ones(len(batch), bool)
    rows = [row for row, counts in zip(batch.rows, finished, strict=True) if counts]
    num_tokens = sum(row.num_trained for row in rows)
    tokens, sequences = session.world.sum([float(num_tokens), float(len(rows))])
    constant = sequences * config.sampling.max_new_tokens
    counts: dict[str, float] = {"tokens": tokens, "sequences": sequences, "constant": constant}
    return counts[load("policy", config.loss).normalizer]
