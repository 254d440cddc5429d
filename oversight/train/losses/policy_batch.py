"""Sampled tokens as a policy loss takes them, and what all policy losses do alike.

Shapes: B sequences, T response tokens (padded); those of the surrogate any that broadcast.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from oversight.train.losses.kl import LossEstimator, estimate, per_token, safe_exp
from oversight.train.losses.masked import clean, divide, masked_mean, promote
from oversight.train.losses.metrics import Metrics, mean_of, peak_of
from oversight.train.losses.options import DualClip, NonNegative, Share, check, checked


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
    """Factor of each token's loss (`importance.weights`); None for 1."""

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
