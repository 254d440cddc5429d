"""DiscoPOP: logistic and exponential loss, mixed by the log-ratio itself.

Shapes: B pairs.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from oversight.train.losses.metrics import Metrics
from oversight.train.losses.preference.pairs import PairLogps, expected
from oversight.train.losses.ranges import Positive, Range, ranged


@ranged
def loss(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    tau: Annotated[float, Range(above=0, at_most=1)] = 0.05,
) -> tuple[Tensor, Metrics]:
    """(1 - m) softplus(-beta d) + m exp(-beta d), m = s(beta d / tau), summed over pairs.

    Lu et al. 2024, "Discovering Preference Optimization Algorithms with and for Large Language
    Models", arXiv:2406.08414, eq. 5 (log-ratio modulated loss). Found by search; not monotone: it
    rises with d around d = 0, where training starts, and falls on both sides of that bump.

    Args:
        pairs: Summed log-probabilities; soft labels and ties mix the loss of the
            pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.
        tau: Temperature of the mixing, in (0, 1]; 0.05 in the paper.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        logits_B = beta * p.delta_B
        logistic_B = torch.sigmoid(-logits_B / tau) * -logsigmoid(logits_B)
        # exp and the gate in one exponent: apart, one overflows where the other vanishes.
        return logistic_B + torch.exp(-logits_B + logsigmoid(logits_B / tau))

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


def start_value(*, beta: float = 0.1, tau: float = 0.05) -> float | None:
    """(1 + ln 2)/2, whatever the labels."""
    return (1 + math.log(2)) / 2
