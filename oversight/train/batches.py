"""Examples of a step as micro-batches and tensors: cut to fit into memory, padded, compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from oversight.modeling import Ids, TokenRow
from oversight.modeling.scoring.checks import takes_beginnings
from oversight.modeling.scoring.policy import Backbone, PolicyModel, ScalarModel, Scores
from oversight.modeling.scoring.trie import Cut, RowBatch, common_prefix, cut, num_trie_tokens
from oversight.train.distributed import World
from oversight.train.settings import TrainSettings
from oversight.train.types import Comparison


def micro_batches(
    groups: Sequence[Sequence[TokenRow]], max_tokens: int, enough: int | None = None
) -> list[list[int]]:
    """Numbers of the groups that are computed together, in an order that depends on them alone.

    A group (a pair, the samples of a prompt) stays whole, even if it is larger than `max_tokens`;
    `Cutting` then computes its rows in turn.
    Groups that begin alike come together, and what they share is counted once.

    Args:
        groups: Rows of each group.
        max_tokens: Tokens of a part, shared beginnings counted once.
        enough: Tokens of a part beyond which it takes in no group but one that shares its
            beginning; None where a part is as large as it may be.
    """
    order = sorted(range(len(groups)), key=lambda i: (_first(groups[i]).tobytes(), i))
    parts: list[list[int]] = []
    size = 0
    before: Ids | None = None
    for i in order:
        alone = _num_tokens(groups[i])
        own = alone if before is None else alone - common_prefix(before, _first(groups[i]))
        most = max_tokens if enough is None or own < alone * OWN_SHARE else min(enough, max_tokens)
        if not parts or size + own > most:
            parts.append([])
            size, own = 0, alone
        parts[-1].append(i)
        size += own
        before = _first(groups[i])
    return parts


def _first(group: Sequence[TokenRow]) -> Ids:
    return group[0].prompt_ids


def _num_tokens(group: Sequence[TokenRow]) -> int:
    """Tokens of a group whose rows share what prompts begin with; an upper bound if more."""
    total, before = 0, None
    for row in group:
        shared = 0 if before is None else common_prefix(before, row.prompt_ids)
        total += row.num_tokens - shared
        before = row.prompt_ids
    return total


OWN_SHARE = 0.9
"""A group of which less is its own shares its beginning with the one before."""
CACHED_TOKENS = 1280
"""Tokens whose passes are long beside adding to a layer's gradients, which each part does once: by
computing more at once a CPU wins nothing, and loses what its caches would have held."""
HEAD_SHARE = 0.25
"""Weight of embeddings and head beside a layer's: gradients of embeddings are by rows, and few
tokens may pass through the head."""


def enough_tokens(
    model: Any, settings: TrainSettings, device: torch.device, num_processes: int
) -> int | None:
    """Tokens of a micro-batch than which more would be computed no faster; None where more would.

    That is on a CPU, in one process: several exchange weights in each part.

    Args:
        model: Of transformers, with or without adapters; it may stand on the meta device.
        settings: Of the run.
        device: That the model runs on.
        num_processes: Of the run.
    """
    if device.type != "cpu" or num_processes > 1 or settings.model.router_aux_coefficient:
        return None
    num_words = len(model.get_input_embeddings().weight)
    wide, others = 0, 1
    for weight in model.parameters():
        if weight.dim() == 2 and len(weight) == num_words:
            wide += weight.numel()
        else:
            others += weight.numel()
    lowered = settings.model.precision == "bfloat16"
    return int(CACHED_TOKENS * (1.0 + HEAD_SHARE * wide / others)) * (2 if lowered else 1)


USEFUL_SHARE = 0.75
"""Groups are cut where no more of their tokens than this are held at once."""


class Cutting:
    """Groups that are larger than a micro-batch, computed in turns that share what rows begin with.

    Not for several processes, each of whose passes takes all of them; not for a load-balancing
    loss, which hears whole lines; not where a kind of model would compute anything else than its
    own forward pass does. There a group stays whole.

    Args:
        settings: Of the run.
        models: The models that are trained.
        world: The processes of the run.
    """

    def __init__(
        self, settings: TrainSettings, models: Mapping[str, torch.nn.Module], world: World
    ) -> None:
        self._max_tokens = settings.micro_batch_tokens
        self._attention = settings.model.attention
        self._models = [model for model in models.values() if isinstance(model, Backbone)]
        self.enough = max(
            (
                found
                for model in self._models
                if (found := enough_tokens(model.inner, settings, model.device, world.size))
            ),
            default=None,
        )
        """Tokens of a part than which more would be computed no faster; see `enough_tokens`."""
        alone = world.size == 1 and len(self._models) == len(models)
        self._may = alone and not settings.model.router_aux_coefficient
        lora = settings.model.lora
        self._is_random = lora is not None and lora.dropout > 0.0

    def parts(self, rows: Sequence[TokenRow], *, holds: bool) -> Cut | None:
        """The turns in which rows are computed; None where they are computed at once.

        Args:
            rows: Of one micro-batch.
            holds: Whether the loss is a sum over them, so that each turn has its own. Else their
                scores are computed twice, which nothing random would bear.
        """
        if not self._may or sum(row.num_tokens for row in rows) <= self._max_tokens:
            return None
        num_tokens = num_trie_tokens([row.ids() for row in rows])
        if num_tokens <= self._max_tokens or (self._is_random and not holds):
            return None
        found = cut(rows, self._max_tokens, holds=holds)
        if found.num_tokens > num_tokens * USEFUL_SHARE:
            return None
        return found if not holds or all(map(self._takes, self._models)) else None

    def _takes(self, model: Backbone) -> bool:
        is_scalar = isinstance(model, ScalarModel)
        return takes_beginnings(model.inner.config, self._attention, scalar=is_scalar)

    @contextmanager
    def holding(self, rows: Sequence[TokenRow], parts: Cut) -> Iterator[None]:
        """While it lasts, all models hold what the rows begin with."""
        ids, length = rows[0].ids()[: parts.num_shared], rows[0].num_tokens
        with ExitStack() as held:
            for model in self._models:
                held.enter_context(model.holding(ids, length, self._max_tokens))
            yield

    @contextmanager
    def scoring_in_parts(self) -> Iterator[None]:
        """While it lasts, all models score large batches in parts."""
        with ExitStack() as asked:
            for model in self._models:
                asked.enter_context(model.scoring_in_parts(self._max_tokens))
            yield


def padded(rows: Sequence[torch.Tensor], like_BR: torch.Tensor) -> torch.Tensor:
    """Rows [R] as one tensor [B, R] of the shape and on the device of `like_BR`; 0 behind them."""
    whole_BR = torch.zeros(like_BR.shape)
    for place, row_R in enumerate(rows):
        whole_BR[place, : len(row_R)] = row_R[: whole_BR.shape[1]]
    return whole_BR.to(like_BR.device)


@dataclass(frozen=True, slots=True, eq=False)
class PairLabels:
    """Labels of a batch of pairs, as losses take them; None where no pair has any."""

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
    """True where one response is better than another, for certain or more probably."""
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
        rows: The rows that are scored.
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
    """Return `part` of each row, in the order of `rows`, with the model in eval mode."""
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
