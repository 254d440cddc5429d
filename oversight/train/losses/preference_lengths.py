"""Direct preference losses that count the tokens of both responses.

The notation is that of `preference`.

Shapes: B pairs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from oversight.train.losses.metrics import Metrics
from oversight.train.losses.options import NonNegative, Positive
from oversight.train.losses.pairs import PairLogps, expected
from oversight.train.losses.registered import preference_loss


@preference_loss(start_value=lambda **_: math.log(2))
def length_normalised(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 5.0,
) -> tuple[Tensor, Metrics]:
    """Length-normalised DPO: the logistic loss on rewards a token.

    -log s(beta (c/|y_w| - r/|y_l|)), summed over pairs.

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


@preference_loss()
def length_regularised(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    alpha: NonNegative = 0.01,
) -> tuple[Tensor, Metrics]:
    """R-DPO: the logistic loss of a reward less its length, so that length is not what is learnt.

    -log s(beta d + alpha (|y_w| - |y_l|)), summed over pairs.

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


@preference_loss()
def simpo(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 2.0,
    gamma: NonNegative = 1.0,
) -> tuple[Tensor, Metrics]:
    """SimPO: the logistic loss on mean log-probabilities with a target margin, without reference.

    -log s(beta/|y_w| log pi(y_w) - beta/|y_l| log pi(y_l) - gamma), summed over pairs.

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


@preference_loss()
def orpo(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: NonNegative = 0.1,
    sft_weight: NonNegative = 1.0,
) -> tuple[Tensor, Metrics]:
    """ORPO: likelihood of the chosen response and odds against the rejected one, without reference.

    -log P(y_w) - beta log s(log odds(y_w) - log odds(y_l)), summed over pairs.

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
