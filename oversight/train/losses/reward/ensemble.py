"""One reward from several reward models, and how much they disagree.

Coste et al. 2023 ("Reward Model Ensembles Help Mitigate Overoptimization", arXiv:2310.02743);
Eisenstein et al. 2023 ("Helping or Herding?", arXiv:2312.09244). Each member learns by itself:
the loss of an ensemble is the sum of its members'.

Shapes: E members, B responses or pairs.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from oversight.train.losses.masked import promote
from oversight.train.losses.metrics import Metrics, mean_of
from oversight.train.losses.ranges import NonNegative, ranged

Combination = Literal["mean", "min", "minus_std", "minus_variance"]


@ranged
def combine(
    rewards_EB: Tensor, *, how: Combination = "mean", coefficient: NonNegative = 1.0
) -> Tensor:
    """One reward a response, shape B.

    Args:
        rewards_EB: The members' rewards, on one scale.
        how: "mean"; "min" (Coste et al.'s worst-case optimisation); "minus_variance",
            mean - c variance (their uncertainty-weighted optimisation); "minus_std",
            mean - c std, the same in the rewards' own unit. Standard deviation and variance
            are of the members as a population (by E), as in the paper.
        coefficient: c, at least 0.
    """
    rewards_EB = promote(rewards_EB)
    if how == "mean":
        return rewards_EB.mean(0)
    if how == "min":
        return rewards_EB.amin(0)
    if how == "minus_std":
        return rewards_EB.mean(0) - coefficient * disagreement(rewards_EB)
    return rewards_EB.mean(0) - coefficient * rewards_EB.var(0, correction=0)


def disagreement(rewards_EB: Tensor) -> Tensor:
    """Standard deviation over the members (by E) of each response's reward; shape B."""
    return promote(rewards_EB).std(0, correction=0)


def pairwise_disagreement(chosen_EB: Tensor, rejected_EB: Tensor) -> Tensor:
    """Probability that two members drawn at random, the same one twice allowed, order a pair apart.

    It is 2 p (1 - p) where a share p of the members prefers the first; equal rewards count
    half to either side. Unlike the standard deviation it does not depend on the scale.

    Returns:
        Shape B, in [0, 1/2].
    """
    lead_EB = promote(chosen_EB) - promote(rejected_EB)
    share_B = ((lead_EB > 0).to(lead_EB.dtype) + (lead_EB == 0).to(lead_EB.dtype) / 2).mean(0)
    return 2 * share_B * (1 - share_B)


def metrics(rewards_EB: Tensor) -> Metrics:
    """`reward` and `disagreement`, as means over responses."""
    with torch.no_grad():
        return {
            "reward": mean_of(combine(rewards_EB)),
            "disagreement": mean_of(disagreement(rewards_EB)),
        }
