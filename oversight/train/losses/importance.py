"""Weights for tokens that another program sampled: the sampler and the trainer disagree.

Even with equal weights an engine's kernels, precision or batching give other
log-probabilities than the trainer's. With log w_t = log pi_old(y_t) - log pi_sampler(y_t):

    token      w_t of each token (biased for sequences, low variance)
    sequence   exp sum_t log w_t of each sequence (unbiased, high variance)
    geometric  exp mean_t log w_t of each sequence (biased, independent of length)

and bounds C: "truncate" (Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You
Off-Policy RL Training", https://fengyao.notion.site/off-policy-rl: min(w, C)) or "mask" (Liu et
al. 2025, "When Speed Kills Stability", https://yingru.notion.site: 0 outside the bounds; a
geometric mask is that of whole sequences). Both are notes without numbered equations.

TRL's `vllm_importance_sampling_mode` has token and sequence, with C = 3.

Shapes: B sequences, T response tokens (padded).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from oversight.train.losses.kl import MAX_LOG
from oversight.train.losses.masked import clean
from oversight.train.losses.metrics import Mean, Metrics, mean_of, peak_of
from oversight.train.losses.options import NonNegative, Positive, checked, require

Level = Literal["token", "sequence", "geometric"]
Mode = Literal["truncate", "mask"]


@checked
def weights(
    old_logps_BT: Tensor,
    sampler_logps_BT: Tensor,
    mask_BT: Tensor,
    *,
    level: Level = "token",
    mode: Mode = "truncate",
    high: Positive | None = 2.0,
    low: NonNegative | None = None,
) -> tuple[Tensor, Metrics]:
    """A factor for each token's loss, without gradient, and how much they change.

    Args:
        old_logps_BT: Log-probabilities of the sampled tokens by the trainer's code, under
            the weights that sampled.
        sampler_logps_BT: The same as the sampler gave them, of the same tempered
            distribution. NaN where it gave none: such a token counts as w_t = 1.
        mask_BT: True where learnt from; the weight is 0 elsewhere.
        level: token, sequence or geometric; see the head of this module.
        mode: truncate or mask.
        high: Upper bound C of a weight; None for none.
        low: Lower bound; None for none.

    Returns:
        Weights of shape BT and, under `importance/`: `weight` (mean before the bounds),
        `weight_max`, `truncated`, `masked` (shares), `ess` (effective share of the samples,
        (sum w)^2 / (n sum w^2), after the bounds and within one call), `log_ratio_abs` (mean
        over tokens) and `unknown` (share of tokens without a sampler's log-probability). Of
        tokens or, for the other levels, of sequences.
    """
    with torch.no_grad():
        unknown_BT = sampler_logps_BT.isnan()
        known_BT = mask_BT & ~unknown_BT
        log_BT = clean(old_logps_BT - sampler_logps_BT, known_BT)
        raw, units = _raw(log_BT, mask_BT, level)
        bounded, outside = _bounded(raw, mode, low, high)
        weights_BT = clean(bounded.expand(mask_BT.shape), mask_BT)
        metrics = _metrics(raw, bounded, outside, units, mode)
        metrics["importance/log_ratio_abs"] = mean_of(log_BT.abs(), mask_BT)
        metrics["importance/unknown"] = mean_of(unknown_BT, mask_BT)
    return weights_BT, metrics


def _raw(log_BT: Tensor, mask_BT: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    """Weights before bounds, and which count: BT for tokens, B1 for sequences."""
    if level == "token":
        return log_BT.clamp(-MAX_LOG, MAX_LOG).exp(), mask_BT
    log_B1 = log_BT.sum(1, keepdim=True)
    if level == "geometric":
        log_B1 = log_B1 / mask_BT.sum(1, keepdim=True).clamp(min=1)
    return log_B1.clamp(-MAX_LOG, MAX_LOG).exp(), mask_BT.any(1, keepdim=True)


def _bounded(
    raw: Tensor, mode: Mode, low: float | None, high: float | None
) -> tuple[Tensor, Tensor]:
    floor = float("-inf") if low is None else low
    ceiling = float("inf") if high is None else high
    require(floor < ceiling, "low", low, f"a number below high = {high!r}")
    outside = (raw < floor) | (raw > ceiling)
    if mode == "mask":
        return torch.where(outside, 0.0, raw), outside
    return raw.clamp(floor, ceiling), outside


def _metrics(raw: Tensor, bounded: Tensor, outside: Tensor, units: Tensor, mode: Mode) -> Metrics:
    num = units.sum().to(raw.dtype)
    kept = clean(bounded, units)
    effective = kept.sum().square() / kept.square().sum().clamp(min=1e-30)
    none = torch.zeros_like(outside)
    return {
        "importance/weight": mean_of(raw, units),
        "importance/weight_max": peak_of(raw, units),
        "importance/truncated": mean_of(outside if mode == "truncate" else none, units),
        "importance/masked": mean_of(outside if mode == "mask" else none, units),
        "importance/ess": Mean(effective, num),
    }
