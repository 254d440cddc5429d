"""Estimates of KL(pi || ref) from sampled tokens, in the reward and as a loss.

With t = log pi(y_t) - log ref(y_t) of a token sampled from pi (Schulman 2020, "Approximating
KL Divergence", http://joschu.net/blog/kl-approx.html):

    k1 = t                     unbiased, may be negative
    k2 = t^2 / 2               biased, positive
    k3 = exp(-t) - 1 + t       unbiased, positive

As a *loss* what counts is the gradient, and the gradient of an estimate is not an estimate
of the gradient. With w = pi/mu, mu the (detached) policy that sampled the tokens:

    k1        E[grad] = 0: nothing is learnt. Refused as a loss.
    k2        grad = t grad log pi: unbiased, on-policy (w = 1).
    k3        grad = (1 - exp(-t)) grad log pi: that of KL(ref || pi), not of KL(pi || ref).
              Biased; the original GRPO (Shao et al. 2024, arXiv:2402.03300, eq. 4) has it.
    k2_ratio  w (as a constant) times k2: unbiased, off-policy too.
    k3_ratio  w (with its gradient) times k3: grad = w t grad log pi; unbiased, off-policy
              too. DeepSeek-V3.2 (2025, arXiv:2512.02556, eq. 7).

Liu et al. 2025, arXiv:2510.01555, compare the gradients of the first three.

So `k3_ratio` reports an unbiased value and has an unbiased gradient: the default. "Unbiased"
is for one token given what came before; the effect of a token on the divergence of later ones
is left out of any such loss. `kl_in_reward` has it, through the return.

Shapes: B sequences, T response tokens (padded).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor

from oversight.train.losses.metrics import Metrics, clean, divide, mean_of, promote
from oversight.train.losses.options import (
    Estimator,
    LossEstimator,
    NonNegative,
    Positive,
    check,
    checked,
    require,
)

MAX_LOG = 20.0
"""Log-ratios are held to this before an exponential: e^20 = 5e8 stays finite in products."""


def safe_exp(log_ratio: Tensor) -> Tensor:
    """exp of a log-ratio held to [-20, 20], without gradient beyond."""
    return torch.exp(log_ratio.clamp(-MAX_LOG, MAX_LOG))


@checked
def estimate(logps: Tensor, ref_logps: Tensor, *, estimator: Estimator = "k3") -> Tensor:
    """k1, k2 or k3 of each token, with its gradient; any shape.

    Args:
        logps: Log-probabilities of sampled tokens under the policy.
        ref_logps: The same under the reference.
        estimator: See the head of this module.
    """
    log_ratio = promote(logps) - promote(ref_logps).detach()
    if estimator == "k1":
        return log_ratio
    if estimator == "k2":
        return log_ratio.square() / 2
    return safe_exp(-log_ratio) - 1 + log_ratio


def per_token(
    logps_BT: Tensor,
    ref_logps_BT: Tensor,
    *,
    old_logps_BT: Tensor | None = None,
    estimator: LossEstimator = "k3_ratio",
) -> Tensor:
    """The term of each token whose gradient is that of `estimator`; shape BT.

    Args:
        logps_BT: Log-probabilities under the policy, with gradient.
        ref_logps_BT: Under the reference.
        old_logps_BT: Under the policy that sampled; None where it is the same (w = 1).
        estimator: k2, k3, k2_ratio or k3_ratio.
    """
    require(
        estimator in ("k2", "k3", "k2_ratio", "k3_ratio"),
        "estimator",
        estimator,
        "k2, k3, k2_ratio or k3_ratio (k1 has no gradient as a loss: put it in the reward)",
    )
    base: Estimator = "k2" if estimator.startswith("k2") else "k3"
    value_BT = estimate(logps_BT, ref_logps_BT, estimator=base)
    if not estimator.endswith("_ratio"):
        return value_BT
    old_BT = logps_BT if old_logps_BT is None else old_logps_BT
    ratio_BT = safe_exp(promote(logps_BT) - promote(old_BT).detach())
    return (ratio_BT.detach() if base == "k2" else ratio_BT) * value_BT


def penalty(
    logps_BT: Tensor,
    ref_logps_BT: Tensor,
    mask_BT: Tensor,
    *,
    normalizer: float | Tensor,
    old_logps_BT: Tensor | None = None,
    estimator: LossEstimator = "k3_ratio",
) -> tuple[Tensor, Metrics]:
    """The summed KL term of unmasked tokens by the normalizer: a loss, to be scaled and added.

    Args:
        logps_BT: Log-probabilities under the policy.
        ref_logps_BT: Under the reference.
        mask_BT: True where learnt from.
        normalizer: Global number of tokens.
        old_logps_BT: Under the policy that sampled; None where it is the same.
        estimator: See the head of this module.

    Returns:
        The loss and `kl` (k3, over tokens).
    """
    logps_BT, ref_logps_BT = clean(logps_BT, mask_BT), clean(ref_logps_BT, mask_BT)
    if old_logps_BT is not None:
        old_logps_BT = clean(old_logps_BT, mask_BT)
    term_BT = per_token(logps_BT, ref_logps_BT, old_logps_BT=old_logps_BT, estimator=estimator)
    with torch.no_grad():
        metrics: Metrics = {"kl": mean_of(estimate(logps_BT, ref_logps_BT), mask_BT)}
    return divide(clean(term_BT, mask_BT).sum(), normalizer), metrics


@checked
def kl_in_reward(
    logps_BT: Tensor,
    ref_logps_BT: Tensor,
    mask_BT: Tensor,
    *,
    coefficient: NonNegative,
    estimator: Estimator = "k1",
) -> Tensor:
    """-coefficient times the estimate at each unmasked token, without gradient; shape BT.

    Ziegler et al. 2019, arXiv:1909.08593, eq. 2; Ouyang et al. 2022, arXiv:2203.02155, eq. 2.
    With k1, the expected return is exactly the score less the divergence of whole responses, so
    the policy gradient of this reward is unbiased. k2 and k3 are steadier and, in a reward, biased.

    Args:
        logps_BT: Log-probabilities under the policy that sampled.
        ref_logps_BT: Under the reference.
        mask_BT: True where learnt from; 0 elsewhere.
        coefficient: beta.
        estimator: k1, k2 or k3.
    """
    value_BT = estimate(
        clean(logps_BT, mask_BT).detach(), clean(ref_logps_BT, mask_BT), estimator=estimator
    )
    return clean(-coefficient * value_BT, mask_BT)


@dataclass(slots=True)
class FixedKL:
    """A coefficient that stays."""

    value: NonNegative

    def __post_init__(self) -> None:
        check(FixedKL, asdict(self))

    def update(self, kl: float, num_sequences: int) -> None:
        """Nothing changes."""

    def to_json(self) -> dict[str, Any]:
        """The state, JSON-plain."""
        return asdict(self)

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """A controller that goes on from `state`."""
        return cls(**state)


@dataclass(slots=True)
class AdaptiveKL:
    """A coefficient that rises while the divergence is above its target and falls below.

    Ziegler et al. 2019, arXiv:1909.08593, section 2.2: e = clip(KL/target - 1, -0.2, 0.2),
    beta *= 1 + K e. K is 0.1 in the paper, here the number of sequences by the horizon.
    """

    value: Positive
    """beta, above 0: it is only ever multiplied."""
    target: Positive
    """In nats a sequence, as the divergence given to `update`."""
    horizon: Positive = 10_000.0
    """Sequences over which a steady error of 20 % changes beta by about 20 %."""

    def __post_init__(self) -> None:
        check(AdaptiveKL, asdict(self))

    def update(self, kl: float, num_sequences: int) -> None:
        """Take in the mean divergence of a batch of sequences, all ranks' together."""
        error = min(max(kl / self.target - 1, -0.2), 0.2)
        self.value *= 1 + error * num_sequences / self.horizon

    def to_json(self) -> dict[str, Any]:
        """The state, JSON-plain."""
        return asdict(self)

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """A controller that goes on from `state`."""
        return cls(**state)
