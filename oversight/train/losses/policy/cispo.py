"""CISPO: REINFORCE whose importance weight is clipped, so that no token loses its gradient.

Shapes: B sequences, T response tokens (padded).
"""

from __future__ import annotations

import torch
from torch import Tensor

from oversight.train.losses.kl import safe_exp
from oversight.train.losses.metrics import Metrics, mean_of, peak_of
from oversight.train.losses.policy.batch import NO_EXTRAS, Extras, PolicyBatch, reduced
from oversight.train.losses.ranges import NonNegative, Share, ranged


@ranged
def loss(
    batch: PolicyBatch,
    *,
    normalizer: float | Tensor,
    clip_low: Share | None = None,
    clip_high: NonNegative = 4.0,
    extras: Extras = NO_EXTRAS,
) -> tuple[Tensor, Metrics]:
    """sum_t -sg[clip(w_t)] A_t log pi(y_t) over all tokens; sg stops the gradient.

    MiniMax 2025 (MiniMax-M1), arXiv:2506.13585, eqs. 4 and 5; there by the tokens of each group,
    here by those of the step. The paper sets no lower bound either. Its upper bound is
    1 + clip_high, of which it gives no value: 5 is that of ScaleRL (arXiv:2510.13786). TRL's
    `epsilon_high` for this loss is that sum itself.

    Args:
        batch: Masked tokens have no influence; where A > 0, raising a token's
            log-probability lowers the loss, however large its ratio.
        normalizer: Global number of tokens learnt from.
        clip_low: Weights are at least 1 - clip_low; None for no lower bound.
        clip_high: Weights are at most 1 + clip_high.
        extras: KL term and entropy bonus, reduced alike.

    Returns:
        The loss and `ratio`, `ratio_max`, `clip_low`, `clip_high` (shares whose weight is
        bounded) and the metrics of `batch.reduced`.
    """
    batch = batch.cleaned()
    floor, ceiling = 0.0 if clip_low is None else 1 - clip_low, 1 + clip_high
    ratio_BT = safe_exp(batch.logps_BT - batch.old_logps_BT).detach()
    policy_BT = -ratio_BT.clamp(floor, ceiling) * batch.advantages_BT * batch.logps_BT
    total, metrics = reduced(
        policy_BT, batch, normalizer=normalizer, extras=extras, per_sequence=False
    )
    with torch.no_grad():
        metrics["ratio"] = mean_of(ratio_BT, batch.mask_BT)
        metrics["ratio_max"] = peak_of(ratio_BT, batch.mask_BT)
        metrics["clip_low"] = mean_of(ratio_BT < floor, batch.mask_BT)
        metrics["clip_high"] = mean_of(ratio_BT > ceiling, batch.mask_BT)
    return total, metrics
