"""Generalised advantage estimation over the tokens of responses.

Shapes: B sequences, T response tokens (padded).
"""

from __future__ import annotations

import torch
from torch import Tensor

from oversight.train.losses import require
from oversight.train.losses.advantages.grouping import checked
from oversight.train.losses.masked import clean


def advantages(
    rewards_BT: Tensor,
    values_BT: Tensor,
    mask_BT: Tensor,
    *,
    gamma: float = 1.0,
    lam: float = 0.95,
    bootstrap_B: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """A_t = sum_k (gamma lam)^k delta_(t+k) and the returns A_t + V_t; both BT, 0 where masked.

    Schulman et al. 2016, arXiv:1506.02438, eq. 16, with delta_t = r_t + gamma V_(t+1) - V_t. Time
    is counted in unmasked tokens: what was given between two turns of the policy takes no step,
    and a reward or value there is not looked at. Not whitened: see `masked.whiten`.

    Args:
        rewards_BT: Reward of each action.
        values_BT: V_t, the value before token t.
        mask_BT: True where the policy acted.
        gamma: Discount a token, in [0, 1].
        lam: In [0, 1]: 0 is one step of the critic, 1 the return less the value.
        bootstrap_B: The value after the last token, of a response that was cut short; 0 of
            one that ended. None where all ended.

    Returns:
        Advantages and returns, without gradient.

    Raises:
        DataError: An unmasked reward is NaN or infinite.
    """
    require(0 <= gamma <= 1, "gamma", gamma, "a number in [0, 1]")
    require(0 <= lam <= 1, "lam", lam, "a number in [0, 1]")
    rewards_BT = checked(clean(rewards_BT, mask_BT))
    values_BT = clean(values_BT.detach(), mask_BT)
    next_B = values_BT.new_zeros(len(values_BT))
    if bootstrap_B is not None:
        next_B = bootstrap_B.detach().to(values_BT)
    carried_B = torch.zeros_like(next_B)
    out_BT = torch.zeros_like(values_BT)
    for t in range(values_BT.shape[1] - 1, -1, -1):
        acted_B = mask_BT[:, t]
        delta_B = rewards_BT[:, t] + gamma * next_B - values_BT[:, t]
        carried_B = torch.where(acted_B, delta_B + gamma * lam * carried_B, carried_B)
        next_B = torch.where(acted_B, values_BT[:, t], next_B)
        out_BT[:, t] = carried_B
    out_BT = clean(out_BT, mask_BT)
    return out_BT, out_BT + values_BT
