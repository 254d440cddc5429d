"""Direct preference losses that need more of a step's pairs than log-ratios one by one.

These are the lengths of both responses, a tie as an outcome of its own, or the other pairs: AOT
compares distributions of log-ratios by sorting them, so the pairs of a step must come in one call.

The notation is that of `preference`, the models of ties are those of `pairs`.

Shapes: B pairs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from oversight.train.losses.metrics import Metrics
from oversight.train.losses.options import NonNegative, Positive, Smoothing
from oversight.train.losses.pairs import (
    DavidsonTies,
    PairLogps,
    RaoKupperTies,
    davidson_log_probabilities,
    expected,
    rao_kupper_log_probabilities,
    reduced,
    unlikelihood,
)
from oversight.train.losses.registered import preference_loss


@preference_loss(start_value=lambda **_: math.log(2))
def length_normalised(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 5.0,
) -> tuple[Tensor, Metrics]:
    """Length-normalised DPO: the logistic loss on rewards a token.

    -log s(beta (c/|y_w| - r/|y_l|)), summed over pairs.

    Lambert et al. 2024 (Tülu 3), arXiv:2411.15124, eq. 6, after Meng et al. 2024 with the
    reference kept. TRL calls it `sigmoid_norm`.

    Args:
        pairs: Summed log-probabilities with lengths; soft labels and
            ties mix the loss of the pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Above 0; larger than for plain DPO by about a response's length (5 in Tülu 3).

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        chosen_length_B, rejected_length_B = p.num_tokens()
        per_token_B = p.chosen_ratio_B / chosen_length_B - p.rejected_ratio_B / rejected_length_B
        return -logsigmoid(beta * per_token_B)

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


@preference_loss()
def length_regularised(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    alpha: NonNegative = 0.01,
) -> tuple[Tensor, Metrics]:
    """R-DPO: the logistic loss of a reward less its length, so that length is not what is learnt.

    -log s(beta d + alpha (|y_w| - |y_l|)), summed over pairs.

    Park et al. 2024, "Disentangling Length from Quality in Direct Preference Optimization",
    arXiv:2403.19159. The policy that is best for a reward less alpha |y| has the reward
    beta log(pi / ref) + alpha |y|: what the length explains need not be learnt, and a longer
    chosen response has the smaller gradient.

    Args:
        pairs: Summed log-probabilities with lengths; soft labels and
            ties mix the loss of the pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.
        alpha: Of the lengths' difference, at least 0; 0.05 and 0.1 in the paper.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        chosen_length_B, rejected_length_B = p.num_tokens()
        explained_B = alpha * (chosen_length_B - rejected_length_B)
        return -logsigmoid(beta * p.delta_B + explained_B)

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


@preference_loss()
def simpo(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 2.0,
    gamma: NonNegative = 1.0,
) -> tuple[Tensor, Metrics]:
    """SimPO: the logistic loss on mean log-probabilities with a target margin, without reference.

    -log s(beta/|y_w| log pi(y_w) - beta/|y_l| log pi(y_l) - gamma), summed over pairs.

    Meng, Xia and Chen 2024, arXiv:2405.14734, eq. 6. A reference that is given is not looked at.

    Args:
        pairs: Summed log-probabilities with lengths; soft labels and
            ties mix the loss of the pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Scale of the rewards, above 0; 2 to 10 in the paper.
        gamma: Margin by which the chosen reward should lead; the authors' code advises to
            start at beta/2.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        chosen_length_B, rejected_length_B = p.num_tokens()
        lead_B = p.chosen_B / chosen_length_B - p.rejected_B / rejected_length_B
        return -logsigmoid(beta * lead_B - gamma)

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


@preference_loss()
def orpo(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: NonNegative = 0.1,
    sft_weight: NonNegative = 1.0,
) -> tuple[Tensor, Metrics]:
    """ORPO: likelihood of the chosen response and odds against the rejected one, without reference.

    -log P(y_w) - beta log s(log odds(y_w) - log odds(y_l)), summed over pairs.

    Hong, Lee and Thorne 2024, arXiv:2403.07691, eqs. 6 and 7: log P(y) is the *mean*
    log-probability of a token (eq. 3) and odds(y) = P/(1 - P) (eq. 4). A reference that is given
    is not looked at.

    TRL's likelihood term is a mean over the tokens of the batch instead, the prompt's
    included: for it set `sft_weight` to 0 and add the loss of `sft`.

    Args:
        pairs: Summed log-probabilities with lengths; raising the chosen one's lowers the
            loss. Soft labels and ties mix the loss of the pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Weight of the odds term, the paper's lambda, at least 0.
        sft_weight: Weight of the likelihood term, 1 in the paper.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        chosen_length_B, rejected_length_B = p.num_tokens()
        chosen_B, rejected_B = p.chosen_B / chosen_length_B, p.rejected_B / rejected_length_B
        odds_B = log_odds(chosen_B) - log_odds(rejected_B)
        return -sft_weight * chosen_B - beta * logsigmoid(odds_B)

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


def log_odds(logp_B: Tensor) -> Tensor:
    """log P/(1 - P) from log P; P is held below 1 - 1e-6, where the odds would be infinite."""
    logp_B = logp_B.clamp(max=-1e-6)
    # log(1 - exp x) keeps its digits by expm1 near 0 and by log1p below -ln 2; the branch
    # not taken gets a harmless input, since its gradient is multiplied by 0, not left out.
    near_B = logp_B > -math.log(2)
    near = torch.log(-torch.expm1(torch.where(near_B, logp_B, -0.5)))
    far = torch.log1p(-torch.exp(torch.where(near_B, -1.0, logp_B)))
    return logp_B - torch.where(near_B, near, far)


def _at_start(win: float, tie: float, tie_share: float) -> float:
    """Of decided and tied pairs together; `tie_share` is the weight of the tied among all."""
    return (1 - tie_share) * win + tie_share * tie


def _davidson_at_start(tie_strength: DavidsonTies, tie_share: float = 0.0, **_: Any) -> float:
    nu = float(tie_strength)
    return _at_start(math.log(2 + 2 * nu), -math.log(nu / (1 + nu)), tie_share)


def _rao_kupper_at_start(tie_strength: RaoKupperTies, tie_share: float = 0.0, **_: Any) -> float:
    nu = float(tie_strength)
    return _at_start(math.log1p(nu), -math.log((nu - 1) / (nu + 1)), tie_share)


@preference_loss(start_value=_davidson_at_start)
def davidson(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    tie_strength: DavidsonTies = 1.0,
    label_smoothing: Smoothing = 0.0,
) -> tuple[Tensor, Metrics]:
    """DPO with ties by the Davidson model of reward.

    -log P(win) of decided pairs and -log P(tie) of tied ones at a lead of beta d, summed.

    Chen et al. 2024, "On Extending Direct Preference Optimization to Accommodate Ties",
    arXiv:2409.17431, DPO-D: the Davidson model in place of Bradley–Terry, so
    P(win) = 1/(1 + exp(-beta d) + 2 nu exp(-beta d/2)). A tied pair draws d towards 0. For P
    see `pairs.davidson_log_probabilities`.

    Args:
        pairs: Summed log-probabilities and `tie_B`; without ties all pairs are decided.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.
        tie_strength: nu, above 0, fixed or a learnable scalar tensor; 1.0 (the paper's)
            ties equal responses half of the time.
        label_smoothing: Probability that a win is flipped, in [0, 0.5).

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """
    pairs = pairs.cleaned()
    loss_B = unlikelihood(
        davidson_log_probabilities(beta * pairs.delta_B, tie_strength),
        soft_label_B=pairs.soft_label_B,
        tie_B=pairs.tie_B,
        label_smoothing=label_smoothing,
    )
    return reduced(loss_B, pairs, normalizer=normalizer, beta=beta)


@preference_loss(start_value=_rao_kupper_at_start)
def rao_kupper(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    tie_strength: RaoKupperTies = 3.0,
    label_smoothing: Smoothing = 0.0,
) -> tuple[Tensor, Metrics]:
    """DPO with ties by the Rao–Kupper model of reward.

    -log P(win) of decided pairs and -log P(tie) of tied ones at a lead of beta d, summed.

    Chen et al. 2024, "On Extending Direct Preference Optimization to Accommodate Ties",
    arXiv:2409.17431, DPO-RK: the Rao–Kupper model in place of Bradley–Terry, so
    P(win) = s(beta d - log nu). A tied pair draws d towards 0. For P see
    `pairs.rao_kupper_log_probabilities`.

    Args:
        pairs: Summed log-probabilities and `tie_B`; without ties all pairs are decided.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.
        tie_strength: nu, above 1, fixed or a learnable scalar tensor; 3.0 (the paper's)
            ties equal responses half of the time.
        label_smoothing: Probability that a win is flipped, in [0, 0.5).

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """
    pairs = pairs.cleaned()
    loss_B = unlikelihood(
        rao_kupper_log_probabilities(beta * pairs.delta_B, tie_strength),
        soft_label_B=pairs.soft_label_B,
        tie_B=pairs.tie_B,
        label_smoothing=label_smoothing,
    )
    return reduced(loss_B, pairs, normalizer=normalizer, beta=beta)


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
