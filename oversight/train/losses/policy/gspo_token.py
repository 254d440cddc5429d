"""GSPO-token: the value of a sequence's ratio with the gradient of each token.

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
    """sum_b 1/|y_b| sum_t -min(s_t A_t, clip(s_t) A_t), s_t = sg[s_b] pi(y_t)/sg[pi(y_t)].

    Zheng et al. 2025, "Group Sequence Policy Optimization", arXiv:2507.18071, eqs. 13 and 14: s_b
    is that of gspo and sg stops the gradient. Equal to gspo, gradient included, where all tokens
    of a sequence have one advantage; each token may have its own.

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
    itself_BT = (batch.logps_BT - batch.logps_BT.detach()).exp()  # 1, with a gradient
    return clipped(
        sequence_ratios(batch).detach() * itself_BT,
        batch,
        normalizer=normalizer,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        extras=extras,
        per_sequence=True,
    )
