"""AdamW over what is trained: decay on matrices only."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.distributed.tensor import DTensor

from oversight.train.settings import OptimizerSettings


def build_optimizer(
    models: Iterable[torch.nn.Module], settings: OptimizerSettings
) -> torch.optim.AdamW:
    """AdamW over the trainable weights of `models`; the schedule multiplies its rate."""
    weights = [p for model in models for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in weights if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=_are_alike(weights),
    )


def _are_alike(weights: Iterable[torch.Tensor]) -> bool:
    """Whether all are whole, or all are split: one kernel can step through them together."""
    kinds = {type(weight) for weight in weights}
    return kinds in ({torch.nn.Parameter}, {DTensor})


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the coming step, in every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
