"""Direct preference losses with a tie as an outcome of its own.

The notation is that of `preference`, the models of ties are those of `labels`.

Shapes: B pairs.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from oversight.train.losses.labels import (
    DavidsonTies,
    RaoKupperTies,
    davidson_log_probabilities,
    rao_kupper_log_probabilities,
    unlikelihood,
)
from oversight.train.losses.metrics import Metrics
from oversight.train.losses.options import Positive, Smoothing
from oversight.train.losses.pairs import PairLogps, reduced
from oversight.train.losses.registered import preference_loss


def _at_start(win: float, tie: float, tie_share: float) -> float:
    """Of decided and tied pairs together; `tie_share` is the weight of the tied among all."""
    return (1 - tie_share) * win + tie_share * tie


def _davidson_at_start(tie_strength: DavidsonTies, tie_share: float = 0.0, **_: Any) -> float:
    nu = float(tie_strength)
    return _at_start(math.log(2 + 2 * nu), -math.log(nu / (1 + nu)), tie_share)


def _rao_kupper_at_start(tie_strength: RaoKupperTies, tie_share: float = 0.0, **_: Any) -> float:
    nu = float(tie_strength)
    return _at_start(math.log1p(nu), -math.log((nu - 1) / (nu + 1)), tie_share)


@preference_loss(start_value=_davidson_at_start)
def davidson(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    tie_strength: DavidsonTies = 1.0,
    label_smoothing: Smoothing = 0.0,
) -> tuple[Tensor, Metrics]:
    """DPO with ties by the Davidson model of reward.

    -log P(win) of decided pairs and -log P(tie) of tied ones at a lead of beta d, summed.

    Chen et al. 2024, "On Extending Direct Preference Optimization to Accommodate Ties",
    arXiv:2409.17431, DPO-D: the Davidson model in place of Bradley–Terry, so
    P(win) = 1/(1 + exp(-beta d) + 2 nu exp(-beta d/2)). A tied pair draws d towards 0. For P
    see `labels.davidson_log_probabilities`.

    Args:
        pairs: Summed log-probabilities and `tie_B`; without ties all pairs are decided.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.
        tie_strength: nu, above 0, fixed or a learnable scalar tensor; 1.0 (the paper's)
            ties equal responses half of the time.
        label_smoothing: Probability that a win is flipped, in [0, 0.5).

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """
    pairs = pairs.cleaned()
    loss_B = unlikelihood(
        davidson_log_probabilities(beta * pairs.delta_B, tie_strength),
        soft_label_B=pairs.soft_label_B,
        tie_B=pairs.tie_B,
        label_smoothing=label_smoothing,
    )
    return reduced(loss_B, pairs, normalizer=normalizer, beta=beta)


@preference_loss(start_value=_rao_kupper_at_start)
def rao_kupper(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    tie_strength: RaoKupperTies = 3.0,
    label_smoothing: Smoothing = 0.0,
) -> tuple[Tensor, Metrics]:
    """DPO with ties by the Rao–Kupper model of reward.

    -log P(win) of decided pairs and -log P(tie) of tied ones at a lead of beta d, summed.

    Chen et al. 2024, "On Extending Direct Preference Optimization to Accommodate Ties",
    arXiv:2409.17431, DPO-RK: the Rao–Kupper model in place of Bradley–Terry, so
    P(win) = s(beta d - log nu). A tied pair draws d towards 0. For P see
    `labels.rao_kupper_log_probabilities`.

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
        rao_kupper_log_probabilities(beta * pairs.delta_B, tie_strength),
        soft_label_B=pairs.soft_label_B,
        tie_B=pairs.tie_B,
        label_smoothing=label_smoothing,
    )
    return reduced(loss_B, pairs, normalizer=normalizer, beta=beta)
