"""DPO with ties by the Rao–Kupper model of reward.

Shapes: B pairs.
"""

from __future__ import annotations

import math

from torch import Tensor

from oversight.train.losses.metrics import Metrics
from oversight.train.losses.preference.pairs import PairLogps, reduced
from oversight.train.losses.ranges import Positive, Smoothing, ranged
from oversight.train.losses.reward.rao_kupper import TieStrength, log_probabilities
from oversight.train.losses.reward.ties import unlikelihood


@ranged
def loss(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    tie_strength: TieStrength = 3.0,
    label_smoothing: Smoothing = 0.0,
) -> tuple[Tensor, Metrics]:
    """-log P(win) of decided pairs and -log P(tie) of tied ones at a lead of beta d, summed.

    Chen et al. 2024, "On Extending Direct Preference Optimization to Accommodate Ties",
    arXiv:2409.17431, DPO-RK: the Rao–Kupper model in place of Bradley–Terry, so
    P(win) = s(beta d - log nu). A tied pair draws d towards 0. For P see
    `losses.reward.rao_kupper.log_probabilities`.

    Args:
        pairs: Summed log-probabilities and `tie_B`; without ties all pairs are decided.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.
        tie_strength: nu, above 1, fixed or a learnable scalar tensor; 3.0 (the paper's)
            ties equal responses half of the time.
        label_smoothing: Probability that a win is flipped, in [0, 0.5).

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """
    pairs = pairs.cleaned()
    loss_B = unlikelihood(
        log_probabilities(beta * pairs.delta_B, tie_strength),
        soft_label_B=pairs.soft_label_B,
        tie_B=pairs.tie_B,
        label_smoothing=label_smoothing,
    )
    return reduced(loss_B, pairs, normalizer=normalizer, beta=beta)


def start_value(
    *,
    beta: float = 0.1,
    tie_strength: TieStrength = 3.0,
    label_smoothing: float = 0.0,
    tie_share: float = 0.0,
) -> float | None:
    """Of decided and tied pairs together; `tie_share` is the weight of the tied among all."""
    nu = float(tie_strength)
    win, tie = math.log1p(nu), -math.log((nu - 1) / (nu + 1))
    return (1 - tie_share) * win + tie_share * tie
