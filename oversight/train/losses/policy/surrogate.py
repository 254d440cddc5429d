"""The clipped surrogate of PPO and its descendants.

Shapes: any that broadcast; mostly BT.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oversight.train.losses import require
from oversight.train.losses.metrics import Metrics, mean_of, peak_of


def check_clips(clip_low: float, clip_high: float, dual_clip: float | None) -> None:
    """Refuse bounds out of range.

    Raises:
        ConfigError: A bound is.
    """
    require(0 <= clip_low <= 1, "clip_low", clip_low, "a number in [0, 1]")
    require(clip_high >= 0, "clip_high", clip_high, "a number of at least 0")
    if dual_clip is not None:
        bound = f"a number above 1 + clip_high = {1 + clip_high}, or None"
        require(dual_clip > 1 + clip_high, "dual_clip", dual_clip, bound)


def clipped_surrogate(
    ratio: Tensor,
    advantages: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> Tensor:
    """-min(w A, clip(w) A); with dual clip no more than -c A where A < 0.

    Schulman et al. 2017, eq. 7. Dual clip (Ye et al. 2020, "Mastering
    Complex Control in MOBA Games"): where A < 0 the loss of a
    token grows with w without end; c bounds it. Dual clip is also what TRL calls `delta`.
    """
    check_clips(clip_low, clip_high, dual_clip)
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
