"""Pairs of a ranking: what losses that know only pairs learn from K responses."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

from oversight.train.types import Comparison

PairsOf = Literal["all", "best_worst", "adjacent"]


def expand(ranking: Comparison, how: PairsOf = "all", *, ties: bool = False) -> list[Comparison]:
    """The pairs of a ranking, better first; together they weigh as much as the ranking.

    Args:
        ranking: Two or more responses. A pair is given back as it is, with its soft label.
        how: Every two responses, the first and the last, or each with the next one.
        ties: Make pairs of equally ranked responses as well.
    """
    if ranking.is_pair:
        return [ranking] if ties or not ranking.is_tie else []
    num = len(ranking.responses)
    chosen = {
        "all": list(combinations(range(num), 2)),
        "best_worst": [(0, num - 1)],
        "adjacent": [(i, i + 1) for i in range(num - 1)],
    }[how]
    kept = [(i, j) for i, j in chosen if ties or ranking.ranks[i] != ranking.ranks[j]]
    return [
        Comparison(
            f"{ranking.id}#{i}-{j}",
            ranking.prompt_ids,
            (ranking.responses[i], ranking.responses[j]),
            (0, int(ranking.ranks[i] != ranking.ranks[j])),
            weight=ranking.weight / len(kept),
        )
        for i, j in kept
    ]
