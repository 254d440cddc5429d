"""Comparisons as tensors: labels, ties, margins and weights of a micro-batch.

Shapes: B pairs, K responses of a ranking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from oversight.train.types import Comparison


@dataclass(frozen=True, slots=True, eq=False)
class PairLabels:
    """What is said of pairs, as losses take it: None where nothing is said of any."""

    soft_label_B: torch.Tensor | None
    tie_B: torch.Tensor | None
    margin_B: torch.Tensor | None
    weight_B: torch.Tensor

    @classmethod
    def of(
        cls, pairs: Sequence[Comparison], device: torch.device, *, soft: bool = True
    ) -> PairLabels:
        """The labels of `pairs`; without `soft`, the better response is better for certain."""
        soft_labels = [1.0 if p.soft_label is None else p.soft_label for p in pairs]
        ties = [p.is_tie for p in pairs]
        margins = [p.margin or 0.0 for p in pairs]
        is_soft = soft and any(p.soft_label is not None for p in pairs)
        return cls(
            torch.tensor(soft_labels, device=device) if is_soft else None,
            torch.tensor(ties, device=device) if any(ties) else None,
            torch.tensor(margins, device=device) if any(margins) else None,
            torch.tensor([p.weight for p in pairs], device=device),
        )


def is_decided(comparison: Comparison, *, soft: bool = True) -> bool:
    """Whether one of its responses is better than another, for certain or more probably."""
    even = soft and comparison.soft_label == 0.5
    return not comparison.is_tie and not even


def unread_margins(loss: str, comparisons: Sequence[Comparison]) -> list[str]:
    """A line that counts the margins of rows, for losses that take none; nothing without."""
    number = sum(each.margin is not None for each in comparisons)
    if not number:
        return []
    return [f"the margins of {number:,} rows are not used: loss = {loss!r} takes none"]


def ranks_of(
    rankings: Sequence[Comparison], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ranks [B, K] of rankings, and which of them are no padding."""
    most = max(len(r.ranks) for r in rankings)
    ranks = [[*r.ranks, *[0] * (most - len(r.ranks))] for r in rankings]
    kept = [[i < len(r.ranks) for i in range(most)] for r in rankings]
    return torch.tensor(ranks, device=device), torch.tensor(kept, device=device)
