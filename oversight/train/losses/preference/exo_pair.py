"""EXO: the reverse KL divergence from the label's distribution over two responses.

Shapes: B pairs.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from oversight.train.losses.labels import target_B
from oversight.train.losses.metrics import Metrics
from oversight.train.losses.preference.pairs import PairLogps, reduced
from oversight.train.losses.ranges import Positive, Range, ranged


@ranged
def loss(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    label_smoothing: Annotated[float, Range(above=0, below=0.5)] = 1e-3,
) -> tuple[Tensor, Metrics]:
    """p log(p/q) + (1 - p) log((1 - p)/(1 - q)), p = s(beta d), summed over pairs.

    Ji et al. 2024, "Towards Efficient Exact Optimization of Language Model Alignment",
    arXiv:2402.00856, eq. 16, with q = 1 - eps. The least loss is at p = q, not at infinity: past
    it, raising the chosen log-probability raises the loss.

    Args:
        pairs: Summed log-probabilities. A soft label p' or a tie (1/2) is part of the target:
            q = p' (1 - eps) + (1 - p') eps; the swapped pair is not mixed in.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.
        label_smoothing: eps, in (0, 0.5): without it the divergence is infinite.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """
    eps = label_smoothing
    pairs = pairs.cleaned()
    q_B = target_B(
        pairs.chosen_B,
        soft_label_B=pairs.soft_label_B,
        tie_B=pairs.tie_B,
        label_smoothing=eps,
    )
    q_B = torch.full_like(pairs.chosen_B, 1 - eps) if q_B is None else q_B
    logits_B = beta * pairs.delta_B
    first_B = torch.sigmoid(logits_B) * (logsigmoid(logits_B) - q_B.log())
    second_B = torch.sigmoid(-logits_B) * (logsigmoid(-logits_B) - torch.log1p(-q_B))
    return reduced(first_B + second_B, pairs, normalizer=normalizer, beta=beta)


def start_value(*, beta: float = 0.1, label_smoothing: float = 1e-3) -> float | None:
    """-ln 2 - 1/2 ln(eps (1 - eps)), for hard labels."""
    eps = label_smoothing
    return -math.log(2) - (math.log(eps) + math.log1p(-eps)) / 2
