"""APO-zero on single responses: good ones up, bad ones down, each for itself.

Shapes: B responses.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oversight.train.losses.metrics import Metrics
from oversight.train.losses.ranges import NonNegative, Positive, ranged
from oversight.train.losses.unpaired.rows import UnpairedLogps, reduced


@ranged
def loss(
    rows: UnpairedLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    desirable_weight: NonNegative = 1.0,
    undesirable_weight: NonNegative = 1.0,
) -> tuple[Tensor, Metrics]:
    """lambda_D (1 - s(beta u)) if good, lambda_U s(beta u) if bad, summed.

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


def start_value(
    *, beta: float = 0.1, desirable_weight: float = 1.0, undesirable_weight: float = 1.0
) -> float | None:
    """1/2 where both weights are 1; None where not."""
    return 0.5 if desirable_weight == undesirable_weight == 1 else None
