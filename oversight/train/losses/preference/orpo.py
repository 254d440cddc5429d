"""ORPO: likelihood of the chosen response and odds against the rejected one, without reference.

Shapes: B pairs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from oversight.train.losses.metrics import Metrics
from oversight.train.losses.preference.pairs import PairLogps, expected
from oversight.train.losses.ranges import NonNegative, ranged


@ranged
def loss(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: NonNegative = 0.1,
    sft_weight: NonNegative = 1.0,
) -> tuple[Tensor, Metrics]:
    """-log P(y_w) - beta log s(log odds(y_w) - log odds(y_l)), summed over pairs.

    Hong, Lee and Thorne 2024, arXiv:2403.07691, eqs. 6 and 7: log P(y) is the *mean*
    log-probability of a token (eq. 3) and odds(y) = P/(1 - P) (eq. 4). A reference that is given
    is not looked at.

    TRL's likelihood term is a mean over the tokens of the batch instead, the prompt's
    included: for it set `sft_weight` to 0 and add the loss of `sft`.

    Args:
        pairs: Summed log-probabilities with lengths; raising the chosen one's lowers the
            loss. Soft labels and ties mix the loss of the pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Weight of the odds term, the paper's lambda, at least 0.
        sft_weight: Weight of the likelihood term, 1 in the paper.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        chosen_length_B, rejected_length_B = p.num_tokens()
        chosen_B, rejected_B = p.chosen_B / chosen_length_B, p.rejected_B / rejected_length_B
        odds_B = log_odds(chosen_B) - log_odds(rejected_B)
        return -sft_weight * chosen_B - beta * logsigmoid(odds_B)

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


def log_odds(logp_B: Tensor) -> Tensor:
    """log P/(1 - P) from log P; P is held below 1 - 1e-6, where the odds would be infinite."""
    logp_B = logp_B.clamp(max=-1e-6)
    # log(1 - exp x) keeps its digits by expm1 near 0 and by log1p below -ln 2; the branch
    # not taken gets a harmless input, since its gradient is multiplied by 0, not left out.
    near_B = logp_B > -math.log(2)
    near = torch.log(-torch.expm1(torch.where(near_B, logp_B, -0.5)))
    far = torch.log1p(-torch.exp(torch.where(near_B, -1.0, logp_B)))
    return logp_B - torch.where(near_B, near, far)


def start_value(*, beta: float = 0.1, sft_weight: float = 1.0) -> float | None:
    """None: there is no reference to start from."""
    return None
