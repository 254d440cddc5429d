"""KTO: prospect theory's value of a response against the policy's usual gain.

Shapes: B responses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oversight.train.losses.masked import promote
from oversight.train.losses.metrics import Mean, Metrics, mean_of
from oversight.train.losses.ranges import NonNegative, Positive, ranged
from oversight.train.losses.unpaired.rows import UnpairedLogps, reduced


@ranged
def loss(
    rows: UnpairedLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    kl: NonNegative | Tensor = 0.0,
    desirable_weight: NonNegative = 1.0,
    undesirable_weight: NonNegative = 1.0,
) -> tuple[Tensor, Metrics]:
    """lambda_D (1 - s(beta (u - z))) if good, lambda_U (1 - s(beta (z - u))) if bad, summed.

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


def start_value(
    *,
    beta: float = 0.1,
    kl: float | Tensor = 0.0,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> float | None:
    """1/2 where both weights are 1 (the estimate of KL is 0 at the start); None where not."""
    return 0.5 if desirable_weight == undesirable_weight == 1 and float(kl) == 0 else None
