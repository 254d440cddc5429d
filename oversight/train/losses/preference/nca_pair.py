"""NCA: noise-contrastive alignment of two responses, which holds up the chosen one's likelihood.

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
) -> tuple[Tensor, Metrics]:
    """-log s(beta c) - 1/2 log s(-beta c) - 1/2 log s(-beta r), summed over pairs.

    Chen et al. 2024, "Noise Contrastive Alignment of Language Models with Explicit Rewards",
    arXiv:2402.05369, the pairwise case of NCA (K = 2, a reward temperature of 0).

    Args:
        pairs: Summed log-probabilities; soft labels and ties mix the loss of the
            pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        chosen_B, rejected_B = beta * p.chosen_ratio_B, beta * p.rejected_ratio_B
        pull_B = -logsigmoid(chosen_B)
        return pull_B - (logsigmoid(-chosen_B) + logsigmoid(-rejected_B)) / 2

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


def start_value(*, beta: float = 0.1) -> float | None:
    """2 ln 2, whatever the labels."""
    return 2 * math.log(2)
