"""The critic's loss, with the clipping of PPO.

Shapes: B sequences, T response tokens (padded).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from oversight.train.losses.masked import clean, divide
from oversight.train.losses.metrics import Mean, Metrics, Peak, mean_of
from oversight.train.losses.options import Positive, checked


@checked
def loss(
    values_BT: Tensor,
    old_values_BT: Tensor,
    returns_BT: Tensor,
    mask_BT: Tensor,
    *,
    normalizer: float | Tensor,
    clip: Positive | None = 0.2,
) -> tuple[Tensor, Metrics]:
    """1/2 max((V - R)^2, (V_clipped - R)^2), summed over unmasked tokens by the normalizer.

    V_clipped is V held to [V_old - clip, V_old + clip]: the value clipping of the code that
    came with Schulman et al. 2017, arXiv:1707.06347 (their paper has the plain square, eq. 9; see
    Engstrom et al. 2020, arXiv:2005.12729). Where the clipped term is the larger one there is no
    gradient.

    Args:
        values_BT: The critic's values, with gradient.
        old_values_BT: Its values when the tokens were sampled.
        returns_BT: What it should say.
        mask_BT: True where learnt from.
        normalizer: Global number of tokens.
        clip: Above 0; None for the plain square.

    Returns:
        The loss and `value/loss`, `value/clipped` (share where the clipped term counts) and
        the means `value/mean`, `value/return`, `value/return_squared`, `value/error`,
        `value/error_squared`, from which comes `explained_variance`.
    """
    values_BT, returns_BT = clean(values_BT, mask_BT), clean(returns_BT, mask_BT).detach()
    square_BT = (values_BT - returns_BT).square()
    loss_BT, clipped_BT = square_BT, torch.zeros_like(mask_BT)
    if clip is not None:
        old_BT = clean(old_values_BT, mask_BT).detach()
        held_BT = old_BT + (values_BT - old_BT).clamp(-clip, clip)
        held_square_BT = (held_BT - returns_BT).square()
        clipped_BT = held_square_BT > square_BT
        loss_BT = torch.maximum(square_BT, held_square_BT)
    with torch.no_grad():
        metrics: Metrics = {
            "value/loss": mean_of(loss_BT / 2, mask_BT),
            "value/clipped": mean_of(clipped_BT, mask_BT),
            "value/mean": mean_of(values_BT, mask_BT),
            "value/return": mean_of(returns_BT, mask_BT),
            "value/return_squared": mean_of(returns_BT.square(), mask_BT),
            "value/error": mean_of(returns_BT - values_BT, mask_BT),
            "value/error_squared": mean_of(square_BT, mask_BT),
        }
    return divide(clean(loss_BT, mask_BT).sum() / 2, normalizer), metrics


def explained_variance(metrics: Mapping[str, Mean | Peak]) -> float:
    """1 - Var(R - V)/Var(R) from the merged metrics: 1 is perfect, 0 no better than a constant."""

    def variance(name: str) -> float:
        return metrics[f"value/{name}_squared"].value() - metrics[f"value/{name}"].value() ** 2

    total = variance("return")
    return 1 - variance("error") / total if total > 0 else 0.0
