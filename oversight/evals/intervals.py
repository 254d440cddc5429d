"""Intervals for a mean when observations come in clusters.

Several debates of one question are not independent of one another: a question
that is easy is easy each time. Every interval here is therefore clustered.

The main one is cluster-robust with the CR2 correction of Bell and McCaffrey
(2002) and a t quantile with Satterthwaite degrees of freedom (see Pustejovsky
and Tipton, 2018). For the mean of n values in G clusters of sizes n_g, with S_g the
sum of cluster g's residuals, that comes to

    V = (1 / n^2) * sum_g S_g^2 / (1 - n_g / n)

which with G clusters of one value each is the usual s^2 / n with G - 1 degrees.

Where that cannot be trusted (few clusters, a mean near its bounds, an interval that
would leave them) the Wilson interval takes its place, at the effective sample size
that V implies, never more than n (Korn and Graubard, 1998; Franco et al., 2019). Where
all values are equal V is 0 and says nothing: the effective size is then the number
of clusters. No interval has width zero.

The second method is the percentile bootstrap over whole clusters.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oversight.aggregation import LEVEL

MIN_CLUSTERS = 10
"""With fewer clusters than this the robust variance is itself too uncertain."""

MIN_EFFECTIVE = 5.0
"""Effective number of values expected on either side of a proportion, for a symmetric interval."""

NUM_RESAMPLES = 2000

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its interval."""

    value: float
    low: float | None
    """None where the data cannot tell: unbounded values that never vary."""
    high: float | None
    num: int
    num_clusters: int
    method: str
    """`cr2-t`, `wilson` (at the effective sample size), `bootstrap` or `none`."""

    @property
    def width(self) -> float | None:
        """Length of the interval, or None where there is none."""
        return None if self.low is None or self.high is None else self.high - self.low

    def excludes(self, value: float) -> bool:
        """True if the interval lies wholly to one side of `value`."""
        return self.low is not None and self.high is not None and not self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Spread:
    """Clustered variance of a mean, and how far it can be trusted."""

    mean: float
    variance: float
    degrees: float
    num: int
    num_clusters: int


def mean_interval(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    bounds: tuple[float, float] | None = (0.0, 1.0),
    level: float = LEVEL,
) -> Estimate:
    """The mean of `values` with an interval clustered by `clusters`.

    Args:
        values: One value an observation; at least one.
        clusters: The cluster that each observation belongs to, of the same length.
        bounds: Least and greatest possible value, or None if there are none.
        level: Coverage.

    Raises:
        ValueError: There are no values, their number is not that of the
            clusters, or one lies outside the bounds.
    """
    spread = clustered_spread(values, clusters)
    if bounds is not None:
        low, high = bounds
        if min(values) < low - 1e-9 or max(values) > high + 1e-9:
            raise ValueError(f"values in [{min(values)!r}, {max(values)!r}] exceed {bounds!r}")
    robust = _robust(spread, level)
    if bounds is None:
        return robust
    return robust if _trusted(robust, spread, bounds) else _wilson(spread, bounds, level)


def p_value(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    null: float = 0.0,
    bounds: tuple[float, float] | None = (-1.0, 1.0),
    level: float = LEVEL,
) -> float | None:
    """The two-sided p-value of the mean being `null`, by the test that `mean_interval` inverts.

    It is below 1 - level exactly where that interval leaves `null` out: a t test with CR2 variance
    and Satterthwaite's degrees of freedom, or Wilson's score test at the effective sample size.
    None where there is no interval either.

    Raises:
        ValueError: There are no values, or their number is not that of the clusters.
    """
    from scipy import stats

    spread = clustered_spread(values, clusters)
    robust = _robust(spread, level)
    if bounds is None or _trusted(robust, spread, bounds):
        if spread.variance == 0.0:
            return None
        t = abs(spread.mean - null) / math.sqrt(spread.variance)
        return float(2.0 * stats.t.sf(t, spread.degrees))
    scale = bounds[1] - bounds[0]
    p, expected = (spread.mean - bounds[0]) / scale, (null - bounds[0]) / scale
    size = _shrunk_size(spread, bounds, level)
    if expected in (0.0, 1.0):
        return 1.0 if p == expected else 0.0
    z = abs(p - expected) / math.sqrt(expected * (1.0 - expected) / size)
    return float(2.0 * stats.norm.sf(z))


def clustered_spread(values: Sequence[float], clusters: Sequence[Hashable]) -> Spread:
    """CR2 variance of the mean and its Satterthwaite degrees of freedom.

    The degrees are (tr W)^2 / tr(W^2), where W is the covariance that the
    corrected cluster sums would have were all values independent; for G equal
    clusters that is G - 1.
    """
    sums, sizes = _by_cluster(values, clusters)
    n = sizes.sum()
    mean = sums.sum() / n
    if len(sizes) < 2:
        return Spread(float(mean), 0.0, 0.0, int(n), 1)
    shrink = 1.0 - sizes / n
    residuals = sums - sizes * mean
    variance = float((residuals**2 / shrink).sum() / n**2)
    spill = sizes**2 / shrink
    square = (sizes**2).sum() + (spill.sum() ** 2 - (spill**2).sum()) / n**2
    spread_is_rounding = variance <= (1e-12 * max(1.0, abs(mean))) ** 2
    return Spread(
        mean=float(mean),
        variance=0.0 if spread_is_rounding else variance,
        degrees=float(n**2 / square),
        num=int(n),
        num_clusters=len(sizes),
    )


def bootstrap_interval(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """The mean with a percentile interval over resampled clusters; the second opinion.

    With one cluster, or where all clusters have one mean, resampling cannot
    vary and there is no interval.
    """
    sums, sizes = _by_cluster(values, clusters)
    mean = float(sums.sum() / sizes.sum())
    num, num_clusters = int(sizes.sum()), len(sizes)
    if num_clusters < 2 or np.ptp(sums / sizes) < 1e-12:
        return Estimate(mean, None, None, num, num_clusters, "none")
    rng = np.random.default_rng(seed)
    means = np.empty(num_resamples)
    chunk = max(1, 1_000_000 // num_clusters)
    for start in range(0, num_resamples, chunk):
        rows = min(chunk, num_resamples - start)
        drawn = rng.integers(num_clusters, size=(rows, num_clusters), dtype=np.int32)
        means[start : start + rows] = sums[drawn].sum(1) / sizes[drawn].sum(1)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Estimate(mean, float(low), float(high), num, num_clusters, "bootstrap")


def paired_difference(
    first: Sequence[tuple[Hashable, float]],
    second: Sequence[tuple[Hashable, float]],
    level: float = LEVEL,
    bounds: tuple[float, float] | None = (-1.0, 1.0),
) -> Estimate | None:
    """Mean of first minus second over the clusters that have both, each cluster counted once.

    None without a shared cluster, and no interval with a single one.

    Args:
        first: (cluster, value in [0, 1]) of each observation.
        second: The same of what is subtracted.
        level: Coverage.
        bounds: Of a difference; None for values without bounds.
    """
    gaps, shared = paired_gaps(first, second)
    if len(shared) == 1:
        return Estimate(gaps[0], None, None, 1, 1, "none")
    return mean_interval(gaps, shared, bounds=bounds, level=level) if shared else None


def paired_gaps(
    first: Sequence[tuple[Hashable, float]], second: Sequence[tuple[Hashable, float]]
) -> tuple[list[float], list[Hashable]]:
    """First minus second in each cluster that has both, and these clusters: each has one value."""
    one, two = cluster_means(first), cluster_means(second)
    shared = [cluster for cluster in one if cluster in two]
    return [one[cluster] - two[cluster] for cluster in shared], shared


def unpaired_difference(
    first: Sequence[float],
    first_clusters: Sequence[Hashable],
    second: Sequence[float],
    second_clusters: Sequence[Hashable],
    level: float = LEVEL,
) -> Estimate:
    """The mean of `first` minus that of `second`, of different observations.

    The variances of the two means are added, and the degrees of freedom are Welch's. Where a
    cluster is in both, as a question is that came with and without something, the two means
    vary together and the interval is wider than it need be.

    Raises:
        ValueError: One of them is empty, or its clusters are not as many.
    """
    one = clustered_spread(first, first_clusters)
    two = clustered_spread(second, second_clusters)
    variance = one.variance + two.variance
    parts = [(s.variance**2, s.degrees) for s in (one, two) if s.variance > 0.0]
    degrees = variance**2 / sum(v / d for v, d in parts) if parts else 0.0
    return _robust(
        Spread(
            mean=one.mean - two.mean,
            variance=variance if min(one.num_clusters, two.num_clusters) > 1 else 0.0,
            degrees=degrees,
            num=one.num + two.num,
            num_clusters=len({*first_clusters, *second_clusters}),
        ),
        level,
    )


def cluster_means(pairs: Iterable[tuple[Hashable, float]]) -> dict[Hashable, float]:
    """The mean of each cluster's values, from (cluster, value)."""
    grouped: dict[Hashable, list[float]] = {}
    for cluster, value in pairs:
        grouped.setdefault(cluster, []).append(value)
    return {cluster: math.fsum(values) / len(values) for cluster, values in grouped.items()}


def _by_cluster(values: Sequence[float], clusters: Sequence[Hashable]) -> tuple[Floats, Floats]:
    """Sum and size of each cluster."""
    if not len(values) or len(values) != len(clusters):
        raise ValueError(
            f"{len(values)} values and {len(clusters)} clusters: need as many, and one"
        )
    # Each cluster's number, in the order in which they come: one look-up for each value.
    index: dict[Hashable, int] = defaultdict(itertools.count().__next__)
    places = np.fromiter(map(index.__getitem__, clusters), dtype=np.intp, count=len(clusters))
    sums = np.bincount(places, weights=np.asarray(values, dtype=np.float64)).astype(np.float64)
    return sums, np.bincount(places).astype(np.float64)


def _quantile(level: float, degrees: float) -> float:
    """Of Student's t; `stats.t.ppf` takes milliseconds to come to the same."""
    from scipy import special

    p = 0.5 + level / 2.0
    return float(special.ndtri(p) if math.isinf(degrees) else special.stdtrit(degrees, p))


def _robust(spread: Spread, level: float) -> Estimate:
    if spread.variance == 0.0:
        return Estimate(spread.mean, None, None, spread.num, spread.num_clusters, "none")
    half = _quantile(level, spread.degrees) * math.sqrt(spread.variance)
    low, high = spread.mean - half, spread.mean + half
    return Estimate(spread.mean, low, high, spread.num, spread.num_clusters, "cr2-t")


def _trusted(robust: Estimate, spread: Spread, bounds: tuple[float, float]) -> bool:
    if robust.low is None or robust.high is None or spread.num_clusters < MIN_CLUSTERS:
        return False
    p = (spread.mean - bounds[0]) / (bounds[1] - bounds[0])
    inside = bounds[0] <= robust.low and robust.high <= bounds[1]
    return inside and _effective_size(spread, bounds) * min(p, 1.0 - p) >= MIN_EFFECTIVE


def _effective_size(spread: Spread, bounds: tuple[float, float]) -> float:
    """Number of independent yes-or-no values of the same uncertainty, at most those there are."""
    scale = bounds[1] - bounds[0]
    p = min(max((spread.mean - bounds[0]) / scale, 0.0), 1.0)
    if spread.variance == 0.0 or p in (0.0, 1.0):
        return float(spread.num_clusters)
    return min(p * (1.0 - p) / (spread.variance / scale**2), float(spread.num))


def _shrunk_size(spread: Spread, bounds: tuple[float, float], level: float) -> float:
    """The effective size, shrunk by the price of few degrees of freedom."""
    size = _effective_size(spread, bounds)
    if spread.variance == 0.0:
        return size
    return size * (_quantile(level, math.inf) / _quantile(level, spread.degrees)) ** 2


def _wilson(spread: Spread, bounds: tuple[float, float], level: float) -> Estimate:
    """Wilson's interval at the effective size."""
    scale = bounds[1] - bounds[0]
    p = min(max((spread.mean - bounds[0]) / scale, 0.0), 1.0)
    z = _quantile(level, math.inf)
    size = _shrunk_size(spread, bounds, level)
    centre = (p + z * z / (2.0 * size)) / (1.0 + z * z / size)
    half = z / (1.0 + z * z / size) * math.sqrt(p * (1.0 - p) / size + z * z / (4.0 * size * size))
    low = bounds[0] + scale * max(0.0, min(centre - half, p))
    high = bounds[0] + scale * min(1.0, max(centre + half, p))
    return Estimate(spread.mean, low, high, spread.num, spread.num_clusters, "wilson")
