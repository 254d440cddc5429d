"""Direct preference losses that sort the pairs of a step: distributions of log-ratios (AOT).

The notation is that of `preference`. Pairs of a step must come in one call.

Shapes: B pairs.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import logsigmoid

from oversight.train.losses.metrics import Metrics
from oversight.train.losses.options import Positive, Smoothing
from oversight.train.losses.pairs import PairLogps, reduced
from oversight.train.losses.registered import preference_loss


@preference_loss(sorts=True, start_value=lambda **_: math.log(2))
def aot(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    label_smoothing: Smoothing = 0.0,
) -> tuple[Tensor, Metrics]:
    """AOT: the log-ratios of chosen over rejected above the reference's, as distributions.

    -log s(beta (u_(i) - v_(i))) over the sorted values u and v, summed.

    Melnyk et al. 2024, "Distributional Preference Alignment of LLMs via Optimal Transport",
    arXiv:2406.05882, section 3: first-order stochastic dominance of u over v, the paired form:
    log pi(y_w)/pi(y_l) of the policy against that of the reference.

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
    pairs = _unlabelled(pairs, "aot")
    ours_B = pairs.chosen_B - pairs.rejected_B
    theirs_B = (ours_B - ours_B).detach()
    if pairs.ref_chosen_B is not None and pairs.ref_rejected_B is not None:
        theirs_B = pairs.ref_chosen_B - pairs.ref_rejected_B
    return _dominance(
        pairs,
        ours_B,
        theirs_B,
        normalizer=normalizer,
        beta=beta,
        label_smoothing=label_smoothing,
    )


@preference_loss(sorts=True, start_value=lambda **_: math.log(2))
def aot_unpaired(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    label_smoothing: Smoothing = 0.0,
) -> tuple[Tensor, Metrics]:
    """AOT, unpaired: rewards of chosen responses above those of rejected ones, as distributions.

    -log s(beta (u_(i) - v_(i))) over the sorted values u and v, summed.

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
    pairs = _unlabelled(pairs, "aot_unpaired")
    ours_B, theirs_B = pairs.chosen_ratio_B, pairs.rejected_ratio_B
    return _dominance(
        pairs,
        ours_B,
        theirs_B,
        normalizer=normalizer,
        beta=beta,
        label_smoothing=label_smoothing,
    )


def _dominance(
    pairs: PairLogps,
    ours_B: Tensor,
    theirs_B: Tensor,
    *,
    normalizer: float | Tensor,
    beta: float,
    label_smoothing: float,
) -> tuple[Tensor, Metrics]:
    """-log s(beta (u_(i) - v_(i))) over the sorted values u = `ours_B` and v = `theirs_B`."""
    eps = label_smoothing
    logits_B = beta * (ours_B.sort().values - theirs_B.sort().values)
    loss_B = -(1 - eps) * logsigmoid(logits_B) - eps * logsigmoid(-logits_B)
    return reduced(loss_B, pairs, normalizer=normalizer, beta=beta)


def _unlabelled(pairs: PairLogps, name: str) -> PairLogps:
    """The pairs of weight 1, cleaned.

    Raises:
        ValueError: Soft labels, ties or other weights are given: quantiles have no labels.
    """
    if pairs.soft_label_B is not None or pairs.tie_B is not None:
        raise ValueError(f"{name}: soft labels and ties are not defined for sorted log-ratios")
    if pairs.weight_B is not None:
        if not ((pairs.weight_B == 0) | (pairs.weight_B == 1)).all():
            raise ValueError(f"{name}: weights other than 0 and 1 are not defined for quantiles")
        pairs = pairs.rows(pairs.weight_B != 0)
    return pairs.cleaned()
