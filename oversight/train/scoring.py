"""Scores of many rows without gradient, a micro-batch at a time.

Shapes: R response tokens of one row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from oversight.train.distributed import World
from oversight.train.micro_batches import micro_batches
from oversight.train.model.batch import RowBatch
from oversight.train.model.policy import PolicyModel, ScalarModel, Scores
from oversight.train.types import TokenRow


def row_logprobs(
    policy: PolicyModel,
    rows: Sequence[TokenRow],
    world: World,
    max_tokens: int,
    temperature: float = 1.0,
) -> list[torch.Tensor]:
    """Log-probability of each row's response tokens, one tensor [R] a row, on the CPU."""

    def part(batch: RowBatch) -> torch.Tensor:
        scores: Scores = policy(batch, temperature)
        return scores.logps_BR

    return _by_row(part, policy, rows, world, max_tokens)


def row_values(
    model: PolicyModel | ScalarModel, rows: Sequence[TokenRow], world: World, max_tokens: int
) -> list[torch.Tensor]:
    """Value of the state before each response token, one tensor [R] a row, on the CPU.

    Args:
        model: A critic of its own, or a policy with a value head.
        rows: What is scored.
        world: The processes.
        max_tokens: Of a micro-batch.
    """

    def part(batch: RowBatch) -> torch.Tensor:
        if isinstance(model, ScalarModel):
            return model.values(batch)
        values_BR: torch.Tensor | None = model(batch).values_BR
        if values_BR is None:
            raise ValueError("the policy has no value head")
        return values_BR

    return _by_row(part, model, rows, world, max_tokens)


def row_rewards(
    model: ScalarModel, rows: Sequence[TokenRow], world: World, max_tokens: int
) -> list[float]:
    """The reward of each row."""

    def part(batch: RowBatch) -> torch.Tensor:
        rewards_B: torch.Tensor = model(batch)
        return rewards_B[:, None].expand(-1, batch.mask_BR.shape[1])

    scored = _by_row(part, model, rows, world, max_tokens)
    return [float(reward_R[0]) for reward_R in scored]


@torch.no_grad()
def _by_row(
    part: Callable[[RowBatch], torch.Tensor],
    model: PolicyModel | ScalarModel,
    rows: Sequence[TokenRow],
    world: World,
    max_tokens: int,
) -> list[torch.Tensor]:
    """What `part` gives for each row, in the order of `rows`, with the model in eval mode."""
    was_training = model.training
    model.eval()
    scored: dict[int, torch.Tensor] = {}
    parts = micro_batches([[row] for row in rows], max_tokens)
    for numbers in world.padded(parts):
        batch = RowBatch.build([rows[i] for i in numbers], model.device)
        values_BR = part(batch).cpu()
        for place, i in enumerate(numbers):
            # A copy, or each row would keep its whole micro-batch in memory.
            scored[i] = values_BR[place, : max(1, len(rows[i].response_ids))].clone()
    model.train(was_training)
    return [scored[i] for i in range(len(rows))]
