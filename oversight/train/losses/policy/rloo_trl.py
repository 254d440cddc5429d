"""TRL's RLOO: the clipped surrogate on the ratio of whole responses.

Shapes: B sequences, T response tokens (padded).
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from oversight.train.losses.kl import safe_exp
from oversight.train.losses.masked import masked_mean
from oversight.train.losses.metrics import Metrics
from oversight.train.losses.policy.batch import NO_EXTRAS, Extras, PolicyBatch
from oversight.train.losses.policy.surrogate import clipped
from oversight.train.losses.ranges import NonNegative, Share, ranged


@ranged
def loss(
    batch: PolicyBatch,
    *,
    normalizer: float | Tensor,
    clip_low: Share = 0.2,
    clip_high: NonNegative = 0.2,
    extras: Extras = NO_EXTRAS,
) -> tuple[Tensor, Metrics]:
    """sum_b -min(w_b A_b, clip(w_b) A_b), w_b = prod_t w_t.

    RLOO (Ahmadian et al. 2024, arXiv:2402.14740) has no ratio: its own form is `reinforce` with
    leave-one-out advantages and the number of sequences as normalizer. This is what TRL's trainer
    of that name does, for reuse of samples; on fresh ones both have one gradient.

    Args:
        batch: Masked tokens have no influence; A_b is the mean of a row's advantages.
        normalizer: Global number of sequences.
        clip_low: How far w_b may fall below 1, in [0, 1].
        clip_high: How far w_b may rise above 1.
        extras: KL term and entropy bonus, a mean over the tokens of each sequence.

    Returns:
        The loss and the metrics of `surrogate.ratio_metrics` (over tokens, each with its
        sequence's ratio) and `batch.reduced`.
    """
    batch = batch.cleaned()
    log_ratio_BT = batch.logps_BT - batch.old_logps_BT
    ratio_BT = safe_exp(log_ratio_BT.sum(1, keepdim=True)).expand_as(log_ratio_BT)
    advantage_B = masked_mean(batch.advantages_BT, batch.mask_BT, dim=1)
    batch = replace(batch, advantages_BT=advantage_B[:, None].expand_as(log_ratio_BT))
    return clipped(
        ratio_BT,
        batch,
        normalizer=normalizer,
        clip_low=clip_low,
        clip_high=clip_high,
        extras=extras,
        per_sequence=True,
    )
