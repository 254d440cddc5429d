"""DPO: a logistic classifier whose logits are the implicit rewards.

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
    label_smoothing: Smoothing = 0.0,
) -> tuple[Tensor, Metrics]:
    """-[q log s(beta d) + (1 - q) log s(-beta d)], summed over pairs.

    Rafailov et al. 2023, arXiv:2305.18290, eq. 7, for q = 1. Conservative DPO (Mitchell 2023,
    https://ericmitchell.ai/cdpo.pdf, eq. 3) is q = 1 - label_smoothing; soft labels are q itself.
    Without a reference it is the preference part of CPO (Xu et al. 2024, arXiv:2401.08417, eq. 3).

    Args:
        pairs: Summed log-probabilities; raising the chosen one's lowers the loss.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.
        label_smoothing: Probability that a label is flipped, in [0, 0.5).

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """
    return expected(
        lambda p: -logsigmoid(beta * p.delta_B),
        pairs,
        normalizer=normalizer,
        beta=beta,
        label_smoothing=label_smoothing,
    )


def start_value(*, beta: float = 0.1, label_smoothing: float = 0.0) -> float | None:
    """ln 2, whatever the labels."""
    return math.log(2)
