"""A likelihood term on the chosen response, to be added to any preference loss.

Shapes: B pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oversight.train.losses.masked import weighted_sum
from oversight.train.losses.metrics import Metrics, mean_of
from oversight.train.losses.preference.pairs import PairLogps
from oversight.train.losses.ranges import NonNegative, ranged


@ranged
def loss(
    pairs: PairLogps, *, normalizer: float | Tensor, alpha: NonNegative, per_token: bool = False
) -> tuple[Tensor, Metrics]:
    """-alpha log pi(y_w)/|y_w|, summed over pairs; add it to a preference loss.

    Pang et al. 2024, "Iterative Reasoning Preference Optimization", arXiv:2404.19733, eq. 1, the
    second term: the mean over the tokens of each chosen response. Where a pair's label prefers
    the rejected (soft label below 1/2), it is that response; a tie has both with half the weight
    each.

    Args:
        pairs: Summed log-probabilities with lengths.
        normalizer: Global number of pairs; with `per_token` the global number of tokens of
            the chosen responses (so TRL's `sft` loss).
        alpha: Weight of the term; 1 in the paper.
        per_token: Sums log pi(y_w), so that each token counts the same.

    Returns:
        The loss and `sft_nll`, the mean over pairs of -log pi(y_w)/|y_w|.
    """
    pairs = pairs.cleaned()
    chosen_length_B, rejected_length_B = pairs.num_tokens()
    q_B = _better(pairs)
    per_token_B = _mix(q_B, pairs.chosen_B / chosen_length_B, pairs.rejected_B / rejected_length_B)
    term_B = _mix(q_B, pairs.chosen_B, pairs.rejected_B) if per_token else per_token_B
    with torch.no_grad():
        kept_B = None if pairs.weight_B is None else pairs.weight_B != 0
        metrics: Metrics = {"sft_nll": mean_of(-per_token_B, kept_B)}
    return weighted_sum(-alpha * term_B, pairs.weight_B, normalizer), metrics


def _better(pairs: PairLogps) -> Tensor:
    """1 where the chosen is the better one, 0 where the rejected is, 1/2 for a tie."""
    q_B = torch.ones_like(pairs.chosen_B)
    if pairs.soft_label_B is not None:
        q_B = (torch.sign(pairs.soft_label_B.to(q_B) - 0.5) + 1) / 2
    return q_B if pairs.tie_B is None else torch.where(pairs.tie_B, 0.5, q_B)


def _mix(q_B: Tensor, chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
    return q_B * chosen_B + (1 - q_B) * rejected_B
