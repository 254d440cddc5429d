"""Robust DPO: a logistic loss whose mean over flipped labels is the loss of the true ones.

Shapes: B pairs.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import logsigmoid

from oversight.train.losses.metrics import Metrics
from oversight.train.losses.preference.pairs import PairLogps, expected
from oversight.train.losses.ranges import Positive, Smoothing, ranged


@ranged
def loss(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    label_smoothing: Smoothing = 0.1,
) -> tuple[Tensor, Metrics]:
    """[-(1 - eps) log s(beta d) + eps log s(-beta d)] / (1 - 2 eps), summed over pairs.

    Chowdhury, Kini and Natarajan 2024, "Provably Robust DPO", arXiv:2403.00409, section 3.1.
    Unbounded below: a single pair's loss falls without end as d grows.

    Args:
        pairs: Summed log-probabilities; raising the chosen one's lowers the loss. Soft
            labels and ties mix the loss of the pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.
        label_smoothing: eps, the share of labels that are flipped, in [0, 0.5).

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """
    eps = label_smoothing

    def per_pair(p: PairLogps) -> Tensor:
        logits_B = beta * p.delta_B
        return (-(1 - eps) * logsigmoid(logits_B) + eps * logsigmoid(-logits_B)) / (1 - 2 * eps)

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


def start_value(*, beta: float = 0.1, label_smoothing: float = 0.1) -> float | None:
    """ln 2, whatever the labels."""
    return math.log(2)
