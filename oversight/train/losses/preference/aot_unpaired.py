"""AOT, unpaired: the rewards of chosen responses above those of rejected ones, as distributions.

Shapes: B pairs.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import logsigmoid

from oversight.train.losses.metrics import Metrics
from oversight.train.losses.preference.pairs import PairLogps, reduced
from oversight.train.losses.ranges import Positive, Smoothing, ranged

SORTS = True
"""Pairs of a step are sorted among one another: they must come in one call."""


@ranged
def loss(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    label_smoothing: Smoothing = 0.0,
) -> tuple[Tensor, Metrics]:
    """-log s(beta (u_(i) - v_(i))) over the sorted values u and v, summed.

    Melnyk et al. 2024, "Distributional Preference Alignment of LLMs via Optimal Transport",
    arXiv:2406.05882, section 3: first-order stochastic dominance of u over v, the unpaired
    form: c against r.

    Sorting is within one call: unlike all other losses, the gradient depends on how a batch
    is split. The trainer gives it a whole step's pairs, those of all processes.
    `label_smoothing` is TRL's.

    Args:
        pairs: Summed log-probabilities. Weights are 0 (left out) or 1.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.
        label_smoothing: Weight of the reversed term, in [0, 0.5).

    Returns:
        The loss and the metrics of `pairs.reduced`.

    Raises:
        ValueError: Soft labels, ties or other weights are given: quantiles have no labels.
    """
    eps = label_smoothing
    if pairs.soft_label_B is not None or pairs.tie_B is not None:
        raise ValueError("aot_unpaired: soft labels and ties are not defined for sorted log-ratios")
    if pairs.weight_B is not None:
        if not ((pairs.weight_B == 0) | (pairs.weight_B == 1)).all():
            raise ValueError(
                "aot_unpaired: weights other than 0 and 1 are not defined for quantiles"
            )
        pairs = pairs.rows(pairs.weight_B != 0)
    pairs = pairs.cleaned()
    ours_B = pairs.chosen_ratio_B.sort().values
    theirs_B = pairs.rejected_ratio_B.sort().values
    logits_B = beta * (ours_B - theirs_B)
    loss_B = -(1 - eps) * logsigmoid(logits_B) - eps * logsigmoid(-logits_B)
    return reduced(loss_B, pairs, normalizer=normalizer, beta=beta)


def start_value(*, beta: float = 0.1, label_smoothing: float = 0.0) -> float | None:
    """ln 2."""
    return math.log(2)
