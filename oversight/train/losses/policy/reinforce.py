"""REINFORCE: log-probability times advantage, nothing clipped.

Shapes: B sequences, T response tokens (padded).
"""

from __future__ import annotations

from torch import Tensor

from oversight.train.losses.kl import safe_exp
from oversight.train.losses.metrics import Metrics, mean_of, peak_of
from oversight.train.losses.policy.batch import NO_EXTRAS, Extras, PolicyBatch, reduced
from oversight.train.losses.ranges import ranged


@ranged
def loss(
    batch: PolicyBatch,
    *,
    normalizer: float | Tensor,
    extras: Extras = NO_EXTRAS,
) -> tuple[Tensor, Metrics]:
    """sum_t -A_t log pi(y_t) over all tokens.

    Williams 1992; with leave-one-out advantages RLOO (Ahmadian et al. 2024, arXiv:2402.14740,
    section 2.3). On-policy: the ratio to the sampling policy is reported, not corrected.

    Args:
        batch: Masked tokens have no influence; where A > 0, raising a token's
            log-probability lowers the loss.
        normalizer: Global number of sequences for the gradient of the expected return (and
            for RLOO); of tokens for that gradient by the mean length.
        extras: KL term and entropy bonus, reduced alike.

    Returns:
        The loss and `ratio`, `ratio_max` and the metrics of `batch.reduced`.
    """
    batch = batch.cleaned()
    total, metrics = reduced(
        -batch.advantages_BT * batch.logps_BT,
        batch,
        normalizer=normalizer,
        extras=extras,
        per_sequence=False,
    )
    ratio_BT = safe_exp((batch.logps_BT - batch.old_logps_BT).detach())
    metrics["ratio"] = mean_of(ratio_BT, batch.mask_BT)
    metrics["ratio_max"] = peak_of(ratio_BT, batch.mask_BT)
    return total, metrics
