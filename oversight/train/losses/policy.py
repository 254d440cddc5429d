"""Policy-gradient losses on sampled tokens with advantages, and PPO's loss of values.

With w_t = pi(y_t)/pi_old(y_t), A_t for the advantage and clip(w) for w held to
[1 - clip_low, 1 + clip_high]. The former differ in the ratio, its clipping and the
reduction; each is registered with the `normalizer` that it wants: the global number of tokens
learnt from, of sequences, or of sequences times the longest response that is allowed.

Shapes: B sequences, T response tokens (padded).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from oversight.train.losses.kl import safe_exp
from oversight.train.losses.metrics import (
    Mean,
    Metrics,
    Peak,
    clean,
    divide,
    masked_mean,
    mean_of,
    peak_of,
)
from oversight.train.losses.options import DualClip, NonNegative, Positive, Share, checked
from oversight.train.losses.policy_batch import (
    NO_EXTRAS,
    Extras,
    PolicyBatch,
    clipped,
    reduced,
    sequence_ratios,
    token_ratios,
)
from oversight.train.losses.registered import policy_loss


@policy_loss(normalizer="tokens")
def ppo(
    batch: PolicyBatch,
    *,
    normalizer: float | Tensor,
    clip_low: Share = 0.2,
    clip_high: NonNegative = 0.2,
    dual_clip: DualClip = None,
    extras: Extras = NO_EXTRAS,
) -> tuple[Tensor, Metrics]:
    """PPO: the clipped surrogate, each token counting the same.

    sum_t -min(w_t A_t, clip(w_t) A_t) over all tokens.

    Schulman et al. 2017, arXiv:1707.06347, eq. 7; dual clip of Ye et al. 2020, arXiv:1912.09729,
    eq. 5.

    Args:
        batch: Masked tokens have no influence; where A > 0, raising a token's
            log-probability lowers the loss until its ratio is past 1 + clip_high.
        normalizer: Global number of tokens learnt from.
        clip_low: How far a ratio may fall below 1, in [0, 1].
        clip_high: How far a ratio may rise above 1.
        dual_clip: Bound on the ratio where A < 0, above 1 + clip_high, 3 as a rule; None for
            none.
        extras: KL term and entropy bonus, reduced alike.

    Returns:
        The loss and the metrics of `ratio_metrics` and `reduced`.
    """
    batch = batch.cleaned()
    return clipped(
        token_ratios(batch),
        batch,
        normalizer=normalizer,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        extras=extras,
        per_sequence=False,
    )


@policy_loss(normalizer="sequences")
def grpo(
    batch: PolicyBatch,
    *,
    normalizer: float | Tensor,
    clip_low: Share = 0.2,
    clip_high: NonNegative = 0.2,
    dual_clip: DualClip = None,
    extras: Extras = NO_EXTRAS,
) -> tuple[Tensor, Metrics]:
    """GRPO: the clipped surrogate, each sequence counting the same.

    sum_b 1/|y_b| sum_t -min(w_t A_t, clip(w_t) A_t).

    Shao et al. 2024 (DeepSeekMath), arXiv:2402.03300, eq. 3. Its KL term (eq. 4) is biased:
    `extras` with `kl_estimator` "k3" is the paper's, while the default is the corrected one. The
    division by each response's own length makes long wrong answers cheap (Liu et al. 2025,
    arXiv:2503.20783): see dr_grpo, dapo.

    Args:
        batch: Masked tokens have no influence; where A > 0, raising a token's
            log-probability lowers the loss until its ratio is past 1 + clip_high.
        normalizer: Global number of sequences.
        clip_low: How far a ratio may fall below 1, in [0, 1].
        clip_high: How far a ratio may rise above 1.
        dual_clip: Bound on the ratio where A < 0, above 1 + clip_high; None for none.
        extras: KL term and entropy bonus, reduced alike.

    Returns:
        The loss and the metrics of `ratio_metrics` and `reduced`.
    """
    batch = batch.cleaned()
    return clipped(
        token_ratios(batch),
        batch,
        normalizer=normalizer,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        extras=extras,
        per_sequence=True,
    )


@policy_loss(normalizer="constant", scale="none")
def dr_grpo(
    batch: PolicyBatch,
    *,
    normalizer: float | Tensor,
    clip_low: Share = 0.2,
    clip_high: NonNegative = 0.2,
    dual_clip: DualClip = None,
    extras: Extras = NO_EXTRAS,
) -> tuple[Tensor, Metrics]:
    """Dr. GRPO: the clipped surrogate over a constant length.

    sum_t -min(w_t A_t, clip(w_t) A_t) over all tokens, by a constant.

    Liu et al. 2025, "Understanding R1-Zero-Like Training", arXiv:2503.20783, section 3.2: GRPO
    without 1/|y_b|. Goes with advantages that are not divided by a standard deviation.

    Args:
        batch: Masked tokens have no influence; where A > 0, raising a token's
            log-probability lowers the loss until its ratio is past 1 + clip_high.
        normalizer: Global number of sequences times the longest response that is allowed
            (not the longest seen).
        clip_low: How far a ratio may fall below 1, in [0, 1].
        clip_high: How far a ratio may rise above 1.
        dual_clip: Bound on the ratio where A < 0, above 1 + clip_high; None for none.
        extras: KL term and entropy bonus, reduced alike.

    Returns:
        The loss and the metrics of `ratio_metrics` and `reduced`.
    """
    batch = batch.cleaned()
    return clipped(
        token_ratios(batch),
        batch,
        normalizer=normalizer,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        extras=extras,
        per_sequence=False,
    )


@policy_loss(normalizer="tokens")
def dapo(
    batch: PolicyBatch,
    *,
    normalizer: float | Tensor,
    clip_low: Share = 0.2,
    clip_high: NonNegative = 0.28,
    dual_clip: DualClip = None,
    extras: Extras = NO_EXTRAS,
) -> tuple[Tensor, Metrics]:
    """DAPO: the clipped surrogate with a higher upper bound, each token counting the same.

    sum_t -min(w_t A_t, clip(w_t) A_t) over all tokens.

    Yu et al. 2025, arXiv:2503.14476, eq. 8; there by the tokens of each group, here by those of
    the step. The rest of DAPO stands elsewhere: dynamic sampling in
    `advantages.informative`, overlong shaping in `rewards.overlong_penalty`.

    Args:
        batch: Masked tokens have no influence; where A > 0, raising a token's
            log-probability lowers the loss until its ratio is past 1 + clip_high.
        normalizer: Global number of tokens learnt from.
        clip_low: How far a ratio may fall below 1, in [0, 1].
        clip_high: How far a ratio may rise above 1.
        dual_clip: Bound on the ratio where A < 0, above 1 + clip_high; None for none.
        extras: KL term and entropy bonus, reduced alike.

    Returns:
        The loss and the metrics of `ratio_metrics` and `reduced`.
    """
    batch = batch.cleaned()
    return clipped(
        token_ratios(batch),
        batch,
        normalizer=normalizer,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        extras=extras,
        per_sequence=False,
    )


@policy_loss(normalizer="sequences")
def gspo(
    batch: PolicyBatch,
    *,
    normalizer: float | Tensor,
    clip_low: Share = 3e-4,
    clip_high: NonNegative = 4e-4,
    dual_clip: DualClip = None,
    extras: Extras = NO_EXTRAS,
) -> tuple[Tensor, Metrics]:
    """GSPO: one ratio a sequence, the geometric mean of its tokens'.

    sum_b -min(s_b A_b, clip(s_b) A_b), s_b = exp(1/|y_b| sum_t log w_t).

    Zheng et al. 2025, "Group Sequence Policy Optimization", arXiv:2507.18071, eqs. 5 and 7, with
    the bounds of its section 5.1. Where advantages differ within a sequence, A_b is their mean
    wherever nothing is clipped; gspo_token is made for them.

    Args:
        batch: Masked tokens count neither in s_b nor in |y_b|.
        normalizer: Global number of sequences.
        clip_low: How far s_b may fall below 1: much less than a token's ratio.
        clip_high: How far s_b may rise above 1.
        dual_clip: Bound on s_b where A < 0, above 1 + clip_high; None for none.
        extras: KL term and entropy bonus, a mean over the tokens of each sequence.

    Returns:
        The loss and the metrics of `ratio_metrics` (over tokens, each with its
        sequence's ratio) and `reduced`.
    """
    batch = batch.cleaned()
    return clipped(
        sequence_ratios(batch).expand_as(batch.mask_BT),
        batch,
        normalizer=normalizer,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        extras=extras,
        per_sequence=True,
    )


@policy_loss(normalizer="sequences")
def gspo_token(
    batch: PolicyBatch,
    *,
    normalizer: float | Tensor,
    clip_low: Share = 3e-4,
    clip_high: NonNegative = 4e-4,
    dual_clip: DualClip = None,
    extras: Extras = NO_EXTRAS,
) -> tuple[Tensor, Metrics]:
    """GSPO-token: the value of a sequence's ratio with the gradient of each token.

    sum_b 1/|y_b| sum_t -min(s_t A_t, clip(s_t) A_t), s_t = sg[s_b] pi(y_t)/sg[pi(y_t)].

    Zheng et al. 2025, "Group Sequence Policy Optimization", arXiv:2507.18071, eqs. 13 and 14: s_b
    is that of gspo and sg stops the gradient. Equal to gspo, gradient included, where all tokens
    of a sequence have one advantage; each token may have its own.

    Args:
        batch: Masked tokens count neither in s_b nor in |y_b|.
        normalizer: Global number of sequences.
        clip_low: How far s_b may fall below 1: much less than a token's ratio.
        clip_high: How far s_b may rise above 1.
        dual_clip: Bound on s_b where A < 0, above 1 + clip_high; None for none.
        extras: KL term and entropy bonus, a mean over the tokens of each sequence.

    Returns:
        The loss and the metrics of `ratio_metrics` (over tokens, each with its
        sequence's ratio) and `reduced`.
    """
    batch = batch.cleaned()
    itself_BT = (batch.logps_BT - batch.logps_BT.detach()).exp()  # 1, with a gradient
    return clipped(
        sequence_ratios(batch).detach() * itself_BT,
        batch,
        normalizer=normalizer,
        clip_low=clip_low,
        clip_high=clip_high,
        dual_clip=dual_clip,
        extras=extras,
        per_sequence=True,
    )


@policy_loss(normalizer="tokens")
def cispo(
    batch: PolicyBatch,
    *,
    normalizer: float | Tensor,
    clip_low: Share | None = None,
    clip_high: NonNegative = 4.0,
    extras: Extras = NO_EXTRAS,
) -> tuple[Tensor, Metrics]:
    """CISPO: REINFORCE whose importance weight is clipped, so that no token loses its gradient.

    sum_t -sg[clip(w_t)] A_t log pi(y_t) over all tokens; sg stops the gradient.

    MiniMax 2025 (MiniMax-M1), arXiv:2506.13585, eqs. 4 and 5; there by the tokens of each group,
    here by those of the step. The paper sets no lower bound either. Its upper bound is
    1 + clip_high, of which it gives no value: 5 is that of ScaleRL (arXiv:2510.13786). TRL's
    `epsilon_high` for this loss is that sum itself.

    Args:
        batch: Masked tokens have no influence; where A > 0, raising a token's
            log-probability lowers the loss, however large its ratio.
        normalizer: Global number of tokens learnt from.
        clip_low: Weights are at least 1 - clip_low; None for no lower bound.
        clip_high: Weights are at most 1 + clip_high.
        extras: KL term and entropy bonus, reduced alike.

    Returns:
        The loss and `ratio`, `ratio_max`, `clip_low`, `clip_high` (shares whose weight is
        bounded) and the metrics of `reduced`.
    """
    batch = batch.cleaned()
    floor, ceiling = 0.0 if clip_low is None else 1 - clip_low, 1 + clip_high
    ratio_BT = safe_exp(batch.logps_BT - batch.old_logps_BT).detach()
    policy_BT = -ratio_BT.clamp(floor, ceiling) * batch.advantages_BT * batch.logps_BT
    total, metrics = reduced(
        policy_BT, batch, normalizer=normalizer, extras=extras, per_sequence=False
    )
    with torch.no_grad():
        metrics["ratio"] = mean_of(ratio_BT, batch.mask_BT)
        metrics["ratio_max"] = peak_of(ratio_BT, batch.mask_BT)
        metrics["clip_low"] = mean_of(ratio_BT < floor, batch.mask_BT)
        metrics["clip_high"] = mean_of(ratio_BT > ceiling, batch.mask_BT)
    return total, metrics


@policy_loss(normalizer="sequences")
def reinforce(
    batch: PolicyBatch,
    *,
    normalizer: float | Tensor,
    extras: Extras = NO_EXTRAS,
) -> tuple[Tensor, Metrics]:
    """REINFORCE: log-probability times advantage, nothing clipped.

    sum_t -A_t log pi(y_t) over all tokens.

    Williams 1992; with leave-one-out advantages RLOO (Ahmadian et al. 2024, arXiv:2402.14740,
    section 2.3). On-policy: the ratio to the sampling policy is reported, not corrected.

    Args:
        batch: Masked tokens have no influence; where A > 0, raising a token's
            log-probability lowers the loss.
        normalizer: Global number of sequences for the gradient of the expected return (and
            for RLOO); of tokens for that gradient by the mean length.
        extras: KL term and entropy bonus, reduced alike.

    Returns:
        The loss and `ratio`, `ratio_max` and the metrics of `reduced`.
    """
    batch = batch.cleaned()
    total, metrics = reduced(
        -batch.advantages_BT * batch.logps_BT,
        batch,
        normalizer=normalizer,
        extras=extras,
        per_sequence=False,
    )
    ratio_BT = safe_exp((batch.logps_BT - batch.old_logps_BT).detach())
    metrics["ratio"] = mean_of(ratio_BT, batch.mask_BT)
    metrics["ratio_max"] = peak_of(ratio_BT, batch.mask_BT)
    return total, metrics


@policy_loss(normalizer="sequences")
def rloo_trl(
    batch: PolicyBatch,
    *,
    normalizer: float | Tensor,
    clip_low: Share = 0.2,
    clip_high: NonNegative = 0.2,
    extras: Extras = NO_EXTRAS,
) -> tuple[Tensor, Metrics]:
    """TRL's RLOO: the clipped surrogate on the ratio of whole responses.

    sum_b -min(w_b A_b, clip(w_b) A_b), w_b = prod_t w_t.

    RLOO (Ahmadian et al. 2024, arXiv:2402.14740) has no ratio: its own form is `reinforce` with
    leave-one-out advantages and the number of sequences as normalizer. This is what TRL's trainer
    of that name does, for reuse of samples; on fresh ones both have one gradient.

    Args:
        batch: Masked tokens have no influence; A_b is the mean of a row's advantages.
        normalizer: Global number of sequences.
        clip_low: How far w_b may fall below 1, in [0, 1].
        clip_high: How far w_b may rise above 1.
        extras: KL term and entropy bonus, a mean over the tokens of each sequence.

    Returns:
        The loss and the metrics of `ratio_metrics` (over tokens, each with its
        sequence's ratio) and `reduced`.
    """
    batch = batch.cleaned()
    log_ratio_BT = batch.logps_BT - batch.old_logps_BT
    ratio_BT = safe_exp(log_ratio_BT.sum(1, keepdim=True)).expand_as(log_ratio_BT)
    advantage_B = masked_mean(batch.advantages_BT, batch.mask_BT, dim=1)
    batch = replace(batch, advantages_BT=advantage_B[:, None].expand_as(log_ratio_BT))
    return clipped(
        ratio_BT,
        batch,
        normalizer=normalizer,
        clip_low=clip_low,
        clip_high=clip_high,
        extras=extras,
        per_sequence=True,
    )


@checked
def value_loss(
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
