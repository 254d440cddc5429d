"""From per-token log-probabilities to one number a sequence, and the loss of demonstrations.

Shapes: B sequences, T response tokens (padded). `mask_BT` is True where learnt from; what
is masked has no influence and no gradient, whatever stands there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from oversight.train.losses.masked import clean, divide, masked_mean, masked_sum, promote
from oversight.train.losses.metrics import Metrics, mean_of
from oversight.train.losses.options import Share, checked


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
