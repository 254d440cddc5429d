"""IPO: the log-ratio towards a fixed margin, so that certain labels do not drive it to infinity.

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
    trl_mean: bool = False,
) -> tuple[Tensor, Metrics]:
    """(d - 1/(2 beta))^2, summed over pairs.

    Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from Human
    Preferences", arXiv:2310.12036, eq. 17, with tau = beta and d of whole responses, as the
    paper writes it.

    Args:
        pairs: Summed log-probabilities; soft labels and ties mix the loss of the pair and of
            the swapped pair, which is the paper's loss for sampled preferences.
        normalizer: Global number of pairs.
        beta: tau, above 0: 1/(2 beta) is the margin in log-probability.
        trl_mean: TRL's form: c and r are divided by the lengths of their responses, so the
            margin is one a token. TRL has it from the paper's authors that their results are
            of this form. Needs the lengths, and another beta.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        delta_B = p.delta_B
        if trl_mean:
            chosen_length_B, rejected_length_B = p.num_tokens()
            delta_B = p.chosen_ratio_B / chosen_length_B - p.rejected_ratio_B / rejected_length_B
        return (delta_B - 1 / (2 * beta)).square()

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


def start_value(*, beta: float = 0.1, trl_mean: bool = False) -> float | None:
    """1/(4 beta^2), whatever the labels."""
    return 1 / (4 * beta**2)
