"""Intervals against formulas worked by hand, other implementations, and simulated coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from oversight.evals.intervals import (
    bootstrap_interval,
    clustered_spread,
    mean_interval,
    paired_difference,
)


def test_one_value_a_cluster_is_the_usual_t_interval():
    values = [0.2, 0.5, 0.4, 0.7, 0.6, 0.3, 0.5, 0.4, 0.6, 0.5, 0.35, 0.55]
    got = mean_interval(values, range(len(values)))
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
    assert (got.low, got.high, got.method) == (
        pytest.approx(low),
        pytest.approx(high),
        "cr2-t",
    )


def test_variance_of_unequal_clusters_by_hand():
    # Clusters of 1, 2 and 3 values; mean 3/6; sums of residuals 1/2, -1, 1/2.
    spread = clustered_spread([1, 0, 0, 1, 1, 0], ["a", "b", "b", "c", "c", "c"])
    by_hand = (0.25 / (1 - 1 / 6) + 1.0 / (1 - 2 / 6) + 0.25 / (1 - 3 / 6)) / 36
    assert spread.variance == pytest.approx(by_hand)


@pytest.mark.parametrize("sizes", [(2, 2, 2, 2), (1, 2, 3, 9), (1, 1, 7)])
def test_degrees_of_freedom_equal_the_definition_by_matrices(sizes):
    clusters = [g for g, size in enumerate(sizes) for _ in range(size)]
    n = len(clusters)
    centring = np.eye(n) - 1.0 / n
    rows = [
        np.array([c == g for c in clusters]) @ centring / np.sqrt(1 - size / n)
        for g, size in enumerate(sizes)
    ]
    omega = np.array(rows) @ np.array(rows).T
    expected = np.trace(omega) ** 2 / np.trace(omega @ omega)
    got = clustered_spread(list(np.linspace(0, 1, n)), clusters).degrees
    assert got == pytest.approx(expected)
    if len(set(sizes)) == 1:
        assert got == pytest.approx(len(sizes) - 1)


def test_debates_repeated_on_the_same_questions_do_not_narrow_the_interval():
    values = [1, 0, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0]
    once = mean_interval(values, range(16))
    thrice = mean_interval(values * 3, list(range(16)) * 3)
    assert thrice.low == pytest.approx(once.low)
    assert thrice.high == pytest.approx(once.high)
    assert thrice.num == 48


def test_few_independent_values_get_wilsons_interval():
    values = [1.0, 1.0, 0.0, 1.0]
    got = mean_interval(values, range(4))
    assert got.method == "wilson"
    assert 0.0 < got.low < 0.3
    assert 0.9 < got.high <= 1.0


def test_all_right_is_wilsons_interval_of_the_clusters():
    got = mean_interval([1.0] * 40, [i // 2 for i in range(40)])
    wilson = stats.binomtest(20, 20).proportion_ci(0.95, method="wilson")
    assert got.low == pytest.approx(wilson.low)
    assert got.high == 1.0


def test_a_single_debate_has_a_wide_interval():
    got = mean_interval([1.0], ["q"])
    assert (got.low, got.high) == (pytest.approx(0.2065, abs=1e-4), 1.0)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 8)), min_size=1, max_size=60
    )
)
def test_no_interval_is_empty_leaves_its_bounds_or_misses_its_mean(pairs):
    got = mean_interval([v for v, _ in pairs], [c for _, c in pairs])
    assert 0.0 <= got.low <= got.value + 1e-12
    assert got.value - 1e-12 <= got.high <= 1.0
    assert got.width > 1e-3


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=30),
    st.randoms(),
)
def test_the_order_of_observations_does_not_matter(pairs, rng):
    mixed = list(pairs)
    rng.shuffle(mixed)
    one = mean_interval([v for v, _ in pairs], [c for _, c in pairs])
    two = mean_interval([v for v, _ in mixed], [c for _, c in mixed])
    assert (one.low, one.high) == (pytest.approx(two.low), pytest.approx(two.high))


@pytest.mark.parametrize(("num_questions", "rate"), [(15, 0.6), (60, 0.9), (8, 0.5), (40, 0.97)])
def test_coverage_is_near_its_level(num_questions, rate):
    rng = np.random.default_rng(1)
    covered = 0
    trials = 600
    for _ in range(trials):
        rates = rng.beta(rate * 4, (1 - rate) * 4, size=num_questions)
        sizes = rng.integers(1, 5, size=num_questions)
        values = [
            float(rng.random() < r) for r, s in zip(rates, sizes, strict=True) for _ in range(s)
        ]
        clusters = [i for i, s in enumerate(sizes) for _ in range(s)]
        got = mean_interval(values, clusters)
        covered += got.low <= rate <= got.high
    assert 0.92 <= covered / trials <= 0.995


def test_ignoring_clusters_would_cover_too_little():
    rng = np.random.default_rng(2)
    clustered = naive = 0
    for _ in range(300):
        rates = rng.beta(0.6, 0.6, size=25)
        values = [float(rng.random() < r) for r in rates for _ in range(6)]
        own = mean_interval(values, [i // 6 for i in range(150)])
        alone = mean_interval(values, range(150))
        clustered += own.low <= 0.5 <= own.high
        naive += alone.low <= 0.5 <= alone.high
    assert clustered / 300 > 0.92
    assert naive / 300 < 0.8


def test_bootstrap_agrees_with_the_robust_interval_and_is_seeded():
    rng = np.random.default_rng(0)
    values = [float(rng.random() < 0.6) for _ in range(400)]
    clusters = [i // 4 for i in range(400)]
    robust = mean_interval(values, clusters)
    one = bootstrap_interval(values, clusters, seed=7)
    assert one == bootstrap_interval(values, clusters, seed=7)
    assert one != bootstrap_interval(values, clusters, seed=8)
    assert one.low == pytest.approx(robust.low, abs=0.015)
    assert one.high == pytest.approx(robust.high, abs=0.015)


def test_bootstrap_says_nothing_where_nothing_varies():
    for values in ([1.0], [1.0, 1.0, 1.0]):
        got = bootstrap_interval(values, range(len(values)))
        assert (got.low, got.high, got.method) == (None, None, "none")


def test_unbounded_values_that_never_vary_have_no_interval():
    got = mean_interval([-3.0, -3.0], ["a", "b"], bounds=None)
    assert (got.value, got.low, got.method) == (-3.0, None, "none")


def test_paired_differences_use_only_questions_that_both_have():
    first = [("q1", 1.0), ("q1", 0.0), ("q2", 1.0), ("only", 0.0)]
    second = [("q1", 0.0), ("q2", 1.0), ("other", 1.0)]
    got = paired_difference(first, second)
    assert got.value == pytest.approx((0.5 + 0.0) / 2)
    assert got.num_clusters == 2
    assert -1.0 <= got.low < 0.25 < got.high <= 1.0
    assert paired_difference(first, [("other", 1.0)]) is None


def test_a_difference_that_is_always_the_same_is_not_certain():
    got = paired_difference([(i, 1.0) for i in range(3)], [(i, 1.0) for i in range(3)])
    assert got.value == 0.0
    assert got.low < -0.2
    assert got.high > 0.2


@pytest.mark.parametrize(("values", "clusters"), [([], []), ([1.0], []), ([2.0], ["q"])])
def test_values_that_cannot_be_are_refused(values, clusters):
    with pytest.raises(ValueError, match=r"clusters|exceed"):
        mean_interval(values, clusters)
