"""Agreement of raters on the same items, corrected for chance.

Ratings are one sequence a rater, a place for each unit, and None where a rating is missing. Of
nominal data they are any hashable values; of ordinal and interval data they are numbers.

Intervals resample whole units, or whole clusters of them where such are given, as ratings of one
unit, and of units about one question, are not independent of one another.

Shapes: R raters, U units, V values, P pairable ratings (those of units with at least two).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal, get_args

from oversight.aggregation import LEVEL

if TYPE_CHECKING:  # a viewer's first page waits for whatever is imported here
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.intp]

Ratings = Sequence[Hashable | None]
"""One rater's ratings, a place for each unit."""
Scale = Literal["nominal", "ordinal", "interval"]
"""Nominal values are equal or not; ordinal ones have an order; interval ones have distances."""

NUM_RESAMPLES = 1000
MIN_UNITS = 10
"""Units, or clusters of them, with two ratings or more from which there is an interval: of fewer
the resamples are too alike."""
ROUNDING = 1e-12
MOST_DRAWN = 5_000_000
"""Numbers of a bootstrap that are held at once."""


@dataclass(frozen=True, slots=True)
class AlphaEstimate:
    """Krippendorff's alpha with its percentile interval over resampled units."""

    value: float
    low: float | None
    """None where there are too few units, most resamples hold one value alone, or none differs."""
    high: float | None
    num_units: int
    """Units with at least two ratings."""
    num_ratings: int
    """Ratings of these units."""


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


def fleiss_kappa(raters: Sequence[Ratings]) -> float | None:
    """Fleiss' kappa of any number of raters (Fleiss 1971, "Measuring nominal scale agreement").

    The raters of one unit need not be those of another, but each unit has as many ratings; those
    of units without any are passed over. None where there are no units, or all ratings are one
    value.

    Raises:
        ValueError: Units have different numbers of ratings, or one: take Krippendorff's alpha.
    """
    units = [[value for value in unit if value is not None] for unit in zip(*raters, strict=True)]
    units = [unit for unit in units if unit]
    if not units:
        return None
    numbers = {len(unit) for unit in units}
    if len(numbers) > 1 or numbers == {1}:
        raise ValueError(
            f"units have {', '.join(map(str, sorted(numbers)))} ratings: Fleiss' kappa takes the "
            "same number of each, at least two; Krippendorff's alpha takes missing ones"
        )
    each = len(units[0])
    totals = Counter(value for unit in units for value in unit)
    expected = sum((number / (each * len(units))) ** 2 for number in totals.values())
    agreed = sum(number * (number - 1) for unit in units for number in Counter(unit).values())
    observed = agreed / (each * (each - 1) * len(units))
    return None if len(totals) == 1 else (observed - expected) / (1.0 - expected)


def krippendorff_alpha(raters: Sequence[Ratings], scale: Scale = "nominal") -> float | None:
    """Krippendorff's alpha of any number of raters, missing ratings allowed.

    1 - D_o / D_e (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability"): within a unit
    of m ratings each ordered pair counts 1 / (m - 1); units with fewer than two ratings count for
    nothing. The squared distance of two values is 1 of nominal data, their difference squared of
    interval data, and of ordinal data the square of the number of ratings from the middle of the
    one value's to the middle of the other's. None if no unit has two ratings, or if all ratings
    are one value.

    Raises:
        ConfigError: The scale is unknown, or values of an ordered scale are no finite numbers.
    """
    table = _table(raters, scale)
    return None if table is None else table.alpha(None)


def alpha_interval(
    raters: Sequence[Ratings],
    scale: Scale = "nominal",
    *,
    clusters: Sequence[Hashable] | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> AlphaEstimate | None:
    """Krippendorff's alpha with a percentile interval over resampled units; None where
    `krippendorff_alpha` is.

    Args:
        raters: Ratings of each rater.
        scale: Of the ratings.
        clusters: Cluster of each unit, such as its question, by which units are resampled
            together; None where each is for itself.
        level: Coverage.
        num_resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ConfigError: As of `krippendorff_alpha`.
        ValueError: Clusters are not as many as units.
    """
    import numpy as np

    table = _table(raters, scale)
    value = None if table is None else table.alpha(None)
    if table is None or value is None:
        return None
    units, ratings = len(table.sizes_U), len(table.units_P)
    given = range(len(raters[0])) if clusters is None else clusters
    kept = [
        cluster
        for cluster, unit in zip(given, zip(*raters, strict=True), strict=True)
        if sum(each is not None for each in unit) > 1
    ]
    places: dict[Hashable, int] = {}
    cluster_U = np.array([places.setdefault(each, len(places)) for each in kept])
    number = len(places)
    if number < MIN_UNITS:
        return AlphaEstimate(value, None, None, units, ratings)
    rng = np.random.default_rng(seed)
    found: list[float] = []
    left = num_resamples
    while left:
        size = min(left, max(1, MOST_DRAWN // number))
        # Whole numbers drawn and counted: the same as a multinomial draw, in a tenth of its time.
        places_SC = rng.integers(number, size=(size, number)) + number * np.arange(size)[:, None]
        drawn_SC = np.bincount(places_SC.ravel(), minlength=size * number).reshape(size, number)
        found += table.resampled(drawn_SC, cluster_U)
        left -= size
    if 2 * len(found) < num_resamples:
        return AlphaEstimate(value, None, None, units, ratings)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(found, [tail, 1.0 - tail])
    if high - low < ROUNDING:
        return AlphaEstimate(value, None, None, units, ratings)
    return AlphaEstimate(value, float(low), float(high), units, ratings)


def pairwise_agreement(raters: Sequence[Ratings]) -> float | None:
    """Share of pairs of raters that gave a unit the same rating, over all units and pairs."""
    pairs = [pair for a, b in combinations(raters, 2) for pair in _both(a, b)]
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else None


def _both(first: Ratings, second: Ratings) -> list[tuple[Hashable, Hashable]]:
    return [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]


@dataclass(frozen=True, slots=True)
class _Table:
    """Pairable ratings: for each its unit and its value's place among the values."""

    scale: Scale
    units_P: Ints
    codes_P: Ints
    values_V: Floats
    """Of nominal data their places, which nothing is computed from."""
    sizes_U: Floats
    agreeing_U: Floats
    """Ordered pairs of equal ratings."""

    def resampled(self, drawn_SC: Ints, cluster_U: Ints) -> list[float]:
        """Alphas of so many of each cluster (S resamples, C clusters), without those that have
        none; of nominal data, all of whose sums are over units, of the clusters' sums at once."""
        import numpy as np

        if self.scale != "nominal":
            every = (self.alpha(drawn_C[cluster_U]) for drawn_C in drawn_SC)
            return [alpha for alpha in every if alpha is not None]
        kinds, clusters = len(self.values_V), drawn_SC.shape[1]
        cells = cluster_U[self.units_P] * kinds + self.codes_P
        totals_CV = np.bincount(cells, minlength=clusters * kinds).reshape(clusters, kinds)
        apart_U = self.sizes_U - self.agreeing_U / (self.sizes_U - 1.0)
        drawn = drawn_SC.astype(np.float64)
        totals_SV = drawn @ totals_CV
        observed_S = drawn @ np.bincount(cluster_U, apart_U, minlength=clusters)
        n_S = totals_SV.sum(1)
        expected_S = n_S**2 - (totals_SV**2).sum(1)
        bears_S = ((totals_SV > 0).sum(1) > 1) & (expected_S > ROUNDING)
        alphas = 1.0 - (n_S - 1.0)[bears_S] * observed_S[bears_S] / expected_S[bears_S]
        return [float(alpha) for alpha in alphas]

    def alpha(self, weight_U: Ints | None) -> float | None:
        """Alpha, each unit counted `weight_U` times."""
        import numpy as np

        weight = np.ones(len(self.sizes_U)) if weight_U is None else weight_U.astype(np.float64)
        totals_V = np.bincount(self.codes_P, weight[self.units_P], minlength=len(self.values_V))
        n = float(totals_V.sum())
        each_U = weight / (self.sizes_U - 1.0)
        if self.scale == "nominal":
            pairs = float((weight * self.sizes_U).sum())
            observed = pairs - float((each_U * self.agreeing_U).sum())
            expected = n * n - float((totals_V**2).sum())
        else:
            ranks_V = np.cumsum(totals_V) - totals_V / 2.0
            places_V = ranks_V if self.scale == "ordinal" else self.values_V
            # Distances are of differences alone; a shift keeps the squares small.
            places_V = places_V - float(totals_V @ places_V) / n
            at_P = places_V[self.codes_P]
            sums_U = np.bincount(self.units_P, at_P, minlength=len(self.sizes_U))
            squares_U = np.bincount(self.units_P, at_P**2, minlength=len(self.sizes_U))
            observed = 2.0 * float((each_U * (self.sizes_U * squares_U - sums_U**2)).sum())
            expected = 2.0 * n * float(totals_V @ places_V**2)
        if np.count_nonzero(totals_V) < 2 or expected <= ROUNDING:
            return None
        return 1.0 - (n - 1.0) * observed / expected


def _table(raters: Sequence[Ratings], scale: Scale) -> _Table | None:
    """The pairable ratings; None if there are none."""
    import numpy as np

    from oversight.errors import ConfigError

    if scale not in get_args(Scale):
        raise ConfigError(f"scale = {scale!r} is unknown. Accepted: {', '.join(get_args(Scale))}")
    given = [[value for value in unit if value is not None] for unit in zip(*raters, strict=True)]
    given = [unit for unit in given if len(unit) > 1]
    if not given:
        return None
    flat = [value for unit in given for value in unit]
    if scale == "nominal":
        index: dict[Hashable, int] = {}
        codes = np.array([index.setdefault(value, len(index)) for value in flat])
        values = np.arange(len(index), dtype=np.float64)
    else:
        try:
            numbers = np.array(flat, dtype=np.float64)
        except (TypeError, ValueError):
            numbers = np.array([np.nan])
        if not np.isfinite(numbers).all():
            raise ConfigError(
                f"scale = {scale!r} takes finite numbers, and some ratings are none: give numbers, "
                "None where one is missing, or take the scale 'nominal'"
            )
        values, codes = np.unique(numbers, return_inverse=True)
    sizes = [len(unit) for unit in given]
    units = np.repeat(np.arange(len(given)), sizes)
    cells, counts = np.unique(units * len(values) + codes, return_counts=True)
    agreeing = np.bincount(cells // len(values), counts * (counts - 1.0), minlength=len(sizes))
    number_U = np.array(sizes, dtype=np.float64)
    return _Table(scale, units, codes, values, number_U, agreeing.astype(np.float64))
