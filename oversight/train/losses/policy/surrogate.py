"""The clipped surrogate of PPO and its descendants.

Shapes: any that broadcast; mostly BT.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oversight.train.losses.kl import safe_exp
from oversight.train.losses.masked import masked_mean
from oversight.train.losses.metrics import Metrics, mean_of, peak_of
from oversight.train.losses.policy.batch import Extras, PolicyBatch, reduced
from oversight.train.losses.ranges import DualClip, NonNegative, Share, ranged


def token_ratios(batch: PolicyBatch) -> Tensor:
    """w_t of each token of a cleaned batch; shape BT."""
    return safe_exp(batch.logps_BT - batch.old_logps_BT)


def sequence_ratios(batch: PolicyBatch) -> Tensor:
    """The geometric mean of each sequence's w_t, of a cleaned batch; shape B1."""
    return safe_exp(masked_mean(batch.logps_BT - batch.old_logps_BT, batch.mask_BT, 1))[:, None]


def clipped(
    ratio_BT: Tensor,
    batch: PolicyBatch,
    *,
    normalizer: float | Tensor,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
    extras: Extras,
    per_sequence: bool,
) -> tuple[Tensor, Metrics]:
    """The clipped surrogate of a cleaned batch at the ratios of a loss, reduced as `batch.reduced`.

    Returns:
        The loss and the metrics of `ratio_metrics` and `batch.reduced`.
    """
    policy_BT = clipped_surrogate(
        ratio_BT,
        batch.advantages_BT,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
    )
    total, metrics = reduced(
        policy_BT, batch, normalizer=normalizer, extras=extras, per_sequence=per_sequence
    )
    metrics |= ratio_metrics(
        ratio_BT,
        batch.advantages_BT,
        batch.mask_BT,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
    )
    return total, metrics


@ranged
def clipped_surrogate(
    ratio: Tensor,
    advantages: Tensor,
    *,
    clip_low: Share,
    clip_high: NonNegative,
    dual_clip: DualClip = None,
) -> Tensor:
    """-min(w A, clip(w) A); with dual clip no more than -c A where A < 0.

    Schulman et al. 2017, arXiv:1707.06347, eq. 7. Dual clip (Ye et al. 2020, "Mastering Complex
    Control in MOBA Games", arXiv:1912.09729, eq. 5): where A < 0 the loss of a token grows with w
    without end; c bounds it. Dual clip is also what TRL calls `delta`.
    """
    held = ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = -torch.minimum(ratio * advantages, held * advantages)
    if dual_clip is None:
        return loss
    return torch.where(advantages < 0, torch.minimum(loss, -dual_clip * advantages), loss)


def ratio_metrics(
    ratio: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> Metrics:
    """Mean and largest ratio, and the shares whose gradient a bound takes away."""
    with torch.no_grad():
        metrics: Metrics = {
            "ratio": mean_of(ratio, mask),
            "ratio_max": peak_of(ratio, mask),
            "clip_low": mean_of((ratio < 1 - clip_low) & (advantages < 0), mask),
            "clip_high": mean_of((ratio > 1 + clip_high) & (advantages > 0), mask),
        }
        if dual_clip is not None:
            metrics["clip_dual"] = mean_of((ratio > dual_clip) & (advantages < 0), mask)
    return metrics
