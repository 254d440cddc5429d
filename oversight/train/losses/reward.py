"""Losses of reward models, on scalar rewards: pairs (B) or rankings of K responses (BK).

Several reward models make an ensemble, at the end of this module (Coste et al. 2023, "Reward Model
Ensembles Help Mitigate Overoptimization", arXiv:2310.02743; Eisenstein et al. 2023, "Helping or
Herding?", arXiv:2312.09244). Each member learns by itself, so that the loss of an ensemble is the
sum of its members'.

Shapes: B pairs, rankings or responses, K responses of a ranking (padded), E members.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from oversight.errors import DataError
from oversight.train.losses.metrics import Metrics, clean, drop_rows, mean_of, promote, weighted_sum
from oversight.train.losses.options import NonNegative, Smoothing, checked
from oversight.train.losses.pairs import (
    DavidsonTies,
    RaoKupperTies,
    davidson_log_probabilities,
    decided,
    first_is_better,
    rao_kupper_log_probabilities,
    target_B,
    unlikelihood,
)
from oversight.train.losses.registered import reward_loss


@reward_loss()
def bradley_terry(
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
    """Bradley–Terry: the better response's reward above the other's, by a logistic likelihood.

    -[q log s(z) + (1 - q) log s(-z)], z = r_chosen - r_rejected - margin, summed.

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


@reward_loss()
def davidson(
    chosen_B: Tensor,
    rejected_B: Tensor,
    *,
    normalizer: float | Tensor,
    soft_label_B: Tensor | None = None,
    margin_B: Tensor | None = None,
    weight_B: Tensor | None = None,
    tie_B: Tensor | None = None,
    tie_strength: DavidsonTies = 1.0,
    label_smoothing: Smoothing = 0.0,
    centring: NonNegative = 0.0,
) -> tuple[Tensor, Metrics]:
    """Davidson: Bradley–Terry with a tie as a third outcome, likeliest at equal strength.

    The summed -log P of what was seen, a win or a tie: Davidson 1970; lower is likelier.

    With nu as Chen et al. 2024, arXiv:2409.17431, write it: `pairs.davidson_log_probabilities`.

    Args:
        chosen_B: Rewards (log-strengths) of the better responses.
        rejected_B: Rewards of the others.
        normalizer: Global number of pairs.
        soft_label_B: Probability that the first is better, of pairs that are no tie.
        margin_B: By how much the first should lead; ties have none.
        weight_B: Factor of each pair.
        tie_B: True where neither is better; None for no ties.
        tie_strength: See `DavidsonTies`. At 1, responses of equal reward are tied
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
            davidson_log_probabilities(lead_B, tie_strength),
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


@reward_loss()
def rao_kupper(
    chosen_B: Tensor,
    rejected_B: Tensor,
    *,
    normalizer: float | Tensor,
    soft_label_B: Tensor | None = None,
    margin_B: Tensor | None = None,
    weight_B: Tensor | None = None,
    tie_B: Tensor | None = None,
    tie_strength: RaoKupperTies = 3.0,
    label_smoothing: Smoothing = 0.0,
    centring: NonNegative = 0.0,
) -> tuple[Tensor, Metrics]:
    """Rao–Kupper: Bradley–Terry with a threshold below which two responses are tied.

    The summed -log P of what was seen, a win or a tie: Rao and Kupper 1967; lower is likelier.

    With nu as Chen et al. 2024, arXiv:2409.17431, write it: `pairs.rao_kupper_log_probabilities`.

    Args:
        chosen_B: Rewards (log-strengths) of the better responses.
        rejected_B: Rewards of the others.
        normalizer: Global number of pairs.
        soft_label_B: Probability that the first is better, of pairs that are no tie.
        margin_B: By how much the first should lead; ties have none.
        weight_B: Factor of each pair.
        tie_B: True where neither is better; None for no ties.
        tie_strength: See `RaoKupperTies`. At 3, responses of equal reward are tied
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
            rao_kupper_log_probabilities(lead_B, tie_strength),
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


Ties = Literal["apart", "breslow", "refuse"]


@reward_loss(rankings=True)
def plackett_luce(
    rewards_BK: Tensor,
    *,
    ranks_BK: Tensor,
    normalizer: float | Tensor,
    mask_BK: Tensor | None = None,
    weight_B: Tensor | None = None,
    ties: Ties = "apart",
    centring: NonNegative = 0.0,
) -> tuple[Tensor, Metrics]:
    """Plackett–Luce: the likelihood of a ranking of K responses, best first.

    The summed -sum_i [ r_i - log sum_{j in S_i} exp r_j ] of each ranking; lower is likelier.

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
        metrics = _ranking_metrics(loss_B, rewards_BK, ranks_BK, mask_BK)
    return weighted_sum(loss_B, weight_B, normalizer), metrics


def _refuse_ties(tied_BKK: Tensor) -> None:
    rows = tied_BKK.sum((1, 2)) > tied_BKK.diagonal(dim1=1, dim2=2).sum(1)
    if rows.any():
        row = int(rows.nonzero()[0])
        raise DataError(
            f"ranking {row} of the batch has ties and ties = 'refuse': drop it, or set ties to "
            "'apart' or 'breslow'"
        )


def _ranking_metrics(
    loss_B: Tensor, rewards_BK: Tensor, ranks_BK: Tensor, mask_BK: Tensor
) -> Metrics:
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


Combination = Literal["mean", "min", "minus_std", "minus_variance"]


@checked
def combine(
    rewards_EB: Tensor, *, how: Combination = "mean", coefficient: NonNegative = 1.0
) -> Tensor:
    """One reward a response, shape B.

    Args:
        rewards_EB: The members' rewards, on one scale.
        how: "mean"; "min" (Coste et al.'s worst-case optimisation); "minus_variance",
            mean - c variance (their uncertainty-weighted optimisation); "minus_std",
            mean - c std, the same in the rewards' own unit. Standard deviation and variance
            are of the members as a population (by E), as in the paper.
        coefficient: c, at least 0.
    """
    rewards_EB = promote(rewards_EB)
    if how == "mean":
        return rewards_EB.mean(0)
    if how == "min":
        return rewards_EB.amin(0)
    if how == "minus_std":
        return rewards_EB.mean(0) - coefficient * disagreement(rewards_EB)
    return rewards_EB.mean(0) - coefficient * rewards_EB.var(0, correction=0)


def disagreement(rewards_EB: Tensor) -> Tensor:
    """Standard deviation over the members (by E) of each response's reward; shape B."""
    return promote(rewards_EB).std(0, correction=0)


def pairwise_disagreement(chosen_EB: Tensor, rejected_EB: Tensor) -> Tensor:
    """Probability that two members drawn at random, the same one twice allowed, order a pair apart.

    It is 2 p (1 - p) where a share p of the members prefers the first; equal rewards count
    half to either side. Unlike the standard deviation it does not depend on the scale.

    Returns:
        Shape B, in [0, 1/2].
    """
    lead_EB = promote(chosen_EB) - promote(rejected_EB)
    share_B = ((lead_EB > 0).to(lead_EB.dtype) + (lead_EB == 0).to(lead_EB.dtype) / 2).mean(0)
    return 2 * share_B * (1 - share_B)


def ensemble_metrics(rewards_EB: Tensor) -> Metrics:
    """`reward` and `disagreement`, as means over responses."""
    with torch.no_grad():
        return {
            "reward": mean_of(combine(rewards_EB)),
            "disagreement": mean_of(disagreement(rewards_EB)),
        }
