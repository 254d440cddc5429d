"""A step's examples cut into parts that fit into memory, so that few tokens are computed twice."""

from __future__ import annotations

from collections.abc import Sequence

from oversight.train.model.trie import common_prefix
from oversight.train.types import Ids, TokenRow


def micro_batches(groups: Sequence[Sequence[TokenRow]], max_tokens: int) -> list[list[int]]:
    """Numbers of the groups that are computed together, in an order that depends on them alone.

    A group (a pair, the samples of a prompt) stays whole, even if it is larger than `max_tokens`.
    Groups that begin alike come together, and what they share is counted once.

    Args:
        groups: Rows of each group.
        max_tokens: Tokens of a part, shared beginnings counted once.
    """
    order = sorted(range(len(groups)), key=lambda i: (_first(groups[i]).tobytes(), i))
    parts: list[list[int]] = []
    size = 0
    before: Ids | None = None
    for i in order:
        alone = _num_tokens(groups[i])
        own = alone if before is None else alone - common_prefix(before, _first(groups[i]))
        if not parts or size + own > max_tokens:
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
