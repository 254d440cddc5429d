"""Bradley–Terry: the better response's reward above the other's, by a logistic likelihood.

Shapes: B pairs.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from oversight.train.losses.labels import target_B
from oversight.train.losses.metrics import Metrics
from oversight.train.losses.ranges import NonNegative, Smoothing, ranged
from oversight.train.losses.reward.ties import cleaned, no_margin_on_ties, reduced


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
    label_smoothing: Smoothing = 0.0,
    centring: NonNegative = 0.0,
) -> tuple[Tensor, Metrics]:
    """-[q log s(z) + (1 - q) log s(-z)], z = r_chosen - r_rejected - margin, summed.

    Ouyang et al. 2022, arXiv:2203.02155, eq. 1, for q = 1 and no margin; the margin is that of
    Llama 2 (Touvron et al. 2023, arXiv:2307.09288, eq. 2); centring is that of Eisenstein et
    al. 2023, arXiv:2312.09244, eq. 2. Not averaged over the K(K - 1)/2 pairs of a ranking, as
    Ouyang et al. do: weight them for that.

    Args:
        chosen_B: Rewards of the better responses; raising one lowers the loss.
        rejected_B: Rewards of the others.
        normalizer: Global number of pairs.
        soft_label_B: q, the probability that the first is better; None for 1.
        margin_B: By how much the first should lead. It shifts both outcomes, so that they
            stay a probability distribution; ties have none.
        weight_B: Factor of each pair, centring included.
        tie_B: True where neither is better: q = 1/2. For a model of ties see rao_kupper
            and davidson.
        label_smoothing: Probability that a label is flipped, in [0, 0.5).
        centring: Coefficient of (r_chosen + r_rejected)^2; 0.01 in the paper.

    Returns:
        The loss and `loss`, `accuracy` (on decided pairs), `margin`, `reward`.
    """
    chosen_B, rejected_B = cleaned(chosen_B, rejected_B, weight_B)
    lead_B = chosen_B - rejected_B - no_margin_on_ties(margin_B, tie_B, chosen_B)
    q_B = target_B(
        chosen_B, soft_label_B=soft_label_B, tie_B=tie_B, label_smoothing=label_smoothing
    )
    loss_B = -logsigmoid(lead_B)
    if q_B is not None:
        loss_B = q_B * loss_B - (1 - q_B) * logsigmoid(-lead_B)
    return reduced(
        loss_B,
        chosen_B,
        rejected_B,
        centring=centring,
        soft_label_B=soft_label_B,
        tie_B=tie_B,
        weight_B=weight_B,
        normalizer=normalizer,
    )
