"""Dr. GRPO: the clipped surrogate over a constant length.

Shapes: B sequences, T response tokens (padded).
"""

from __future__ import annotations

from torch import Tensor

from oversight.train.losses.metrics import Metrics
from oversight.train.losses.policy.batch import NO_EXTRAS, Extras, PolicyBatch
from oversight.train.losses.policy.surrogate import clipped, token_ratios
from oversight.train.losses.ranges import DualClip, NonNegative, Share, ranged


@ranged
def loss(
    batch: PolicyBatch,
    *,
    normalizer: float | Tensor,
    clip_low: Share = 0.2,
    clip_high: NonNegative = 0.2,
    dual_clip: DualClip = None,
    extras: Extras = NO_EXTRAS,
) -> tuple[Tensor, Metrics]:
    """sum_t -min(w_t A_t, clip(w_t) A_t) over all tokens, by a constant.

    Liu et al. 2025, "Understanding R1-Zero-Like Training", arXiv:2503.20783, section 3.2: GRPO
    without 1/|y_b|. Goes with advantages that are not divided by a standard deviation.

    Args:
        batch: Masked tokens have no influence; where A > 0, raising a token's
            log-probability lowers the loss until its ratio is past 1 + clip_high.
        normalizer: Global number of sequences times the longest response that is allowed
            (not the longest seen).
        clip_low: How far a ratio may fall below 1, in [0, 1].
        clip_high: How far a ratio may rise above 1.
        dual_clip: Bound on the ratio where A < 0, above 1 + clip_high; None for none.
        extras: KL term and entropy bonus, reduced alike.

    Returns:
        The loss and the metrics of `surrogate.ratio_metrics` and `batch.reduced`.
    """
    batch = batch.cleaned()
    return clipped(
        token_ratios(batch),
        batch,
        normalizer=normalizer,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        extras=extras,
        per_sequence=False,
    )
