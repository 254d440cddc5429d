"""Single responses: one number for each, and losses that compare them with no other.

Demonstrations are learnt from as they are, labelled responses by whether they were called good or
bad: with u = log pi(y|x) - log ref(y|x).

Shapes: B responses, T response tokens (padded). `mask_BT` is True where learnt from; what
is masked has no influence and no gradient, whatever stands there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from oversight.train.losses.metrics import (
    Mean,
    Metrics,
    clean,
    divide,
    drop_rows,
    masked_mean,
    masked_sum,
    mean_of,
    promote,
    weighted_sum,
)
from oversight.train.losses.options import NonNegative, Positive, Share, checked
from oversight.train.losses.registered import unpaired_loss


def sequence_sum(logps_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The log-probability of each response, log pi(y|x) = sum_t log pi(y_t|x, y_<t); shape B."""
    return masked_sum(logps_BT, mask_BT, dim=1)


def sequence_mean(logps_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """The mean log-probability of a token of each response; 0 for one without tokens."""
    return masked_mean(logps_BT, mask_BT, dim=1)


def lengths(mask_BT: Tensor) -> Tensor:
    """Tokens learnt from in each response, as float; shape B."""
    return mask_BT.sum(1).float()


@checked
def length_desensitized_sum(
    logps_BT: Tensor, mask_BT: Tensor, other_length_B: Tensor, *, alpha: Share
) -> Tensor:
    """Sequence log-probabilities in which tokens beyond the other response's length count `alpha`.

    LD-DPO (Liu et al. 2024, "Length Desensitization in Direct Preference Optimization",
    arXiv:2409.06411): with l the length of the shorter response of a pair,
    log pi'(y|x) = sum_{t<=l} log pi(y_t) + alpha sum_{t>l} log pi(y_t).
    Use it for policy and reference alike, then any preference loss.

    Args:
        logps_BT: Log-probabilities of tokens.
        mask_BT: True where learnt from; lengths count these tokens only.
        other_length_B: Length of the other response of each pair.
        alpha: In [0, 1]: 1 is the plain sum, 0 ignores the longer one's rest.

    Returns:
        Shape B.
    """
    place_BT = mask_BT.cumsum(1)
    shared_BT = mask_BT & (place_BT <= other_length_B[:, None])
    tail_BT = mask_BT & ~shared_BT
    return masked_sum(logps_BT, shared_BT, 1) + alpha * masked_sum(logps_BT, tail_BT, 1)


def wpo_weight(
    logps_BT: Tensor, mask_BT: Tensor, log_sum_sq_probs_BT: Tensor | None = None
) -> Tensor:
    """The likelihood of each response under the policy, in (0, 1], detached: WPO's weight.

    WPO (Zhou et al. 2024, arXiv:2406.11827, eq. 2) with its sampled alignment:
    w(x, y) = exp( 1/|y| sum_t [log pi(y_t) - log sum_v pi(v)^2] ). A pair's weight is the
    product of its responses'. Without `log_sum_sq_probs_BT` the alignment is left out and
    the weight is the geometric mean of the tokens' probabilities.

    Args:
        logps_BT: Log-probabilities of tokens under the policy.
        mask_BT: True where learnt from.
        log_sum_sq_probs_BT: log sum_v pi(v|x, y_<t)^2 at each place.

    Returns:
        Shape B; 1 for a response without tokens. Aligned weights may exceed 1.
    """
    aligned_BT = logps_BT.detach()
    if log_sum_sq_probs_BT is not None:
        aligned_BT = aligned_BT - log_sum_sq_probs_BT.detach()
    return torch.exp(sequence_mean(aligned_BT, mask_BT))


def sft_loss(
    logps_BT: Tensor,
    mask_BT: Tensor,
    *,
    normalizer: float | Tensor,
    weight_B: Tensor | None = None,
    per_sequence: bool = False,
) -> tuple[Tensor, Metrics]:
    """The summed -log pi(y_t) of unmasked tokens by the normalizer; lower is likelier.

    The cross-entropy of language models; on demonstrations the first step of Ouyang et al. 2022,
    arXiv:2203.02155, section 3.5.

    Args:
        logps_BT: Log-probabilities of the tokens.
        mask_BT: True where learnt from; nothing else counts, in sum or length.
        normalizer: Global number of tokens learnt from (of their weights, if weighted);
            with `per_sequence`, of sequences.
        weight_B: Factor of each row; a row of weight 0 has no influence.
        per_sequence: Each sequence counts the same: its mean over tokens is summed.

    Returns:
        The loss and `nll` (over tokens, unweighted; its exponential is the perplexity).
    """
    kept_BT = mask_BT if weight_B is None else mask_BT & (weight_B != 0)[:, None]
    nll_BT = -clean(logps_BT, kept_BT)
    rows_B = nll_BT.sum(1)
    if per_sequence:
        rows_B = rows_B / mask_BT.sum(1).clamp(min=1)
    if weight_B is not None:
        rows_B = rows_B * promote(weight_B).to(rows_B.dtype)
    with torch.no_grad():
        metrics: Metrics = {"nll": mean_of(nll_BT, kept_BT)}
    return divide(rows_B.sum(), normalizer), metrics


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


def _at_start(**options: Any) -> float | None:
    """1/2 where both weights are 1 and no divergence is given (it is 0 at the start)."""
    plain = options["desirable_weight"] == options["undesirable_weight"] == 1
    return 0.5 if plain and float(options.get("kl", 0.0)) == 0 else None


@unpaired_loss(needs_kl=True, start_value=_at_start)
def kto(
    rows: UnpairedLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    kl: NonNegative | Tensor = 0.0,
    desirable_weight: NonNegative = 1.0,
    undesirable_weight: NonNegative = 1.0,
) -> tuple[Tensor, Metrics]:
    """KTO: prospect theory's value of a response against the policy's usual gain.

    lambda_D (1 - s(beta (u - z))) if good, lambda_U (1 - s(beta (z - u))) if bad, summed.

    Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization",
    arXiv:2402.01306, eq. 8 (eq. 7 in early versions), with z = `kl` the estimate of
    KL(pi || ref), through which no gradient flows.

    Args:
        rows: Summed log-probabilities; raising a good one's lowers the loss, raising a bad
            one's raises it.
        normalizer: Global number of responses.
        beta: Strength of risk aversion and of the hold to the reference, above 0.
        kl: z, at least 0; see `baseline`.
        desirable_weight: lambda_D. The paper keeps lambda_D n_good / (lambda_U n_bad)
            between 1 and 3/2 (eq. 9; between 1 and 4/3 in early versions).
        undesirable_weight: lambda_U.

    Returns:
        The loss and `loss`, `reward_desirable`, `reward_undesirable`, `kl`.
    """
    lead_B = beta * (rows.ratio_B - torch.as_tensor(kl).detach().to(rows.ratio_B))
    total, metrics = reduced(
        torch.sigmoid(-lead_B),
        torch.sigmoid(lead_B),
        rows,
        normalizer=normalizer,
        beta=beta,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
    )
    metrics["kl"] = mean_of(torch.as_tensor(kl).to(lead_B).reshape(1))
    return total, metrics


@unpaired_loss(start_value=_at_start)
def apo_zero_unpaired(
    rows: UnpairedLogps,
    *,
    normalizer: float | Tensor,
    beta: Positive = 0.1,
    desirable_weight: NonNegative = 1.0,
    undesirable_weight: NonNegative = 1.0,
) -> tuple[Tensor, Metrics]:
    """APO-zero on single responses: good ones up, bad ones down, each for itself.

    lambda_D (1 - s(beta u)) if good, lambda_U s(beta u) if bad, summed.

    The two terms of D'Oosterlinck et al. 2024, arXiv:2408.06266, eq. 7, on responses of
    different prompts; KTO with z = 0.

    Args:
        rows: Summed log-probabilities; raising a good one's lowers the loss.
        normalizer: Global number of responses.
        beta: Strength of the hold to the reference, above 0.
        desirable_weight: lambda_D.
        undesirable_weight: lambda_U.

    Returns:
        The loss and `loss`, `reward_desirable`, `reward_undesirable`.
    """
    gain_B = beta * rows.ratio_B
    return reduced(
        torch.sigmoid(-gain_B),
        torch.sigmoid(gain_B),
        rows,
        normalizer=normalizer,
        beta=beta,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
    )


def shifted_kl(shifted_logps_B: Tensor, ref_shifted_logps_B: Tensor) -> Mean:
    """The log-ratios of mismatched pairs, as a total and a count to merge over the whole step.

    The paper's estimate of the KL divergence: the log-ratios of each prompt of the batch with
    *another* prompt's response, y_(i+1) after x_i. Cheap and biased: those responses are no
    samples of the policy. Both without gradient.
    """
    return mean_of(promote(shifted_logps_B.detach()) - promote(ref_shifted_logps_B.detach()))


def baseline(merged: Mean) -> float:
    """z from the merged log-ratios: their mean, or 0 where that is negative."""
    return max(0.0, merged.value())
