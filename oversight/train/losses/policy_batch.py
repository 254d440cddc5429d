"""Sampled tokens as a policy loss takes them: weighed for their sampler, clipped, reduced.

All policy losses do this alike. Importance weights are for tokens that another program sampled:
even with equal weights an engine's kernels, precision or batching give other log-probabilities
than the trainer's. With log w_t = log pi_old(y_t) - log pi_sampler(y_t):

    token      w_t of each token (biased for sequences, low variance)
    sequence   exp sum_t log w_t of each sequence (unbiased, high variance)
    geometric  exp mean_t log w_t of each sequence (biased, independent of length)

and bounds C: "truncate" (Yao et al. 2025, "Your Efficient RL Framework Secretly Brings You
Off-Policy RL Training", https://fengyao.notion.site/off-policy-rl: min(w, C)) or "mask" (Liu et
al. 2025, "When Speed Kills Stability", https://yingru.notion.site: 0 outside the bounds; a
geometric mask is that of whole sequences). Both are notes without numbered equations.

TRL's `vllm_importance_sampling_mode` has token and sequence, with C = 3.

Shapes: B sequences, T response tokens (padded); those of the surrogate any that broadcast.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from oversight.train.losses.kl import MAX_LOG, estimate, per_token, safe_exp
from oversight.train.losses.metrics import (
    Mean,
    Metrics,
    clean,
    divide,
    masked_mean,
    mean_of,
    peak_of,
    promote,
)
from oversight.train.losses.options import (
    DualClip,
    LossEstimator,
    NonNegative,
    Positive,
    Share,
    check,
    checked,
    require,
)

ImportanceLevel = Literal["token", "sequence", "geometric"]
BoundMode = Literal["truncate", "mask"]


@dataclass(frozen=True, slots=True, eq=False)
class PolicyBatch:
    """Sampled responses with their advantages. Masked places may hold anything."""

    logps_BT: Tensor
    """Log-probabilities of the sampled tokens, with gradient."""
    old_logps_BT: Tensor
    """The same under the policy that sampled, by the trainer's code. On fresh rollouts
    `logps_BT.detach()`, which makes all ratios exactly 1."""
    advantages_BT: Tensor
    """Expanded over tokens where it is one a sequence."""
    mask_BT: Tensor
    """True where learnt from."""
    ref_logps_BT: Tensor | None = None
    """Under the reference; needed with a KL coefficient, else for the metric alone."""
    sampler_logps_BT: Tensor | None = None
    """As the sampler gave them, for the metric of how far sampler and trainer are apart."""
    entropy_BT: Tensor | None = None
    """Entropy of the policy at each place, with gradient where there is an entropy bonus."""
    importance_BT: Tensor | None = None
    """Factor of each token's loss (`importance_weights`); None for 1."""

    def cleaned(self) -> PolicyBatch:
        """The same in at least float32, zero where masked; only what is learnt has gradient."""

        def constant(values: Tensor | None) -> Tensor | None:
            return None if values is None else clean(values.detach(), self.mask_BT)

        return replace(
            self,
            logps_BT=clean(self.logps_BT, self.mask_BT),
            old_logps_BT=clean(self.old_logps_BT.detach(), self.mask_BT),
            advantages_BT=clean(self.advantages_BT.detach(), self.mask_BT),
            ref_logps_BT=constant(self.ref_logps_BT),
            entropy_BT=None if self.entropy_BT is None else clean(self.entropy_BT, self.mask_BT),
            importance_BT=constant(self.importance_BT),
        )


@dataclass(frozen=True, slots=True)
class Extras:
    """Terms that are added to each token's loss and reduced with it."""

    kl_coefficient: NonNegative = 0.0
    """Of KL(pi || ref); 0 for none."""
    kl_estimator: LossEstimator = "k3_ratio"
    """See `kl`: "k3" is the original GRPO's, which is biased."""
    entropy_coefficient: NonNegative = 0.0
    """Of the entropy bonus (Schulman et al. 2017, arXiv:1707.06347, eq. 9); 0 for none."""

    def __post_init__(self) -> None:
        check(Extras, asdict(self))


NO_EXTRAS = Extras()


def reduced(
    policy_BT: Tensor,
    batch: PolicyBatch,
    *,
    normalizer: float | Tensor,
    extras: Extras,
    per_sequence: bool,
) -> tuple[Tensor, Metrics]:
    """The tokens' losses with importance weights and extras, summed by the normalizer.

    Importance weights multiply the policy term, and the KL term where its estimator corrects
    for the sampling policy; GRPO's own k3 and the entropy bonus they leave as they are.

    Args:
        policy_BT: The loss of each token.
        batch: Cleaned.
        normalizer: Global number of tokens, or of sequences if `per_sequence`.
        extras: KL term and entropy bonus.
        per_sequence: Each sequence counts by its mean over tokens, not its sum.
    """
    loss_BT = policy_BT if batch.importance_BT is None else policy_BT * batch.importance_BT
    if extras.kl_coefficient:
        loss_BT = loss_BT + extras.kl_coefficient * _kl_term(batch, extras)
    if extras.entropy_coefficient:
        if batch.entropy_BT is None:
            raise ValueError("PolicyBatch: an entropy bonus needs entropy_BT")
        loss_BT = loss_BT - extras.entropy_coefficient * batch.entropy_BT
    rows_B = clean(loss_BT, batch.mask_BT).sum(1)
    if per_sequence:
        rows_B = rows_B / batch.mask_BT.sum(1).clamp(min=1)
    with torch.no_grad():
        metrics = _metrics(policy_BT, batch)
    return divide(rows_B.sum(), normalizer), metrics


def _kl_term(batch: PolicyBatch, extras: Extras) -> Tensor:
    if batch.ref_logps_BT is None:
        raise ValueError("PolicyBatch: a KL coefficient needs ref_logps_BT")
    term_BT = per_token(
        batch.logps_BT,
        batch.ref_logps_BT,
        old_logps_BT=batch.old_logps_BT,
        estimator=extras.kl_estimator,
    )
    if batch.importance_BT is None or not extras.kl_estimator.endswith("_ratio"):
        return term_BT
    return term_BT * batch.importance_BT


def _metrics(policy_BT: Tensor, batch: PolicyBatch) -> Metrics:
    """Policy loss, k3 from the sampling policy, and what the optional tensors tell."""
    mask_BT = batch.mask_BT
    metrics: Metrics = {
        "policy_loss": mean_of(policy_BT, mask_BT),
        "approx_kl": mean_of(estimate(batch.old_logps_BT, batch.logps_BT), mask_BT),
        "advantage": mean_of(batch.advantages_BT, mask_BT),
    }
    if batch.ref_logps_BT is not None:
        metrics["kl"] = mean_of(estimate(batch.logps_BT, batch.ref_logps_BT), mask_BT)
    if batch.sampler_logps_BT is not None:
        sampler_BT = promote(batch.sampler_logps_BT)
        known_BT = mask_BT & ~sampler_BT.isnan()
        metrics["sampler_kl"] = mean_of(estimate(sampler_BT, batch.old_logps_BT), known_BT)
    if batch.entropy_BT is not None:
        metrics["entropy"] = mean_of(batch.entropy_BT, mask_BT)
    return metrics


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
    """The clipped surrogate of a cleaned batch at the ratios of a loss, reduced as by `reduced`.

    Returns:
        The loss and the metrics of `ratio_metrics` and `reduced`.
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


@checked
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


@checked
def importance_weights(
    old_logps_BT: Tensor,
    sampler_logps_BT: Tensor,
    mask_BT: Tensor,
    *,
    level: ImportanceLevel = "token",
    mode: BoundMode = "truncate",
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
        raw, units = _raw_weights(log_BT, mask_BT, level)
        bounded, outside = _bounded_weights(raw, mode, low, high)
        weights_BT = clean(bounded.expand(mask_BT.shape), mask_BT)
        metrics = _importance_metrics(raw, bounded, outside, units, mode)
        metrics["importance/log_ratio_abs"] = mean_of(log_BT.abs(), mask_BT)
        metrics["importance/unknown"] = mean_of(unknown_BT, mask_BT)
    return weights_BT, metrics


def _raw_weights(log_BT: Tensor, mask_BT: Tensor, level: ImportanceLevel) -> tuple[Tensor, Tensor]:
    """Weights before bounds, and which count: BT for tokens, B1 for sequences."""
    if level == "token":
        return log_BT.clamp(-MAX_LOG, MAX_LOG).exp(), mask_BT
    log_B1 = log_BT.sum(1, keepdim=True)
    if level == "geometric":
        log_B1 = log_B1 / mask_BT.sum(1, keepdim=True).clamp(min=1)
    return log_B1.clamp(-MAX_LOG, MAX_LOG).exp(), mask_BT.any(1, keepdim=True)


def _bounded_weights(
    raw: Tensor, mode: BoundMode, low: float | None, high: float | None
) -> tuple[Tensor, Tensor]:
    floor = float("-inf") if low is None else low
    ceiling = float("inf") if high is None else high
    require(floor < ceiling, "low", low, f"a number below high = {high!r}")
    outside = (raw < floor) | (raw > ceiling)
    if mode == "mask":
        return torch.where(outside, 0.0, raw), outside
    return raw.clamp(floor, ceiling), outside


def _importance_metrics(
    raw: Tensor, bounded: Tensor, outside: Tensor, units: Tensor, mode: BoundMode
) -> Metrics:
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
