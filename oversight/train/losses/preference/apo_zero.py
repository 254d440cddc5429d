"""APO-zero: the chosen response up, the rejected one down, each for itself.

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
    """1 - s(beta c) + s(beta r), summed over pairs.

    D'Oosterlinck et al. 2024, "Anchored Preference Optimization", arXiv:2408.06266, eq. 7: for
    data better than what the model writes.

    Args:
        pairs: Summed log-probabilities; soft labels and ties mix the loss of the
            pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        return 1 - torch.sigmoid(beta * p.chosen_ratio_B) + torch.sigmoid(beta * p.rejected_ratio_B)

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


def start_value(*, beta: float = 0.1) -> float | None:
    """1, whatever the labels."""
    return 1.0
