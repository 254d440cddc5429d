"""APO-down: both responses down, the rejected one further.

Shapes: B pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oversight.train.losses.metrics import Metrics
from oversight.train.losses.preference.pairs import PairLogps, expected
from oversight.train.losses.ranges import Positive, ranged


@ranged
def loss(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
) -> tuple[Tensor, Metrics]:
    """s(beta c) + 1 - s(beta d), summed over pairs.

    D'Oosterlinck et al. 2024, "Anchored Preference Optimization", arXiv:2408.06266, eq. 8: for
    data worse than what the model writes. Raising the chosen log-probability alone need not
    lower the loss: at the start its two terms cancel. Lowering the rejected one always does.

    Args:
        pairs: Summed log-probabilities; soft labels and ties mix the loss of the
            pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        return torch.sigmoid(beta * p.chosen_ratio_B) + 1 - torch.sigmoid(beta * p.delta_B)

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


def start_value(*, beta: float = 0.1) -> float | None:
    """1, whatever the labels."""
    return 1.0
