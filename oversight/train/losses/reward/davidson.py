"""Davidson: Bradley–Terry with a tie as a third outcome, likeliest at equal strength.

Shapes: B pairs.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, softplus

from oversight.train.losses.metrics import Metrics
from oversight.train.losses.ranges import NonNegative, Range, Smoothing, ranged
from oversight.train.losses.reward.ties import (
    Outcomes,
    cleaned,
    no_margin_on_ties,
    reduced,
    unlikelihood,
)

TieStrength = Annotated[float, Range(above=0)] | Tensor
"""nu of `log_probabilities`: fixed, or a learnable scalar tensor (see `from_raw`)."""


@ranged
def loss(
    chosen_B: Tensor,
    rejected_B: Tensor,
    *,
    normalizer: float | Tensor,
    soft_label_B: Tensor | None = None,
    margin_B: Tensor | None = None,
    weight_B: Tensor | None = None,
    tie_B: Tensor | None = None,
    tie_strength: TieStrength = 1.0,
    label_smoothing: Smoothing = 0.0,
    centring: NonNegative = 0.0,
) -> tuple[Tensor, Metrics]:
    """The summed -log P of what was seen, a win or a tie: Davidson 1970; lower is likelier.

    Args:
        chosen_B: Rewards (log-strengths) of the better responses.
        rejected_B: Rewards of the others.
        normalizer: Global number of pairs.
        soft_label_B: Probability that the first is better, of pairs that are no tie.
        margin_B: By how much the first should lead; ties have none.
        weight_B: Factor of each pair.
        tie_B: True where neither is better; None for no ties.
        tie_strength: See `TieStrength`. At 1, responses of equal reward are tied
            half of the time (the choice of Chen et al. 2024).
        label_smoothing: Probability that a win is flipped, in [0, 0.5).
        centring: Coefficient of (r_chosen + r_rejected)^2 (Eisenstein et al. 2023).

    Returns:
        The loss and `loss`, `accuracy` (on decided pairs), `margin`, `reward`.
    """
    chosen_B, rejected_B = cleaned(chosen_B, rejected_B, weight_B)
    lead_B = chosen_B - rejected_B - no_margin_on_ties(margin_B, tie_B, chosen_B)
    return reduced(
        unlikelihood(
            log_probabilities(lead_B, tie_strength),
            soft_label_B=soft_label_B,
            tie_B=tie_B,
            label_smoothing=label_smoothing,
        ),
        chosen_B,
        rejected_B,
        centring=centring,
        soft_label_B=soft_label_B,
        tie_B=tie_B,
        weight_B=weight_B,
        normalizer=normalizer,
    )


@ranged
def log_probabilities(lead: Tensor, tie_strength: TieStrength) -> Outcomes:
    """log P(first better), log P(tie) and log P(second better), which sum to 1 as probabilities.

    Davidson 1970, "On Extending the Bradley-Terry Model to Accommodate Ties in Paired Comparison
    Experiments", in the scaling of Chen et al. 2024, arXiv:2409.17431: with strengths l1 and l2
    the three are proportional to l1, 2 nu sqrt(l1 l2) and l2. (Davidson writes nu for this 2 nu.)

    Args:
        lead: By how much the first one's log-strength exceeds the second one's; any shape.
        tie_strength: nu, above 0: at equal strength a tie has probability nu/(1 + nu).
    """
    nu = torch.as_tensor(tie_strength, dtype=lead.dtype, device=lead.device)
    log_tie = nu.mul(2).log().expand_as(lead)
    scores = torch.stack([lead / 2, log_tie, -lead / 2])
    first, tie, second = log_softmax(scores, dim=0)
    return first, tie, second


def from_raw(raw: Tensor) -> Tensor:
    """A tie strength above 0 from an unconstrained learnable number; 0 gives about 0.69."""
    return softplus(raw)
