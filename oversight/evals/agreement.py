"""Agreement of judges beyond chance, on nominal ratings some of which may be missing.

A rating is any hashable value; None is a missing one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from itertools import combinations

Ratings = Sequence[Hashable | None]
"""One rater's ratings, a place for each unit."""


def cohen_kappa(first: Ratings, second: Ratings) -> float | None:
    """Cohen's kappa of two raters over the units that both rated (Cohen, 1960).

    (p_o - p_e) / (1 - p_e): observed agreement against that of two raters who
    keep their own rates of each value but rate at random. None if no unit
    was rated by both, or if chance alone agrees always (both used one value).
    """
    pairs = _both(first, second)
    if not pairs:
        return None
    n = len(pairs)
    observed = sum(a == b for a, b in pairs) / n
    rates_a, rates_b = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    expected = sum(number * rates_b[value] for value, number in rates_a.items()) / n**2
    return None if expected == 1.0 else (observed - expected) / (1.0 - expected)


def krippendorff_alpha(raters: Sequence[Ratings]) -> float | None:
    """Krippendorff's alpha for nominal data, any number of raters, missing ratings allowed.

    1 - D_o / D_e from the coincidence matrix (Krippendorff, 2011): within a unit of m ratings
    each ordered pair counts 1 / (m - 1); units with fewer than two ratings count
    for nothing. None if no unit has two ratings, or if all ratings are one value.
    """
    coincidences: dict[tuple[Hashable, Hashable], float] = defaultdict(float)
    for unit in zip(*raters, strict=True):
        given = [value for value in unit if value is not None]
        for i, a in enumerate(given):
            for j, b in enumerate(given):
                if i != j:
                    coincidences[a, b] += 1 / (len(given) - 1)
    totals: dict[Hashable, float] = {}
    for (a, _), weight in coincidences.items():
        totals[a] = totals.get(a, 0.0) + weight
    n = sum(totals.values())
    expected = n * n - sum(total * total for total in totals.values())
    if n == 0 or expected <= 1e-12:
        return None
    disagreeing = sum(weight for (a, b), weight in coincidences.items() if a != b)
    return 1.0 - (n - 1.0) * disagreeing / expected


def pairwise_agreement(raters: Sequence[Ratings]) -> float | None:
    """Share of pairs of raters that gave a unit the same rating, over all units and pairs."""
    pairs = [pair for a, b in combinations(raters, 2) for pair in _both(a, b)]
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else None


def _both(first: Ratings, second: Ratings) -> list[tuple[Hashable, Hashable]]:
    return [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
