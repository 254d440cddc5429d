"""GSPO: one ratio a sequence, the geometric mean of its tokens'.

Shapes: B sequences, T response tokens (padded).
"""

from __future__ import annotations

from torch import Tensor

from oversight.train.losses.metrics import Metrics
from oversight.train.losses.policy.batch import NO_EXTRAS, Extras, PolicyBatch
from oversight.train.losses.policy.surrogate import clipped, sequence_ratios
from oversight.train.losses.ranges import DualClip, NonNegative, Share, ranged


@ranged
def loss(
    batch: PolicyBatch,
    *,
    normalizer: float | Tensor,
    clip_low: Share = 3e-4,
    clip_high: NonNegative = 4e-4,
    dual_clip: DualClip = None,
    extras: Extras = NO_EXTRAS,
) -> tuple[Tensor, Metrics]:
    """sum_b -min(s_b A_b, clip(s_b) A_b), s_b = exp(1/|y_b| sum_t log w_t).

    Zheng et al. 2025, "Group Sequence Policy Optimization", arXiv:2507.18071, eqs. 5 and 7, with
    the bounds of its section 5.1. Where advantages differ within a sequence, A_b is their mean
    wherever nothing is clipped; gspo_token is made for them.

    Args:
        batch: Masked tokens count neither in s_b nor in |y_b|.
        normalizer: Global number of sequences.
        clip_low: How far s_b may fall below 1: much less than a token's ratio.
        clip_high: How far s_b may rise above 1.
        dual_clip: Bound on s_b where A < 0, above 1 + clip_high; None for none.
        extras: KL term and entropy bonus, a mean over the tokens of each sequence.

    Returns:
        The loss and the metrics of `surrogate.ratio_metrics` (over tokens, each with its
        sequence's ratio) and `batch.reduced`.
    """
    batch = batch.cleaned()
    return clipped(
        sequence_ratios(batch).expand_as(batch.mask_BT),
        batch,
        normalizer=normalizer,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        extras=extras,
        per_sequence=True,
    )
