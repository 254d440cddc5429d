"""GRPO: the clipped surrogate, each sequence counting the same.

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
    """sum_b 1/|y_b| sum_t -min(w_t A_t, clip(w_t) A_t).

    Shao et al. 2024 (DeepSeekMath), arXiv:2402.03300, eq. 3. Its KL term (eq. 4) is biased:
    `extras` with `kl_estimator` "k3" is the paper's, while the default is the corrected one. The
    division by each response's own length makes long wrong answers cheap (Liu et al. 2025,
    arXiv:2503.20783): see dr_grpo, dapo.

    Args:
        batch: Masked tokens have no influence; where A > 0, raising a token's
            log-probability lowers the loss until its ratio is past 1 + clip_high.
        normalizer: Global number of sequences.
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
        per_sequence=True,
    )
