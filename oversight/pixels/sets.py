"""Sets of pixels by number: all sets of one size, each at a place that can be computed.

The sets of size r among candidates 0 … n-1 stand in colexicographic order: the set
s_1 < s_2 < … < s_r has the place C(s_1, 1) + C(s_2, 2) + … + C(s_r, r). So the sets whose greatest
member is m stand together, and are the first C(m, r-1) sets of size r-1 with m added.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import comb

import torch
from torch import Tensor


def place(members: Sequence[int]) -> int:
    """Where a set stands among those of its size."""
    return sum(comb(member, rank) for rank, member in enumerate(sorted(members), start=1))


def members_at(index: int, size: int) -> tuple[int, ...]:
    """The set of that size at that place, in ascending order."""
    found = []
    for rank in range(size, 0, -1):
        member = rank - 1
        while comb(member + 1, rank) <= index:
            member += 1
        index -= comb(member, rank)
        found.append(member)
    return tuple(reversed(found))


def all_sets(num: int, size: int) -> Tensor:
    """All sets, [C(num, size), size], members in ascending order."""
    sets = torch.zeros(1, 0, dtype=torch.int64)
    for rank in range(1, size + 1):
        blocks = []
        for greatest in range(rank - 1, num):
            smaller = sets[: comb(greatest, rank - 1)]
            blocks.append(torch.nn.functional.pad(smaller, (0, 1), value=greatest))
        sets = torch.cat(blocks)
    return sets


@lru_cache(maxsize=8)
def children(num: int, size: int) -> Tensor:
    """Places of the sets that each set of `size` becomes by one more member: [num, C(num, size)].

    Row p is for member p. Where a set has p already, the place of another of its children stands
    instead, which changes neither a maximum nor a minimum over them.
    """
    sets = all_sets(num, size)
    binomial = torch.tensor([[comb(p, r) for r in range(size + 3)] for p in range(num)])
    ranks = torch.arange(1, size + 1)
    below = _sums(binomial[sets, ranks])  # of the members that keep their rank
    above = _sums(binomial[sets, ranks + 1])
    rows = []
    for p in range(num):
        rank = (sets < p).sum(1, keepdim=True)
        kept, raised = below.gather(1, rank), above[:, -1:] - above.gather(1, rank)
        place_of = (kept + raised + binomial[p, rank + 1]).squeeze(1)
        rows.append(torch.where((sets == p).any(1), -1, place_of).int())
    found = torch.stack(rows)
    return torch.where(found < 0, found.amax(0), found)


def _sums(terms: Tensor) -> Tensor:
    """Sums of the first 0, 1, … terms of each row."""
    return torch.nn.functional.pad(terms.cumsum(1), (1, 0))
