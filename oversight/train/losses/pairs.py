"""Pairs as a loss takes them: labels and ties as probabilities, and what losses do alike.

Shapes: B pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid, softplus

from oversight.train.losses.metrics import Metrics, drop_rows, mean_of, promote, weighted_sum
from oversight.train.losses.options import NonNegative, Positive, Smoothing, checked


@dataclass(frozen=True, slots=True, eq=False)
class PairLogps:
    """Log-probabilities of pairs of responses, each a sum over the tokens learnt from."""

    chosen_B: Tensor
    """log pi of the better responses."""
    rejected_B: Tensor
    """log pi of the others."""
    ref_chosen_B: Tensor | None = None
    """The same under the reference, without gradient; None for a uniform reference."""
    ref_rejected_B: Tensor | None = None
    chosen_length_B: Tensor | None = None
    """Tokens learnt from, for the losses that count them."""
    rejected_length_B: Tensor | None = None
    soft_label_B: Tensor | None = None
    """Probability that the chosen is the better one; None for 1."""
    tie_B: Tensor | None = None
    """True where neither is better: a soft label of a half, but for losses that model ties."""
    weight_B: Tensor | None = None
    """Factor of each pair; a pair of weight 0 has no influence."""

    def __post_init__(self) -> None:
        if (self.ref_chosen_B is None) != (self.ref_rejected_B is None):
            raise ValueError("PairLogps: give ref_chosen_B and ref_rejected_B, or neither")

    @property
    def chosen_ratio_B(self) -> Tensor:
        """c, log pi/ref of the chosen."""
        return _ratio(self.chosen_B, self.ref_chosen_B)

    @property
    def rejected_ratio_B(self) -> Tensor:
        """r, log pi/ref of the rejected."""
        return _ratio(self.rejected_B, self.ref_rejected_B)

    @property
    def delta_B(self) -> Tensor:
        """d = c - r."""
        return self.chosen_ratio_B - self.rejected_ratio_B

    def num_tokens(self) -> tuple[Tensor, Tensor]:
        """Lengths of chosen and rejected, at least 1.

        Raises:
            ValueError: The lengths were not given.
        """
        if self.chosen_length_B is None or self.rejected_length_B is None:
            raise ValueError(
                "PairLogps: this loss needs chosen_length_B and rejected_length_B, the numbers "
                "of tokens that the log-probabilities are sums over"
            )
        chosen, rejected = self.chosen_length_B, self.rejected_length_B
        return chosen.to(self.chosen_B).clamp(min=1), rejected.to(self.chosen_B).clamp(min=1)

    def swapped(self) -> PairLogps:
        """The same pairs with chosen and rejected exchanged; labels stay."""
        return replace(
            self,
            chosen_B=self.rejected_B,
            rejected_B=self.chosen_B,
            ref_chosen_B=self.ref_rejected_B,
            ref_rejected_B=self.ref_chosen_B,
            chosen_length_B=self.rejected_length_B,
            rejected_length_B=self.chosen_length_B,
        )

    def cleaned(self) -> PairLogps:
        """The same in at least float32, zero in rows of weight 0, references without gradient."""
        return replace(
            self,
            chosen_B=drop_rows(self.chosen_B, self.weight_B),
            rejected_B=drop_rows(self.rejected_B, self.weight_B),
            ref_chosen_B=_reference(self.ref_chosen_B, self.weight_B),
            ref_rejected_B=_reference(self.ref_rejected_B, self.weight_B),
        )

    def rows(self, index: Tensor) -> PairLogps:
        """The pairs at `index` (places or truth values)."""
        return self._each(lambda tensor_B: tensor_B[index])

    def apart(self, device: torch.device | str) -> PairLogps:
        """The same on `device`, without gradient."""
        return self._each(lambda tensor_B: tensor_B.detach().to(device))

    @classmethod
    def joined(cls, parts: Sequence[PairLogps]) -> PairLogps:
        """The pairs of all `parts`; what only some of them say is in the others what None means."""
        meant = {"soft_label_B": 1.0, "tie_B": False, "weight_B": 1.0}
        found: dict[str, Tensor] = {}
        for name in (field.name for field in fields(cls)):
            given = [getattr(part, name) for part in parts]
            known = [tensor_B for tensor_B in given if tensor_B is not None]
            if known:
                found[name] = torch.cat(
                    [
                        known[0].new_full(part.chosen_B.shape, meant[name]) if own is None else own
                        for own, part in zip(given, parts, strict=True)
                    ]
                )
        return cls(**found)

    def _each(self, change: Callable[[Tensor], Tensor]) -> PairLogps:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{n: change(t) for n, t in given.items() if t is not None})


PerPair = Callable[[PairLogps], Tensor]
"""The loss of each pair, as if its chosen response were the better one for certain."""


def expected(
    per_pair: PerPair,
    pairs: PairLogps,
    *,
    normalizer: float | Tensor,
    beta: float,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Metrics]:
    """The summed loss of each pair, in expectation over which of its responses is better.

    With q the probability that the chosen one is (soft label, tie, smoothing): q times the
    loss plus 1 - q times the loss of the swapped pair. For the logistic loss this is the
    cross-entropy with a soft target.
    """
    pairs = pairs.cleaned()
    q_B = target_B(
        pairs.chosen_B,
        soft_label_B=pairs.soft_label_B,
        tie_B=pairs.tie_B,
        label_smoothing=label_smoothing,
    )
    loss_B = per_pair(pairs)
    if q_B is not None:
        loss_B = q_B * loss_B + (1 - q_B) * per_pair(pairs.swapped())
    return reduced(loss_B, pairs, normalizer=normalizer, beta=beta)


def reduced(
    loss_B: Tensor, pairs: PairLogps, *, normalizer: float | Tensor, beta: float
) -> tuple[Tensor, Metrics]:
    """The weighted sum of per-pair losses by the normalizer, and the metrics of pairs.

    `loss`, `accuracy` (of the implicit rewards, on decided pairs), `margin`,
    `reward_chosen`, `reward_rejected` (beta c and beta r), `logp_chosen`, `logp_rejected`.
    """
    with torch.no_grad():
        kept_B = torch.ones_like(loss_B, dtype=torch.bool)
        if pairs.weight_B is not None:
            kept_B = pairs.weight_B != 0
        delta_B, label_B = pairs.delta_B, pairs.soft_label_B
        agrees_B = ((delta_B > 0) == first_is_better(label_B, delta_B)) & (delta_B != 0)
        metrics: Metrics = {
            "loss": mean_of(loss_B, kept_B),
            "accuracy": mean_of(agrees_B, kept_B & decided(pairs.tie_B, label_B, delta_B)),
            "margin": mean_of(beta * delta_B, kept_B),
            "reward_chosen": mean_of(beta * pairs.chosen_ratio_B, kept_B),
            "reward_rejected": mean_of(beta * pairs.rejected_ratio_B, kept_B),
            "logp_chosen": mean_of(pairs.chosen_B, kept_B),
            "logp_rejected": mean_of(pairs.rejected_B, kept_B),
        }
    return weighted_sum(loss_B, pairs.weight_B, normalizer), metrics


def _ratio(logps_B: Tensor, ref_B: Tensor | None) -> Tensor:
    return promote(logps_B) if ref_B is None else promote(logps_B) - promote(ref_B).detach()


def _reference(ref_B: Tensor | None, weight_B: Tensor | None) -> Tensor | None:
    return None if ref_B is None else drop_rows(ref_B.detach(), weight_B)


@checked
def sft_term(
    pairs: PairLogps, *, normalizer: float | Tensor, alpha: NonNegative, per_token: bool = False
) -> tuple[Tensor, Metrics]:
    """-alpha log pi(y_w)/|y_w|, summed over pairs; add it to a preference loss.

    Pang et al. 2024, "Iterative Reasoning Preference Optimization", arXiv:2404.19733, eq. 1, the
    second term: the mean over the tokens of each chosen response. Where a pair's label prefers
    the rejected (soft label below 1/2), it is that response; a tie has both with half the weight
    each.

    Args:
        pairs: Summed log-probabilities with lengths.
        normalizer: Global number of pairs; with `per_token` the global number of tokens of
            the chosen responses (so TRL's `sft` loss).
        alpha: Weight of the term; 1 in the paper.
        per_token: Sums log pi(y_w), so that each token counts the same.

    Returns:
        The loss and `sft_nll`, the mean over pairs of -log pi(y_w)/|y_w|.
    """
    pairs = pairs.cleaned()
    chosen_length_B, rejected_length_B = pairs.num_tokens()
    q_B = _better(pairs)
    per_token_B = _mix(q_B, pairs.chosen_B / chosen_length_B, pairs.rejected_B / rejected_length_B)
    term_B = _mix(q_B, pairs.chosen_B, pairs.rejected_B) if per_token else per_token_B
    with torch.no_grad():
        kept_B = None if pairs.weight_B is None else pairs.weight_B != 0
        metrics: Metrics = {"sft_nll": mean_of(-per_token_B, kept_B)}
    return weighted_sum(-alpha * term_B, pairs.weight_B, normalizer), metrics


def _better(pairs: PairLogps) -> Tensor:
    """1 where the chosen is the better one, 0 where the rejected is, 1/2 for a tie."""
    q_B = torch.ones_like(pairs.chosen_B)
    if pairs.soft_label_B is not None:
        q_B = (torch.sign(pairs.soft_label_B.to(q_B) - 0.5) + 1) / 2
    return q_B if pairs.tie_B is None else torch.where(pairs.tie_B, 0.5, q_B)


def _mix(q_B: Tensor, chosen_B: Tensor, rejected_B: Tensor) -> Tensor:
    return q_B * chosen_B + (1 - q_B) * rejected_B


@checked
def target_B(
    like_B: Tensor,
    *,
    soft_label_B: Tensor | None = None,
    tie_B: Tensor | None = None,
    label_smoothing: Smoothing = 0.0,
) -> Tensor | None:
    """P(first is better) of each pair, or None where it is 1 for all.

    A tie is a half, whatever its soft label says. Smoothing flips each label with
    probability `label_smoothing`: q = p (1 - eps) + (1 - p) eps.

    Args:
        like_B: Gives shape, type and device.
        soft_label_B: Probability that the first is better; None for 1.
        tie_B: True where neither is better.
        label_smoothing: In [0, 0.5).
    """
    if soft_label_B is None and tie_B is None and label_smoothing == 0:
        return None
    target = torch.ones_like(like_B) if soft_label_B is None else soft_label_B.to(like_B)
    if tie_B is not None:
        target = torch.where(tie_B, 0.5, target)
    return target * (1 - label_smoothing) + (1 - target) * label_smoothing


def decided(tie_B: Tensor | None, soft_label_B: Tensor | None, like_B: Tensor) -> Tensor:
    """True for pairs with a better side, for accuracies: no tie and no even label."""
    kept = torch.ones_like(like_B, dtype=torch.bool)
    if tie_B is not None:
        kept = kept & ~tie_B
    return kept if soft_label_B is None else kept & (soft_label_B != 0.5)


def first_is_better(soft_label_B: Tensor | None, like_B: Tensor) -> Tensor:
    """True where the label favours the first of a pair."""
    if soft_label_B is None:
        return torch.ones_like(like_B, dtype=torch.bool)
    return soft_label_B > 0.5


Outcomes = tuple[Tensor, Tensor, Tensor]
"""log P(first better), log P(tie) and log P(second better) of a model of ties, B each."""


def unlikelihood(
    outcomes: Outcomes,
    *,
    soft_label_B: Tensor | None,
    tie_B: Tensor | None,
    label_smoothing: float,
) -> Tensor:
    """-log P of what was seen of each pair: a tie, or a win by its label; shape B."""
    first_B, tied_B, second_B = outcomes
    q_B = target_B(first_B, soft_label_B=soft_label_B, label_smoothing=label_smoothing)
    loss_B = -first_B if q_B is None else -(q_B * first_B + (1 - q_B) * second_B)
    return loss_B if tie_B is None else torch.where(tie_B, -tied_B, loss_B)


DavidsonTies = Positive | Tensor
"""nu of `davidson_log_probabilities`: fixed, or a learnable scalar
tensor (see `davidson_from_raw`)."""


@checked
def davidson_log_probabilities(lead: Tensor, tie_strength: DavidsonTies) -> Outcomes:
    """log P(first better), log P(tie) and log P(second better), which sum to 1 as probabilities.

    Davidson 1970, "On Extending the Bradley-Terry Model to Accommodate Ties in Paired Comparison
    Experiments", in the scaling of Chen et al. 2024, arXiv:2409.17431: with strengths l1 and l2
    the three are proportional to l1, 2 nu sqrt(l1 l2) and l2. (Davidson writes nu for this 2 nu.)

    Args:
        lead: By how much the first one's log-strength exceeds the second one's; any shape.
        tie_strength: nu, above 0: at equal strength a tie has probability nu/(1 + nu).
    """
    nu = torch.as_tensor(tie_strength, dtype=lead.dtype, device=lead.device)
    log_tie = nu.mul(2).log().expand_as(lead)
    scores = torch.stack([lead / 2, log_tie, -lead / 2])
    first, tie, second = log_softmax(scores, dim=0)
    return first, tie, second


def davidson_from_raw(raw: Tensor) -> Tensor:
    """A tie strength above 0 from an unconstrained learnable number; 0 gives about 0.69."""
    return softplus(raw)


RaoKupperTies = Annotated[float, Field(gt=1)] | Tensor
"""nu of `rao_kupper_log_probabilities`: fixed, or a learnable scalar
tensor (see `rao_kupper_from_raw`)."""


@checked
def rao_kupper_log_probabilities(lead: Tensor, tie_strength: RaoKupperTies) -> Outcomes:
    """log P(first better), log P(tie) and log P(second better), which sum to 1 as probabilities.

    Rao and Kupper 1967, "Ties in Paired-Comparison Experiments", as Chen et al. 2024,
    arXiv:2409.17431, write it: with nu >= 1 and a = log nu, P(first) = s(lead - a),
    P(second) = s(-lead - a), P(tie) = (nu^2 - 1) P(first) P(second).

    Args:
        lead: By how much the first one's log-strength exceeds the second one's; any shape.
        tie_strength: nu, above 1: at equal strength a tie has probability (nu - 1)/(nu + 1).
    """
    nu = torch.as_tensor(tie_strength, dtype=lead.dtype, device=lead.device)
    first = logsigmoid(lead - nu.log())
    second = logsigmoid(-lead - nu.log())
    return first, torch.log(nu.square() - 1) + first + second, second


def rao_kupper_from_raw(raw: Tensor) -> Tensor:
    """A tie strength above 1 from an unconstrained learnable number; 0 gives about 1.69."""
    return 1 + 1e-4 + softplus(raw)  # never so near 1 that log(nu^2 - 1) is infinite
