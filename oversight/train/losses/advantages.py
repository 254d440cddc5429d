"""From rewards, shaped and by the token, to advantages.

Nothing here has a gradient; all is float32 or more.

Rewards that are not finite are refused: one NaN would silently become the advantage of a whole
group or batch. "Batch" is what one call is given: gather rewards over ranks first.

Shapes: B rewards or responses, T response tokens (padded), N groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from oversight.errors import DataError
from oversight.train.losses.metrics import Metrics, clean, mean_of, promote, whiten
from oversight.train.losses.options import NonNegative, Positive, check, checked, require
from oversight.train.losses.registered import AdvantageScale


def finite(rewards_B: Tensor) -> Tensor:
    """`rewards_B` in at least float32, without gradient.

    Raises:
        DataError: One is NaN or infinite.
    """
    rewards_B = promote(rewards_B.detach())
    bad = ~rewards_B.isfinite()
    if bad.any():
        place = [int(i) for i in bad.nonzero()[0]]
        raise DataError(
            f"reward {place if len(place) > 1 else place[0]} of the batch is "
            f"{float(rewards_B[bad][0])!r}: rewards must be finite; leave the response out"
        )
    return rewards_B


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


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Rewards by group, each statistic given back to every member."""

    rewards_B: Tensor
    place_B: Tensor
    """0 ... N-1: the group of each reward."""
    count_B: Tensor
    mean_B: Tensor
    constant_B: Tensor
    """True where all rewards of the group are equal but for rounding, or it is alone."""

    @classmethod
    def of(cls, rewards_B: Tensor, groups_B: Tensor, tolerance: float) -> Groups:
        """The groups of equal `groups_B`; `tolerance` is relative to a group's largest reward."""
        rewards_B = finite(rewards_B)
        _, place_B = torch.unique(groups_B, return_inverse=True)
        num = int(place_B.max()) + 1 if place_B.numel() else 0
        zeros_N = rewards_B.new_zeros(num)
        count_B = zeros_N.index_add(0, place_B, torch.ones_like(rewards_B))[place_B]
        mean_B = zeros_N.index_add(0, place_B, rewards_B)[place_B] / count_B
        top_B = _extreme(zeros_N, place_B, rewards_B, "amax")
        bottom_B = _extreme(zeros_N, place_B, rewards_B, "amin")
        size_B = torch.maximum(top_B.abs(), bottom_B.abs())
        constant_B = (count_B == 1) | (top_B - bottom_B <= tolerance * size_B)
        return cls(rewards_B, place_B, count_B, mean_B, constant_B)

    def deviations(self) -> Tensor:
        """Reward less the group's mean; exactly 0 in constant groups."""
        return torch.where(self.constant_B, 0.0, self.rewards_B - self.mean_B)

    def std_B(self, correction: int) -> Tensor:
        """Standard deviation of each group by its size less `correction`."""
        squares_B = self.deviations().square()
        sums_N = squares_B.new_zeros(int(self.place_B.max()) + 1 if squares_B.numel() else 0)
        sums_B = sums_N.index_add(0, self.place_B, squares_B)[self.place_B]
        return (sums_B / (self.count_B - correction).clamp(min=1)).sqrt()


def _extreme(zeros_N: Tensor, place_B: Tensor, rewards_B: Tensor, which: str) -> Tensor:
    return zeros_N.scatter_reduce(0, place_B, rewards_B, which, include_self=False)[place_B]


TOLERANCE = 1e-6
"""Rewards of a group that differ by less than this share of the largest are equal."""


def group(
    rewards_B: Tensor,
    groups_B: Tensor,
    *,
    scale: AdvantageScale = "group",
    correction: int = 1,
    eps: float = 0.0,
    tolerance: float = TOLERANCE,
) -> tuple[Tensor, Metrics]:
    """GRPO's advantages: rewards against the mean of their group, in units of its spread.

    (r - mean of its group) / std; shape B.

    Shao et al. 2024 (DeepSeekMath), arXiv:2402.03300, section 4.1.2. A constant group has
    advantage exactly 0, also where summing its equal rewards left a residue, and so has a group
    of one.

    Args:
        rewards_B: One a response.
        groups_B: Integers: responses of one number are one group, of any size.
        scale: "group": by the group's standard deviation. "none": not at all (Dr. GRPO, Liu
            et al. 2025, arXiv:2503.20783, section 3.2). "batch": by the standard deviation of
            all rewards given (arXiv:2508.08221).
        correction: 1 divides by G - 1 (sample; torch's default and TRL's), 0 by G. The paper
            does not say.
        eps: Added to the standard deviation: 0 in the paper, 1e-4 in TRL.
        tolerance: See `TOLERANCE`.

    Returns:
        The advantages and `reward`, `reward_std` (of groups) and `no_signal` (share of
        responses in constant groups).

    Raises:
        DataError: A reward is NaN or infinite.
    """
    require(scale in ("group", "batch", "none"), "scale", scale, "group, batch or none")
    groups = Groups.of(rewards_B, groups_B, tolerance)
    deviations_B, std_B = groups.deviations(), groups.std_B(correction)
    metrics: Metrics = {
        "reward": mean_of(groups.rewards_B),
        "reward_std": mean_of(std_B),
        "no_signal": mean_of(groups.constant_B),
    }
    if scale == "none":
        return deviations_B, metrics
    if scale == "batch":
        std_B = _batch_std(groups.rewards_B, correction)
    return torch.where(deviations_B == 0, 0.0, deviations_B / (std_B + eps)), metrics


def informative(rewards_B: Tensor, groups_B: Tensor, *, tolerance: float = TOLERANCE) -> Tensor:
    """True for responses of groups whose rewards differ: those that dynamic sampling keeps.

    DAPO (Yu et al. 2025, arXiv:2503.14476, eq. 11): groups that are all right or all wrong have
    no advantage; they are left out and others sampled in their place until the batch is full.

    Returns:
        Bool, shape B: the same for all responses of a group.
    """
    return ~Groups.of(finite(rewards_B), groups_B, tolerance).constant_B


def _batch_std(rewards_B: Tensor, correction: int) -> Tensor:
    squares = (rewards_B - rewards_B.mean()).square().sum()
    return (squares / max(rewards_B.numel() - correction, 1)).sqrt().expand_as(rewards_B)


def rloo(
    rewards_B: Tensor, groups_B: Tensor, *, tolerance: float = TOLERANCE
) -> tuple[Tensor, Metrics]:
    """RLOO's advantages: each reward against the mean of the others of its group.

    r_i - 1/(G-1) sum_{j != i} r_j; shape B.

    Kool et al. 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!"; Ahmadian et al. 2024,
    "Back to Basics", arXiv:2402.14740, section 2.3. A constant group and a group of one have
    advantage exactly 0.

    Args:
        rewards_B: One a response; for the paper, less the KL divergence of the response.
        groups_B: Integers: responses of one number are one group, of any size.
        tolerance: Rewards that differ by less than this share of the largest are equal.

    Returns:
        The advantages and `reward`, `no_signal` (share of responses in constant groups).

    Raises:
        DataError: A reward is NaN or infinite.
    """
    groups = Groups.of(rewards_B, groups_B, tolerance)
    others_B = (groups.count_B - 1).clamp(min=1)
    # r_i less the mean of the others is (r_i - mean of all) G/(G - 1).
    advantages_B = groups.deviations() * groups.count_B / others_B
    metrics: Metrics = {
        "reward": mean_of(groups.rewards_B),
        "no_signal": mean_of(groups.constant_B),
    }
    return torch.where(groups.constant_B, 0.0, advantages_B), metrics


def reinforce_plus_plus(
    rewards_BT: Tensor, mask_BT: Tensor, *, gamma: float = 1.0, correction: int = 0
) -> tuple[Tensor, Metrics]:
    """REINFORCE++: returns normalised over the whole batch, with or without a group baseline.

    (return to go - mean) / std, over all unmasked tokens of the batch; shape BT.

    Hu et al. 2025, "REINFORCE++: Stabilizing Critic-Free Policy Optimization with Global Advantage
    Normalization", arXiv:2501.03262, eq. 10 of version 2. The return to go of a token is the
    (discounted) sum of rewards from it on: the score of the response less the KL penalties to come
    (eqs. 8 and 9), with `rewards.token_rewards`.

    Args:
        rewards_BT: Rewards of tokens.
        mask_BT: True where learnt from; other tokens take no step of time.
        gamma: Discount a token.
        correction: 0 divides by the number of tokens, 1 by one less.

    Returns:
        The advantages and `return` (mean over tokens, before normalising).

    Raises:
        DataError: An unmasked reward is NaN or infinite.
    """
    rewards_BT = finite(clean(rewards_BT, mask_BT))
    running_B = rewards_BT.new_zeros(len(rewards_BT))
    returns_BT = torch.zeros_like(rewards_BT)
    for t in range(rewards_BT.shape[1] - 1, -1, -1):
        running_B = torch.where(mask_BT[:, t], rewards_BT[:, t] + gamma * running_B, running_B)
        returns_BT[:, t] = running_B
    metrics: Metrics = {"return": mean_of(returns_BT, mask_BT)}
    return whiten(returns_BT, mask_BT, correction=correction), metrics


def reinforce_plus_plus_baseline(
    rewards_B: Tensor,
    groups_B: Tensor,
    *,
    correction: int = 0,
    tolerance: float = TOLERANCE,
) -> tuple[Tensor, Metrics]:
    """(r - mean of its group), normalised over the batch; shape B: the variant with a baseline.

    Hu et al. 2025, arXiv:2501.03262, appendix A. Constant groups have a deviation of 0
    and count in the batch's mean and spread.

    Args:
        rewards_B: One a response.
        groups_B: Integers: responses of one number are one group, of any size.
        correction: 0 divides by B, 1 by B - 1.
        tolerance: Rewards that differ by less than this share of the largest are equal.

    Returns:
        The advantages and `reward`, `no_signal`.

    Raises:
        DataError: A reward is NaN or infinite.
    """
    groups = Groups.of(rewards_B, groups_B, tolerance)
    deviations_B = groups.deviations()
    metrics: Metrics = {
        "reward": mean_of(groups.rewards_B),
        "no_signal": mean_of(groups.constant_B),
    }
    everything_B = torch.ones_like(deviations_B, dtype=torch.bool)
    # Deviations of groups sum to 0: whitening has no mean to take away but rounding.
    return whiten(deviations_B, everything_B, correction=correction), metrics


@dataclass(slots=True)
class RoleBaseline:
    """An exponential moving average of each role's reward, for games between copies of a policy.

    In a zero-sum game the rewards of both sides of one transcript sum to 0, and a group of
    transcripts of one prompt mixes won and lost seats: the group's mean says nothing of how hard a
    seat is. A mean for each seat does.

    SPIRAL (Liu et al. 2025, arXiv:2506.24119), role-conditioned advantage estimation:
    b = alpha b + (1 - alpha) r, then A = r - b. SPIRAL's own code subtracts the b from before r:
    alpha times that is this A. Keep its state with the checkpoint; on several ranks update each
    copy with all ranks' rewards in one order.
    """

    decay: float = 0.95
    """alpha, in [0, 1)."""
    start_at_first: bool = False
    """A role's baseline starts at its first reward; in the paper at 0."""
    means: dict[str, float] = field(default_factory=dict)
    """The baseline of each role seen."""

    def __post_init__(self) -> None:
        require(0 <= self.decay < 1, "decay", self.decay, "a number in [0, 1)")

    def update(self, role: str, reward: float) -> float:
        """The role's baseline once `reward` is in it."""
        before = self.means.get(role, reward if self.start_at_first else 0.0)
        self.means[role] = self.decay * before + (1 - self.decay) * reward
        return self.means[role]

    def to_json(self) -> dict[str, Any]:
        """The state, JSON-plain."""
        return {
            "decay": self.decay,
            "start_at_first": self.start_at_first,
            "means": dict(self.means),
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Self:
        """A baseline that goes on from `state`."""
        return cls(**{**state, "means": dict(state["means"])})


def role_baseline(rewards_B: Tensor, roles: Sequence[str], baseline: RoleBaseline) -> Tensor:
    """A running baseline for each role, for games between copies of one policy.

    Reward less the role's baseline, which takes the rewards in, one by one in their order.

    Args:
        rewards_B: One a seat of a transcript.
        roles: The name of each seat; add the game or protocol to it where there are several.
        baseline: Changed in place.

    Raises:
        DataError: A reward is NaN or infinite; the baseline is as it was.
    """
    rewards_B = finite(rewards_B)
    if len(roles) != len(rewards_B):
        raise ValueError(f"{len(rewards_B)} rewards but {len(roles)} roles")
    means = [baseline.update(role, float(r)) for role, r in zip(roles, rewards_B, strict=True)]
    return rewards_B - torch.tensor(means, dtype=rewards_B.dtype, device=rewards_B.device)


def gae(
    rewards_BT: Tensor,
    values_BT: Tensor,
    mask_BT: Tensor,
    *,
    gamma: float = 1.0,
    lam: float = 0.95,
    bootstrap_B: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation over the tokens of responses.

    A_t = sum_k (gamma lam)^k delta_(t+k) and the returns A_t + V_t; both BT, 0 where masked.

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
    rewards_BT = finite(clean(rewards_BT, mask_BT))
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
