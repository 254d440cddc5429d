"""Labelled responses as an unpaired loss takes them, and what those losses do alike.

Shapes: B responses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from oversight.train.losses.masked import drop_rows, promote, weighted_sum
from oversight.train.losses.metrics import Metrics, mean_of


@dataclass(frozen=True, slots=True, eq=False)
class UnpairedLogps:
    """Log-probabilities of labelled responses, each a sum over the tokens learnt from."""

    logps_B: Tensor
    """log pi of the responses."""
    desirable_B: Tensor
    """True for good, False for bad."""
    ref_logps_B: Tensor | None = None
    """The same under the reference, without gradient; None takes it as 0 for all."""
    weight_B: Tensor | None = None
    """Factor of each response; one of weight 0 has no influence."""

    @property
    def ratio_B(self) -> Tensor:
        """u, log pi/ref; 0 in rows of weight 0."""
        ours_B = drop_rows(self.logps_B, self.weight_B)
        if self.ref_logps_B is None:
            return ours_B
        return ours_B - drop_rows(promote(self.ref_logps_B).detach(), self.weight_B)


def reduced(
    good_B: Tensor,
    bad_B: Tensor,
    rows: UnpairedLogps,
    *,
    normalizer: float | Tensor,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> tuple[Tensor, Metrics]:
    """The weighted sum of `good_B` for desirable and `bad_B` for other rows, and the metrics.

    `loss`, `reward_desirable`, `reward_undesirable` (beta u of either kind).
    """
    loss_B = torch.where(rows.desirable_B, desirable_weight * good_B, undesirable_weight * bad_B)
    with torch.no_grad():
        kept_B = torch.ones_like(rows.desirable_B) if rows.weight_B is None else rows.weight_B != 0
        reward_B = beta * rows.ratio_B
        metrics: Metrics = {
            "loss": mean_of(loss_B, kept_B),
            "reward_desirable": mean_of(reward_B, kept_B & rows.desirable_B),
            "reward_undesirable": mean_of(reward_B, kept_B & ~rows.desirable_B),
        }
    return weighted_sum(loss_B, rows.weight_B, normalizer), metrics
