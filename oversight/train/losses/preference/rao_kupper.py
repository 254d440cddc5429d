"""DPO with ties by the Rao–Kupper model of reward.

Shapes: B pairs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from oversight.train.losses import require
from oversight.train.losses.labels import target_B
from oversight.train.losses.metrics import Metrics
from oversight.train.losses.preference.pairs import PairLogps, reduced
from oversight.train.losses.reward.rao_kupper import log_probabilities


def loss(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: float = 0.1,
    tie_strength: float | Tensor = 3.0,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Metrics]:
    """-log P(win) of decided pairs and -log P(tie) of tied ones at a lead of beta d, summed.

    Chen et al. 2024, "On Extending Direct Preference Optimization to Accommodate Ties": the
    Rao–Kupper model in place of Bradley–Terry. A tied pair draws d towards 0. For P see
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
    require(beta > 0, "beta", beta, "a number above 0")
    pairs = pairs.cleaned()
    first_B, tied_B, second_B = log_probabilities(beta * pairs.delta_B, tie_strength)
    q_B = target_B(first_B, soft_label_B=pairs.soft_label_B, label_smoothing=label_smoothing)
    loss_B = -first_B if q_B is None else -(q_B * first_B + (1 - q_B) * second_B)
    if pairs.tie_B is not None:
        loss_B = torch.where(pairs.tie_B, -tied_B, loss_B)
    return reduced(loss_B, pairs, normalizer=normalizer, beta=beta)


def start_value(
    *,
    beta: float = 0.1,
    tie_strength: float | Tensor = 3.0,
    label_smoothing: float = 0.0,
    tie_share: float = 0.0,
) -> float | None:
    """Of decided and tied pairs together; `tie_share` is the weight of the tied among all."""
    nu = float(tie_strength)
    win, tie = math.log1p(nu), -math.log((nu - 1) / (nu + 1))
    return (1 - tie_share) * win + tie_share * tie
