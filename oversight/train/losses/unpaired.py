"""Losses on single responses that were called good or bad, compared with no other.

With u = log pi(y|x) - log ref(y|x).

Shapes: B responses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from oversight.train.losses.masked import drop_rows, promote, weighted_sum
from oversight.train.losses.metrics import Mean, Metrics, mean_of
from oversight.train.losses.options import NonNegative, Positive
from oversight.train.losses.registered import unpaired_loss


@dataclass(frozen=True, slots=True, eq=False)
class UnpairedLogps:
    """Log-probabilities of labelled responses, each a sum over the tokens learnt from."""

    logps_B: Tensor
    """log pi of the responses."""
    desirable_B: Tensor
    """True for good, False for bad."""
    ref_logps_B: Tensor | None = None
    """The same under the reference, without gradient; None takes it as 0 for all."""
    weight_B: Tensor | None = None
    """Factor of each response; one of weight 0 has no influence."""

    @property
    def ratio_B(self) -> Tensor:
        """u, log pi/ref; 0 in rows of weight 0."""
        ours_B = drop_rows(self.logps_B, self.weight_B)
        if self.ref_logps_B is None:
            return ours_B
        return ours_B - drop_rows(promote(self.ref_logps_B).detach(), self.weight_B)


def reduced(
    good_B: Tensor,
    bad_B: Tensor,
    rows: UnpairedLogps,
    *,
    normalizer: float | Tensor,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> tuple[Tensor, Metrics]:
    """The weighted sum of `good_B` for desirable and `bad_B` for other rows, and the metrics.

    `loss`, `reward_desirable`, `reward_undesirable` (beta u of either kind).
    """
    loss_B = torch.where(rows.desirable_B, desirable_weight * good_B, undesirable_weight * bad_B)
    with torch.no_grad():
        kept_B = torch.ones_like(rows.desirable_B) if rows.weight_B is None else rows.weight_B != 0
        reward_B = beta * rows.ratio_B
        metrics: Metrics = {
            "loss": mean_of(loss_B, kept_B),
            "reward_desirable": mean_of(reward_B, kept_B & rows.desirable_B),
            "reward_undesirable": mean_of(reward_B, kept_B & ~rows.desirable_B),
        }
    return weighted_sum(loss_B, rows.weight_B, normalizer), metrics


def _at_start(**options: Any) -> float | None:
    """1/2 where both weights are 1 and no divergence is given (it is 0 at the start)."""
    plain = options["desirable_weight"] == options["undesirable_weight"] == 1
    return 0.5 if plain and float(options.get("kl", 0.0)) == 0 else None


@unpaired_loss(needs_kl=True, start_value=_at_start)
def kto(
    rows: UnpairedLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    kl: NonNegative | Tensor = 0.0,
    desirable_weight: NonNegative = 1.0,
    undesirable_weight: NonNegative = 1.0,
) -> tuple[Tensor, Metrics]:
    """KTO: prospect theory's value of a response against the policy's usual gain.

    lambda_D (1 - s(beta (u - z))) if good, lambda_U (1 - s(beta (z - u))) if bad, summed.

    Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization",
    arXiv:2402.01306, eq. 8 (eq. 7 in early versions), with z = `kl` the estimate of
    KL(pi || ref), through which no gradient flows.

    Args:
        rows: Summed log-probabilities; raising a good one's lowers the loss, raising a bad
            one's raises it.
        normalizer: Global number of responses.
        beta: Strength of risk aversion and of the hold to the reference, above 0.
        kl: z, at least 0; see `baseline`.
        desirable_weight: lambda_D. The paper keeps lambda_D n_good / (lambda_U n_bad)
            between 1 and 3/2 (eq. 9; between 1 and 4/3 in early versions).
        undesirable_weight: lambda_U.

    Returns:
        The loss and `loss`, `reward_desirable`, `reward_undesirable`, `kl`.
    """
    lead_B = beta * (rows.ratio_B - torch.as_tensor(kl).detach().to(rows.ratio_B))
    total, metrics = reduced(
        torch.sigmoid(-lead_B),
        torch.sigmoid(lead_B),
        rows,
        normalizer=normalizer,
        beta=beta,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
    )
    metrics["kl"] = mean_of(torch.as_tensor(kl).to(lead_B).reshape(1))
    return total, metrics


@unpaired_loss(start_value=_at_start)
def apo_zero_unpaired(
    rows: UnpairedLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    desirable_weight: NonNegative = 1.0,
    undesirable_weight: NonNegative = 1.0,
) -> tuple[Tensor, Metrics]:
    """APO-zero on single responses: good ones up, bad ones down, each for itself.

    lambda_D (1 - s(beta u)) if good, lambda_U s(beta u) if bad, summed.

    The two terms of D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 7, on responses of
    different prompts; KTO with z = 0.

    Args:
        rows: Summed log-probabilities; raising a good one's lowers the loss.
        normalizer: Global number of responses.
        beta: Strength of the hold to the reference, above 0.
        desirable_weight: lambda_D.
        undesirable_weight: lambda_U.

    Returns:
        The loss and `loss`, `reward_desirable`, `reward_undesirable`.
    """
    gain_B = beta * rows.ratio_B
    return reduced(
        torch.sigmoid(-gain_B),
        torch.sigmoid(gain_B),
        rows,
        normalizer=normalizer,
        beta=beta,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
    )


def shifted_kl(shifted_logps_B: Tensor, ref_shifted_logps_B: Tensor) -> Mean:
    """The log-ratios of mismatched pairs, as a total and a count to merge over the whole step.

    The paper's estimate of the KL divergence: the log-ratios of each prompt of the batch with
    *another* prompt's response, y_(i+1) after x_i. Cheap and biased: those responses are no
    samples of the policy. Both without gradient.
    """
    return mean_of(promote(shifted_logps_B.detach()) - promote(ref_shifted_logps_B.detach()))


def baseline(merged: Mean) -> float:
    """z from the merged log-ratios: their mean, or 0 where that is negative."""
    return max(0.0, merged.value())
