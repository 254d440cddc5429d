"""SPPO: each response's log-ratio towards its win rate, here 1 and 0.

Shapes: B pairs.
"""

from __future__ import annotations

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
    """(c - 1/(2 beta))^2 + (r + 1/(2 beta))^2, summed over pairs.

    Wu et al. 2024, "Self-Play Preference Optimization", arXiv:2405.00675, eq. 4.7 with
    eta = 1/beta and a win probability of 1 for the chosen, 0 for the rejected. The reference is
    the policy of the last iteration.

    Args:
        pairs: Summed log-probabilities; soft labels and ties mix the loss of the
            pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: 1/eta, above 0.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        goal = 1 / (2 * beta)
        return (p.chosen_ratio_B - goal).square() + (p.rejected_ratio_B + goal).square()

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


def start_value(*, beta: float = 0.1) -> float | None:
    """1/(2 beta^2), whatever the labels."""
    return 1 / (2 * beta**2)
