"""Proper scores of a belief once the right option is known; higher is better.

A score is proper if a judge expects most by stating what it believes. With p
the belief and c the right option (Gneiting and Raftery, 2007, section 3):

    log        ln p_c
    quadratic  1 - 1/2 * sum_k (p_k - [k = c])^2      the Brier score, turned round to [0, 1]
    spherical  p_c / sqrt(sum_k p_k^2)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

FLOOR = 1e-3
"""Probabilities below this count as this in the log score, which is infinite at 0. It bounds
what a single sure and wrong belief can cost at ln 0.001, about -6.9."""

ProperScore = Callable[[Sequence[float], int], float]


def log_score(probs: Sequence[float], correct: int) -> float:
    """Natural logarithm of the probability of the right option, which is floored at `FLOOR`."""
    return math.log(max(probs[correct], FLOOR))


def quadratic_score(probs: Sequence[float], correct: int) -> float:
    """1 minus the Brier score: 1 sure and right, 0 sure and wrong, 3/4 at even odds of two."""
    return 1.0 - brier(probs, correct)


def spherical_score(probs: Sequence[float], correct: int) -> float:
    """Probability of the right option over the length of the belief as a vector, in [0, 1]."""
    return probs[correct] / math.sqrt(math.fsum(p * p for p in probs))


def brier(probs: Sequence[float], correct: int) -> float:
    """Half the squared distance of the belief from certainty in the right option; 0 is best.

    Brier (1950) sums over the options; halved, it is in [0, 1] and for two
    options equal to (1 - p_c)^2, with 1/4 at even odds.
    """
    return 0.5 * math.fsum((p - (k == correct)) ** 2 for k, p in enumerate(probs))


SCORES: dict[str, ProperScore] = {
    "log": log_score,
    "quadratic": quadratic_score,
    "spherical": spherical_score,
}
