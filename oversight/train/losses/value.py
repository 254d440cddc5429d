"""Rewards of tokens and values: what PPO's critic learns, and what its advantages are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor

from oversight.train.losses.advantages import finite
from oversight.train.losses.metrics import Mean, Metrics, Peak, clean, divide, mean_of, promote
from oversight.train.losses.options import NonNegative, Positive, check, checked, require


def token_rewards(score_B: Tensor, mask_BT: Tensor, *, penalty_BT: Tensor | None = None) -> Tensor:
    """The score at the last unmasked token and, at each, the KL penalty; shape BT.

    Ziegler et al. 2019, arXiv:1909.08593, eq. 2; Ouyang et al. 2022, arXiv:2203.02155, eq. 2, by
    the token. The last unmasked token is the EOS of a response that ended by itself. The pad
    id plays no part. A row without an unmasked token has no reward.

    Args:
        score_B: Of whole responses.
        mask_BT: True where learnt from.
        penalty_BT: From `kl.kl_in_reward` (negative where the policy has moved away); None
            for none.

    Raises:
        DataError: A score is NaN or infinite.
    """
    score_B = finite(score_B)
    places_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    last_B = torch.where(mask_BT, places_T, -1).amax(1)
    rewards_BT = torch.where(places_T == last_B[:, None], score_B[:, None], 0.0)
    return rewards_BT if penalty_BT is None else rewards_BT + clean(penalty_BT.detach(), mask_BT)


@checked
def missing_eos(score_B: Tensor, ended_B: Tensor, *, penalty: NonNegative) -> Tensor:
    """Scores, less `penalty` where a response did not end by itself; shape B.

    TRL's `missing_eos_penalty`; of no paper.

    Args:
        score_B: Of whole responses.
        ended_B: True where the response holds its EOS.
        penalty: At least 0.
    """
    return torch.where(ended_B, promote(score_B), promote(score_B) - penalty)


def overlong_penalty(length_B: Tensor, *, max_length: int, cache: int) -> Tensor:
    """0 for short responses, falling to -1 over the last `cache` tokens; shape B, to be added.

    DAPO (Yu et al. 2025, arXiv:2503.14476, eq. 13): 0 up to max_length - cache, then
    ((max_length - cache) - length)/cache, and -1 beyond max_length.

    Args:
        length_B: Tokens of each response.
        max_length: L_max.
        cache: L_cache, in [1, max_length].
    """
    require(1 <= cache <= max_length, "cache", cache, f"an integer in [1, {max_length}]")
    return ((max_length - cache - length_B.float()) / cache).clamp(-1.0, 0.0)


@dataclass(slots=True)
class RunningScale:
    """Rewards in units of their running standard deviation, and clipped.

    Engstrom et al. 2020, "Implementation Matters in Deep Policy Gradients", arXiv:2005.12729,
    divide by the deviation of a rolling discounted sum of rewards; here a response has one reward.
    Not centred, since the sign of a reward means something. Mean and variance are exact over all
    rewards seen (Chan et al. 1983), kept in float64.
    """

    clip: Positive | None = None
    """Scaled rewards are held to [-clip, clip]; None for no bound."""
    count: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared deviations from the mean."""

    def __post_init__(self) -> None:
        check(RunningScale, {"clip": self.clip})

    @property
    def std(self) -> float:
        """Standard deviation of all rewards seen (by n); 1 before any differ."""
        variance = self.squares / self.count if self.count else 0.0
        return variance**0.5 if variance > (1e-6 * self.mean) ** 2 else 1.0

    def update(self, rewards_B: Tensor) -> None:
        """Take in a batch of rewards, all ranks' together.

        Raises:
            DataError: A reward is NaN or infinite.
        """
        rewards = finite(rewards_B).cpu().double()
        if not rewards.numel():
            return
        num, mean = float(rewards.numel()), float(rewards.mean())
        gap, total = mean - self.mean, self.count + num
        squares = float((rewards - mean).square().sum())
        self.squares += squares + gap**2 * self.count * num / total
        self.mean += gap * num / total
        self.count = total

    def scale(self, rewards_B: Tensor) -> Tensor:
        """The rewards by the standard deviation so far, clipped; update first."""
        scaled_B = promote(rewards_B) / self.std
        return scaled_B if self.clip is None else scaled_B.clamp(-self.clip, self.clip)

    def to_json(self) -> dict[str, Any]:
        """The state, JSON-plain."""
        return asdict(self)

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """A scale that goes on from `state`."""
        return cls(**state)


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
        returns_BT: The targets of the values.
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
