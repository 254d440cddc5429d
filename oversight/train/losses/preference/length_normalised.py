"""Length-normalised DPO: the logistic loss on rewards a token.

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
    beta: Positive = 5.0,
) -> tuple[Tensor, Metrics]:
    """-log s(beta (c/|y_w| - r/|y_l|)), summed over pairs.

    Lambert et al. 2024 (Tülu 3), arXiv:2411.15124, eq. 6, after Meng et al. 2024 with the
    reference kept. TRL calls it `sigmoid_norm`.

    Args:
        pairs: Summed log-probabilities with lengths; soft labels and
            ties mix the loss of the pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Above 0; larger than for plain DPO by about a response's length (5 in Tülu 3).

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        chosen_length_B, rejected_length_B = p.num_tokens()
        per_token_B = p.chosen_ratio_B / chosen_length_B - p.rejected_ratio_B / rejected_length_B
        return -logsigmoid(beta * per_token_B)

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


def start_value(*, beta: float = 5.0) -> float | None:
    """ln 2, whatever the labels."""
    return math.log(2)
