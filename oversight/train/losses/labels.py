"""From what annotators said of two responses to probabilities, and models of ties.

Shapes: B pairs.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid, softplus

from oversight.train.losses.options import Positive, Smoothing, checked


@checked
def target_B(
    like_B: Tensor,
    *,
    soft_label_B: Tensor | None = None,
    tie_B: Tensor | None = None,
    label_smoothing: Smoothing = 0.0,
) -> Tensor | None:
    """P(first is better) of each pair, or None where it is 1 for all.

    A tie is a half, whatever its soft label says. Smoothing flips each label with
    probability `label_smoothing`: q = p (1 - eps) + (1 - p) eps.

    Args:
        like_B: Gives shape, type and device.
        soft_label_B: Probability that the first is better; None for 1.
        tie_B: True where neither is better.
        label_smoothing: In [0, 0.5).
    """
    if soft_label_B is None and tie_B is None and label_smoothing == 0:
        return None
    target = torch.ones_like(like_B) if soft_label_B is None else soft_label_B.to(like_B)
    if tie_B is not None:
        target = torch.where(tie_B, 0.5, target)
    return target * (1 - label_smoothing) + (1 - target) * label_smoothing


def decided(tie_B: Tensor | None, soft_label_B: Tensor | None, like_B: Tensor) -> Tensor:
    """True for pairs with a better side, for accuracies: no tie and no even label."""
    kept = torch.ones_like(like_B, dtype=torch.bool)
    if tie_B is not None:
        kept = kept & ~tie_B
    return kept if soft_label_B is None else kept & (soft_label_B != 0.5)


def first_is_better(soft_label_B: Tensor | None, like_B: Tensor) -> Tensor:
    """True where the label favours the first of a pair."""
    if soft_label_B is None:
        return torch.ones_like(like_B, dtype=torch.bool)
    return soft_label_B > 0.5


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


DavidsonTies = Positive | Tensor
"""nu of `davidson_log_probabilities`: fixed, or a learnable scalar
tensor (see `davidson_from_raw`)."""


@checked
def davidson_log_probabilities(lead: Tensor, tie_strength: DavidsonTies) -> Outcomes:
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


def davidson_from_raw(raw: Tensor) -> Tensor:
    """A tie strength above 0 from an unconstrained learnable number; 0 gives about 0.69."""
    return softplus(raw)


RaoKupperTies = Annotated[float, Field(gt=1)] | Tensor
"""nu of `rao_kupper_log_probabilities`: fixed, or a learnable scalar
tensor (see `rao_kupper_from_raw`)."""


@checked
def rao_kupper_log_probabilities(lead: Tensor, tie_strength: RaoKupperTies) -> Outcomes:
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


def rao_kupper_from_raw(raw: Tensor) -> Tensor:
    """A tie strength above 1 from an unconstrained learnable number; 0 gives about 1.69."""
    return 1 + 1e-4 + softplus(raw)  # never so near 1 that log(nu^2 - 1) is infinite
