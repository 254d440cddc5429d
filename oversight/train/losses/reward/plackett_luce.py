"""Plackett–Luce: the likelihood of a ranking of K responses, best first.

Shapes: B rankings, K responses of a ranking (padded).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from oversight.errors import DataError
from oversight.train.losses.masked import clean, weighted_sum
from oversight.train.losses.metrics import Metrics, mean_of
from oversight.train.losses.ranges import NonNegative, ranged

Ties = Literal["apart", "breslow", "refuse"]


@ranged
def loss(
    rewards_BK: Tensor,
    *,
    ranks_BK: Tensor,
    normalizer: float | Tensor,
    mask_BK: Tensor | None = None,
    weight_B: Tensor | None = None,
    ties: Ties = "apart",
    centring: NonNegative = 0.0,
) -> tuple[Tensor, Metrics]:
    """The summed -sum_i [ r_i - log sum_{j in S_i} exp r_j ] of each ranking; lower is likelier.

    Plackett 1975, Luce 1959; for rewards Rafailov et al. 2023, arXiv:2305.18290, eq. 18
    (appendix A.3), where S_i is i and all that is ranked below it. For K = 2 it is Bradley–Terry.

    Args:
        rewards_BK: Rewards of the responses, in any order.
        ranks_BK: Their ranks: 0 is best, equal is tied. Only their order matters.
        normalizer: Global number of rankings.
        mask_BK: False for padding; None where all rankings have K responses.
        weight_B: Factor of each ranking.
        ties: "apart": tied responses are not compared with each other, only with what is
            worse, so a ranking all tied says nothing. "breslow": S_i holds the ties too
            (Breslow 1974, for the same likelihood in survival analysis), which draws tied
            rewards together. "refuse": an error.
        centring: Coefficient of the squared mean reward of a ranking times 4, which for
            K = 2 is (r_1 + r_2)^2.

    Returns:
        The loss and `loss`, `accuracy` (of the pairs of different rank), `top_accuracy`
        (of rankings whose highest reward is on a best response), `reward`, `ties` (share
        of pairs that are tied).

    Raises:
        DataError: A ranking has ties and `ties` is "refuse".
    """
    mask_BK = torch.ones_like(ranks_BK, dtype=torch.bool) if mask_BK is None else mask_BK
    if weight_B is not None:
        mask_BK = mask_BK & (weight_B != 0)[:, None]
    rewards_BK = clean(rewards_BK, mask_BK)
    pairs_BKK = mask_BK[:, :, None] & mask_BK[:, None, :]
    order_BKK = ranks_BK[:, None, :] - ranks_BK[:, :, None]  # positive: the second is worse
    if ties == "refuse":
        _refuse_ties(pairs_BKK & (order_BKK == 0))
    below_BKK = order_BKK >= 0 if ties == "breslow" else order_BKK > 0
    itself_KK = torch.eye(ranks_BK.shape[1], dtype=torch.bool, device=ranks_BK.device)
    rivals_BKK = (pairs_BKK & below_BKK) | itself_KK
    scores_BKK = rewards_BK[:, None, :].expand_as(rivals_BKK)
    lse_BK = scores_BKK.masked_fill(~rivals_BKK, float("-inf")).logsumexp(2)
    loss_B = clean(lse_BK - rewards_BK, mask_BK).sum(1)
    if centring:
        mean_B = rewards_BK.sum(1) / mask_BK.sum(1).clamp(min=1)
        loss_B = loss_B + centring * 4 * mean_B.square()
    with torch.no_grad():
        metrics = _metrics(loss_B, rewards_BK, ranks_BK, mask_BK)
    return weighted_sum(loss_B, weight_B, normalizer), metrics


def _refuse_ties(tied_BKK: Tensor) -> None:
    rows = tied_BKK.sum((1, 2)) > tied_BKK.diagonal(dim1=1, dim2=2).sum(1)
    if rows.any():
        row = int(rows.nonzero()[0])
        raise DataError(
            f"ranking {row} of the batch has ties and ties = 'refuse': drop it, or set ties to "
            "'apart' or 'breslow'"
        )


def _metrics(loss_B: Tensor, rewards_BK: Tensor, ranks_BK: Tensor, mask_BK: Tensor) -> Metrics:
    pairs_BKK = mask_BK[:, :, None] & mask_BK[:, None, :]
    better_BKK = pairs_BKK & (ranks_BK[:, :, None] < ranks_BK[:, None, :])
    right_BKK = rewards_BK[:, :, None] > rewards_BK[:, None, :]
    upper_KK = torch.ones_like(pairs_BKK[0]).triu(1)
    top_B = rewards_BK.masked_fill(~mask_BK, float("-inf")).argmax(1, keepdim=True)
    worst = torch.iinfo(ranks_BK.dtype).max if not ranks_BK.is_floating_point() else float("inf")
    best_B = ranks_BK.masked_fill(~mask_BK, worst).amin(1, keepdim=True)
    rows_B = mask_BK.any(1)
    return {
        "loss": mean_of(loss_B, rows_B),
        "accuracy": mean_of(right_BKK, better_BKK),
        "top_accuracy": mean_of((ranks_BK.gather(1, top_B) == best_B)[:, 0], rows_B),
        "reward": mean_of(rewards_BK, mask_BK),
        "ties": mean_of(ranks_BK[:, :, None] == ranks_BK[:, None, :], pairs_BKK & upper_KK),
    }
