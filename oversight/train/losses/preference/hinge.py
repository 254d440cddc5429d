"""Hinge loss on the implicit rewards, as in SLiC.

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
    """max(0, 1 - beta d), summed over pairs.

    Zhao et al. 2023 (SLiC-HF, arXiv:2305.10425), with the ratio to the reference in place of
    the log-probability: the "hinge-norm" loss of Liu et al. 2023 (RSO, arXiv:2309.06657).
    Without a reference it is SLiC's own calibration loss, max(0, m - log pi(y_w) + log pi(y_l)),
    with margin m = 1/beta, times beta.

    Args:
        pairs: Summed log-probabilities; soft labels and ties mix the loss of the
            pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: 1/beta is the margin in log-probability, above 0.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        return (1 - beta * p.delta_B).relu()

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


def start_value(*, beta: float = 0.1) -> float | None:
    """1, whatever the labels."""
    return 1.0
