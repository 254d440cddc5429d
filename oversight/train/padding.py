"""Rows of different lengths as one padded tensor.

Shapes: B rows, R response tokens of the longest row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def padded(rows: Sequence[torch.Tensor], like_BR: torch.Tensor) -> torch.Tensor:
    """Rows [R] as one tensor [B, R] of the shape and on the device of `like_BR`; 0 behind them."""
    whole_BR = torch.zeros(like_BR.shape)
    for place, row_R in enumerate(rows):
        whole_BR[place, : len(row_R)] = row_R[: whole_BR.shape[1]]
    return whole_BR.to(like_BR.device)
