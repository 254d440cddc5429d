"""Direct preference losses, on the summed log-probabilities of two responses to one prompt.

With x the prompt, y_w the chosen and y_l the rejected response, c = log pi(y_w|x) - log ref(y_w|x),
r the same of y_l, and d = c - r. beta c and beta r are the implicit rewards.

Without a reference (`ref_chosen_B` None) ref is uniform over responses: its log-probability
is the same number for both and cancels from d; losses that look at c or r alone take it as 0.

Those that count tokens, know ties or sort a step's pairs stand in `preference_extended`.

Shapes: B pairs.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from oversight.train.losses.metrics import Metrics
from oversight.train.losses.options import Positive, Share, Smoothing
from oversight.train.losses.pairs import PairLogps, expected, reduced, target_B
from oversight.train.losses.registered import preference_loss


def _ln_2(**_: Any) -> float:
    return math.log(2)


@preference_loss(start_value=_ln_2)
def sigmoid(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    label_smoothing: Smoothing = 0.0,
) -> tuple[Tensor, Metrics]:
    """DPO: a logistic classifier whose logits are the implicit rewards.

    -[q log s(beta d) + (1 - q) log s(-beta d)], summed over pairs.

    Rafailov et al. 2023, arXiv:2305.18290, eq. 7, for q = 1. Conservative DPO (Mitchell 2023,
    https://ericmitchell.ai/cdpo.pdf, eq. 3) is q = 1 - label_smoothing; soft labels are q itself.
    Without a reference it is the preference part of CPO (Xu et al. 2024, arXiv:2401.08417, eq. 3).

    Args:
        pairs: Summed log-probabilities; raising the chosen one's lowers the loss.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.
        label_smoothing: Probability that a label is flipped, in [0, 0.5).

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """
    return expected(
        lambda p: -logsigmoid(beta * p.delta_B),
        pairs,
        normalizer=normalizer,
        beta=beta,
        label_smoothing=label_smoothing,
    )


@preference_loss(needs_progress=True, start_value=_ln_2)
def confidence(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    progress: float = 1.0,
    beta: Positive = 0.1,
    strength: Share = 0.5,
    warmup: Share = 0.2,
) -> tuple[Tensor, Metrics]:
    """DPO's classifier drawn to the learner's own choice: for labels of a weaker supervisor.

    -[t log s(beta d) + (1 - t) log s(-beta d)] with t = (1 - a) q + a [d > 0], summed over pairs;
    a rises linearly from 0 to `strength` over the first `warmup` of the run.

    Burns et al. 2023, arXiv:2312.09390, section 4.3 and appendix A.4, with a `strength` of 0.5, of
    0.75 for their largest learners, and a `warmup` of 0.2. They split a batch at the threshold
    that calls half of it positive; here it is even odds, as neither response of a pair is the
    positive one.

    Args:
        pairs: Summed log-probabilities; raising the chosen one's lowers the loss.
        normalizer: Global number of pairs.
        progress: Share of the run's steps that are done.
        beta: Factor of the logits, above 0.
        strength: Weight of the learner's own choice, once warm.
        warmup: Share of the run over which it rises; 0: at once.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """
    weight = strength * (min(1.0, progress / warmup) if warmup else 1.0)
    given, metrics = expected(
        lambda p: -logsigmoid(beta * p.delta_B), pairs, normalizer=normalizer, beta=beta
    )
    own_B = (pairs.cleaned().delta_B.detach().sign() + 1) / 2
    drawn, _ = expected(
        lambda p: -logsigmoid(beta * p.delta_B),
        replace(pairs, soft_label_B=own_B, tie_B=None),
        normalizer=normalizer,
        beta=beta,
    )
    return (1 - weight) * given + weight * drawn, metrics


@preference_loss(start_value=_ln_2)
def robust(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    label_smoothing: Smoothing = 0.1,
) -> tuple[Tensor, Metrics]:
    """Robust DPO: a logistic loss whose mean over flipped labels is the loss of the true ones.

    [-(1 - eps) log s(beta d) + eps log s(-beta d)] / (1 - 2 eps), summed over pairs.

    Chowdhury, Kini and Natarajan 2024, "Provably Robust DPO", arXiv:2403.00409, section 3.1.
    Unbounded below: a single pair's loss falls without end as d grows.

    Args:
        pairs: Summed log-probabilities; raising the chosen one's lowers the loss. Soft
            labels and ties mix the loss of the pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.
        label_smoothing: eps, the share of labels that are flipped, in [0, 0.5).

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """
    eps = label_smoothing

    def per_pair(p: PairLogps) -> Tensor:
        logits_B = beta * p.delta_B
        return (-(1 - eps) * logsigmoid(logits_B) + eps * logsigmoid(-logits_B)) / (1 - 2 * eps)

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


@preference_loss(start_value=lambda **_: 1.0)
def hinge(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
) -> tuple[Tensor, Metrics]:
    """Hinge loss on the implicit rewards, as in SLiC.

    max(0, 1 - beta d), summed over pairs.

    Zhao et al. 2023 (SLiC-HF, arXiv:2305.10425), with the ratio to the reference in place of
    the log-probability: the "hinge-norm" loss of Liu et al. 2023 (RSO, arXiv:2309.06657).
    Without a reference it is SLiC's own calibration loss, max(0, m - log pi(y_w) + log pi(y_l)),
    with margin m = 1/beta, times beta.

    Args:
        pairs: Summed log-probabilities; soft labels and ties mix the loss of the
            pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: 1/beta is the margin in log-probability, above 0.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        return (1 - beta * p.delta_B).relu()

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


@preference_loss(start_value=lambda beta, **_: 1 / (4 * beta**2))
def ipo(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    trl_mean: bool = False,
) -> tuple[Tensor, Metrics]:
    """IPO: the log-ratio towards a fixed margin, so that sure labels do not drive it to infinity.

    (d - 1/(2 beta))^2, summed over pairs.

    Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from Human
    Preferences", arXiv:2310.12036, eq. 17, with tau = beta and d of whole responses, as the
    paper writes it.

    Args:
        pairs: Summed log-probabilities; soft labels and ties mix the loss of the pair and of
            the swapped pair, which is the paper's loss for sampled preferences.
        normalizer: Global number of pairs.
        beta: tau, above 0: 1/(2 beta) is the margin in log-probability.
        trl_mean: TRL's form: c and r are divided by the lengths of their responses, so the
            margin is one a token. TRL has it from the paper's authors that their results are
            of this form. Needs the lengths, and another beta.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        delta_B = p.delta_B
        if trl_mean:
            chosen_length_B, rejected_length_B = p.num_tokens()
            delta_B = p.chosen_ratio_B / chosen_length_B - p.rejected_ratio_B / rejected_length_B
        return (delta_B - 1 / (2 * beta)).square()

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


def _exo_at_start(label_smoothing: float, **_: Any) -> float:
    """-ln 2 - 1/2 ln(eps (1 - eps)), for hard labels."""
    return -math.log(2) - (math.log(label_smoothing) + math.log1p(-label_smoothing)) / 2


@preference_loss(start_value=_exo_at_start)
def exo_pair(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    label_smoothing: Annotated[float, Field(gt=0, lt=0.5)] = 1e-3,
) -> tuple[Tensor, Metrics]:
    """EXO: the reverse KL divergence from the label's distribution over two responses.

    p log(p/q) + (1 - p) log((1 - p)/(1 - q)), p = s(beta d), summed over pairs.

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


@preference_loss(start_value=lambda **_: 2 * math.log(2))
def nca_pair(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
) -> tuple[Tensor, Metrics]:
    """NCA: noise-contrastive alignment of two responses: holds up the chosen one's likelihood.

    -log s(beta c) - 1/2 log s(-beta c) - 1/2 log s(-beta r), summed over pairs.

    Chen et al. 2024, "Noise Contrastive Alignment of Language Models with Explicit Rewards",
    arXiv:2402.05369, the pairwise case of NCA (K = 2, a reward temperature of 0).

    Args:
        pairs: Summed log-probabilities; soft labels and ties mix the loss of the
            pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        chosen_B, rejected_B = beta * p.chosen_ratio_B, beta * p.rejected_ratio_B
        pull_B = -logsigmoid(chosen_B)
        return pull_B - (logsigmoid(-chosen_B) + logsigmoid(-rejected_B)) / 2

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


@preference_loss(start_value=lambda shift, **_: math.log1p(math.exp(-abs(shift))) * 2 + abs(shift))
def bco_pair(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    shift: float = 0.0,
) -> tuple[Tensor, Metrics]:
    """BCO: a binary classifier of chosen and rejected around a shifted zero.

    -log s(beta c - shift) - log s(-(beta r - shift)), summed over pairs.

    Jung et al. 2024, "Binary Classifier Optimization", arXiv:2404.04656, on pairs. The paper's
    shift is the running mean of all rewards, E[beta c + beta r]/2; `shift` gives it as a number,
    0 (TRL's form) by default.

    Args:
        pairs: Summed log-probabilities; soft labels and ties mix the loss of the
            pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.
        shift: Reward of a response that is as likely chosen as rejected.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        chosen_B, rejected_B = beta * p.chosen_ratio_B - shift, beta * p.rejected_ratio_B - shift
        return -logsigmoid(chosen_B) - logsigmoid(-rejected_B)

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


@preference_loss(start_value=lambda beta, **_: 1 / (2 * beta**2))
def sppo_hard(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
) -> tuple[Tensor, Metrics]:
    """SPPO: each response's log-ratio towards its win rate, here 1 and 0.

    (c - 1/(2 beta))^2 + (r + 1/(2 beta))^2, summed over pairs.

    Wu et al. 2024, "Self-Play Preference Optimization", arXiv:2405.00675, eq. 4.7 with
    eta = 1/beta and a win probability of 1 for the chosen, 0 for the rejected. The reference is
    the policy of the last iteration.

    Args:
        pairs: Summed log-probabilities; soft labels and ties mix the loss of the
            pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: 1/eta, above 0.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        goal = 1 / (2 * beta)
        return (p.chosen_ratio_B - goal).square() + (p.rejected_ratio_B + goal).square()

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


@preference_loss(start_value=lambda **_: 1.0)
def apo_zero(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
) -> tuple[Tensor, Metrics]:
    """APO-zero: the chosen response up, the rejected one down, each for itself.

    1 - s(beta c) + s(beta r), summed over pairs.

    D'Oosterlinck et al. 2024, "Anchored Preference Optimization", arXiv:2408.06266, eq. 7: for
    data better than what the model writes.

    Args:
        pairs: Summed log-probabilities; soft labels and ties mix the loss of the
            pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        return 1 - torch.sigmoid(beta * p.chosen_ratio_B) + torch.sigmoid(beta * p.rejected_ratio_B)

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


@preference_loss(start_value=lambda **_: 1.0)
def apo_down(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
) -> tuple[Tensor, Metrics]:
    """APO-down: both responses down, the rejected one further.

    s(beta c) + 1 - s(beta d), summed over pairs.

    D'Oosterlinck et al. 2024, "Anchored Preference Optimization", arXiv:2408.06266, eq. 8: for
    data worse than what the model writes. Raising the chosen log-probability alone need not
    lower the loss: at the start its two terms cancel. Lowering the rejected one always does.

    Args:
        pairs: Summed log-probabilities; soft labels and ties mix the loss of the
            pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        return torch.sigmoid(beta * p.chosen_ratio_B) + 1 - torch.sigmoid(beta * p.delta_B)

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)


@preference_loss(start_value=lambda **_: (1 + math.log(2)) / 2)
def discopop(
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    tau: Annotated[float, Field(gt=0, le=1)] = 0.05,
) -> tuple[Tensor, Metrics]:
    """DiscoPOP: logistic and exponential loss, mixed by the log-ratio itself.

    (1 - m) softplus(-beta d) + m exp(-beta d), m = s(beta d / tau), summed over pairs.

    Lu et al. 2024, "Discovering Preference Optimization Algorithms with and for Large Language
    Models", arXiv:2406.08414, eq. 5 (log-ratio modulated loss). Found by search; not monotone: it
    rises with d around d = 0, where training starts, and falls on both sides of that bump.

    Args:
        pairs: Summed log-probabilities; soft labels and ties mix the loss of the
            pair and of the swapped pair.
        normalizer: Global number of pairs.
        beta: Strength of the hold to the reference, above 0.
        tau: Temperature of the mixing, in (0, 1]; 0.05 in the paper.

    Returns:
        The loss and the metrics of `pairs.reduced`.
    """

    def per_pair(p: PairLogps) -> Tensor:
        logits_B = beta * p.delta_B
        logistic_B = torch.sigmoid(-logits_B / tau) * -logsigmoid(logits_B)
        # exp and the gate in one exponent: apart, one overflows where the other vanishes.
        return logistic_B + torch.exp(-logits_B + logsigmoid(logits_B / tau))

    return expected(per_pair, pairs, normalizer=normalizer, beta=beta)
