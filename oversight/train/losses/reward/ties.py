"""What pairwise reward losses with and without ties share: metrics, centring, reduction.

Shapes: B pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oversight.train.losses.labels import decided, first_is_better, target_B
from oversight.train.losses.masked import drop_rows, weighted_sum
from oversight.train.losses.metrics import Metrics, mean_of

Outcomes = tuple[Tensor, Tensor, Tensor]
"""log P(first better), log P(tie) and log P(second better) of a model of ties, B each."""


def unlikelihood(
    outcomes: Outcomes,
    *,
    soft_label_B: Tensor | None,
    tie_B: Tensor | None,
    label_smoothing: float,
) -> Tensor:
    """-log P of what was seen of each pair: a tie, or a win by its label; shape B."""
    first_B, tied_B, second_B = outcomes
    q_B = target_B(first_B, soft_label_B=soft_label_B, label_smoothing=label_smoothing)
    loss_B = -first_B if q_B is None else -(q_B * first_B + (1 - q_B) * second_B)
    return loss_B if tie_B is None else torch.where(tie_B, -tied_B, loss_B)


def reduced(
    loss_B: Tensor,
    chosen_B: Tensor,
    rejected_B: Tensor,
    *,
    centring: float,
    soft_label_B: Tensor | None,
    tie_B: Tensor | None,
    weight_B: Tensor | None,
    normalizer: float | Tensor,
) -> tuple[Tensor, Metrics]:
    """The weighted sum of per-pair losses with the centring term, and the metrics of pairs.

    Centring (Eisenstein et al. 2023, "Helping or Herding?", arXiv:2312.09244, eq. 2): `centring`
    times (r_chosen + r_rejected)^2 keeps the rewards, of which only differences are learnt, near 0.
    """
    if centring:
        loss_B = loss_B + centring * (chosen_B + rejected_B).square()
    with torch.no_grad():
        metrics = pair_metrics(loss_B, chosen_B, rejected_B, soft_label_B, tie_B, weight_B)
    return weighted_sum(loss_B, weight_B, normalizer), metrics


def pair_metrics(
    loss_B: Tensor,
    chosen_B: Tensor,
    rejected_B: Tensor,
    soft_label_B: Tensor | None,
    tie_B: Tensor | None,
    weight_B: Tensor | None,
) -> Metrics:
    """Loss, accuracy on decided pairs, margin and rewards, over the pairs of weight above 0."""
    kept_B = torch.ones_like(chosen_B, dtype=torch.bool) if weight_B is None else weight_B != 0
    agrees_B = (chosen_B > rejected_B) == first_is_better(soft_label_B, chosen_B)
    agrees_B = agrees_B & (chosen_B != rejected_B)
    return {
        "loss": mean_of(loss_B, kept_B),
        "accuracy": mean_of(agrees_B, kept_B & decided(tie_B, soft_label_B, chosen_B)),
        "margin": mean_of(chosen_B - rejected_B, kept_B),
        "reward": mean_of(torch.cat([chosen_B, rejected_B]), torch.cat([kept_B, kept_B])),
    }


def cleaned(chosen_B: Tensor, rejected_B: Tensor, weight_B: Tensor | None) -> tuple[Tensor, Tensor]:
    """Both in at least float32, zero in rows of weight 0."""
    return drop_rows(chosen_B, weight_B), drop_rows(rejected_B, weight_B)


def no_margin_on_ties(
    margin_B: Tensor | None, tie_B: Tensor | None, like_B: Tensor
) -> Tensor | float:
    """The margins, 0 where a pair is a tie (it has no better side) and where none are given."""
    if margin_B is None:
        return 0.0
    margin_B = margin_B.to(like_B)
    return margin_B if tie_B is None else torch.where(tie_B, 0.0, margin_B)
