"""R-DPO: the logistic loss of a reward less its length, so that length is not what is learnt.

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
    beta: Positive = 0.1,
    alpha: NonNegative = 0.01,
) -> tuple[Tensor, Metrics]:
    """-log s(beta d + alpha (|y_w| - |y_l|)), summed over pairs.

    Park et al. 2024, "Disentangling Length from Quality in Direct Preference Optimization",
    arXiv:2403.19159. The policy that is best for a reward less alpha |y| has the reward
    beta log(pi / ref) + alpha |y|: what the length explains need not be learnt, and a longer
    chosen response has the smaller gradient.

    Args:
        pairs: Summed log-probabilities with lengths; soft labels and
            ties mix the loss of the pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.
        alpha: Of the lengths' difference, at least 0; 0.05 and 0.1 in the paper.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        chosen_length_B, rejected_length_B = p.num_tokens()
        explained_B = alpha * (chosen_length_B - rejected_length_B)
        return -logsigmoid(beta * p.delta_B + explained_B)

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


def start_value(*, beta: float = 0.1, alpha: float = 0.01) -> float | None:
    """None: it depends on the lengths."""
    return None
