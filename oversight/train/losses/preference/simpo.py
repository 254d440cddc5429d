"""SimPO: the logistic loss on mean log-probabilities with a target margin, without reference.

Shapes: B pairs.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from oversight.train.losses.metrics import Metrics
from oversight.train.losses.preference.pairs import PairLogps, expected
from oversight.train.losses.ranges import NonNegative, Positive, ranged


@ranged
def loss(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 2.0,
    gamma: NonNegative = 1.0,
) -> tuple[Tensor, Metrics]:
    """-log s(beta/|y_w| log pi(y_w) - beta/|y_l| log pi(y_l) - gamma), summed over pairs.

    Meng, Xia and Chen 2024, arXiv:2405.14734, eq. 6. A reference that is given is not looked at.

    Args:
        pairs: Summed log-probabilities with lengths; soft labels and
            ties mix the loss of the pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Scale of the rewards, above 0; 2 to 10 in the paper.
        gamma: Margin by which the chosen reward should lead; the authors' code advises to
            start at beta/2.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        chosen_length_B, rejected_length_B = p.num_tokens()
        lead_B = p.chosen_B / chosen_length_B - p.rejected_B / rejected_length_B
        return -logsigmoid(beta * lead_B - gamma)

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


def start_value(*, beta: float = 2.0, gamma: float = 1.0) -> float | None:
    """None: there is no reference to start from."""
    return None
