"""Rao–Kupper: Bradley–Terry with a threshold below which two responses are tied.

Shapes: B pairs.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from oversight.train.losses.metrics import Metrics
from oversight.train.losses.ranges import NonNegative, Range, Smoothing, ranged
from oversight.train.losses.reward.ties import (
    Outcomes,
    cleaned,
    no_margin_on_ties,
    reduced,
    unlikelihood,
)

TieStrength = Annotated[float, Range(above=1)] | Tensor
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
    tie_strength: TieStrength = 3.0,
    label_smoothing: Smoothing = 0.0,
    centring: NonNegative = 0.0,
) -> tuple[Tensor, Metrics]:
    """The summed -log P of what was seen, a win or a tie: Rao and Kupper 1967; lower is likelier.

    Args:
        chosen_B: Rewards (log-strengths) of the better responses.
        rejected_B: Rewards of the others.
        normalizer: Global number of pairs.
        soft_label_B: Probability that the first is better, of pairs that are no tie.
        margin_B: By how much the first should lead; ties have none.
        weight_B: Factor of each pair.
        tie_B: True where neither is better; None for no ties.
        tie_strength: See `TieStrength`. At 3, responses of equal reward are tied
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

    Rao and Kupper 1967, "Ties in Paired-Comparison Experiments", as Chen et al. 2024,
    arXiv:2409.17431, write it: with nu >= 1 and a = log nu, P(first) = s(lead - a),
    P(second) = s(-lead - a), P(tie) = (nu^2 - 1) P(first) P(second).

    Args:
        lead: By how much the first one's log-strength exceeds the second one's; any shape.
        tie_strength: nu, above 1: at equal strength a tie has probability (nu - 1)/(nu + 1).
    """
    nu = torch.as_tensor(tie_strength, dtype=lead.dtype, device=lead.device)
    first = logsigmoid(lead - nu.log())
    second = logsigmoid(-lead - nu.log())
    return first, torch.log(nu.square() - 1) + first + second, second


def from_raw(raw: Tensor) -> Tensor:
    """A tie strength above 1 from an unconstrained learnable number; 0 gives about 1.69."""
    return 1 + 1e-4 + softplus(raw)  # never so near 1 that log(nu^2 - 1) is infinite
