"""Negative log-likelihood of the tokens learnt from.

Shapes: B sequences, T tokens (padded).
"""

from __future__ import annotations

import torch
from torch import Tensor

from oversight.train.losses.masked import clean, divide, promote
from oversight.train.losses.metrics import Metrics, mean_of


def loss(
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
