"""BCO: a binary classifier of chosen and rejected around a shifted zero.

Shapes: B pairs.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import logsigmoid

from oversight.train.losses.metrics import Metrics
from oversight.train.losses.preference.pairs import PairLogps, expected
from oversight.train.losses.ranges import Positive, ranged


@ranged
def loss(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    shift: float = 0.0,
) -> tuple[Tensor, Metrics]:
    """-log s(beta c - shift) - log s(-(beta r - shift)), summed over pairs.

    Jung et al. 2024, "Binary Classifier Optimization", arXiv:2404.04656, on pairs. The paper's
    shift is the running mean of all rewards, E[beta c + beta r]/2; `shift` gives it as a number,
    0 (TRL's form) by default.

    Args:
        pairs: Summed log-probabilities; soft labels and ties mix the loss of the
            pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.
        shift: Reward of a response that is as likely chosen as rejected.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        chosen_B, rejected_B = beta * p.chosen_ratio_B - shift, beta * p.rejected_ratio_B - shift
        return -logsigmoid(chosen_B) - logsigmoid(-rejected_B)

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


def start_value(*, beta: float = 0.1, shift: float = 0.0) -> float | None:
    """Of the pair's two logistic terms; 2 ln 2 without a shift."""
    return math.log1p(math.exp(-abs(shift))) * 2 + abs(shift)
