"""Agreement against numbers worked in the literature."""

import random

import pytest
from sklearn.metrics import cohen_kappa_score

from oversight.errors import ConfigError
from oversight.panels.agreement import (
    alpha_interval,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    pairwise_agreement,
)


def ratings(text):
    return [None if value == "." else value for value in text.split()]


def test_alpha_of_two_observers_of_nominal_data_as_published():
    # Krippendorff (2011), example B: alpha = .692
    first = ratings("a a b b d c c c e d d a")
    second = ratings("b a b b b c c c e d d d")
    assert krippendorff_alpha([first, second]) == pytest.approx(0.692, abs=5e-4)


def test_alpha_of_two_observers_of_binary_data_as_published():
    # Krippendorff (2011), example A: alpha = .095
    first = ratings("0 1 0 0 0 0 0 0 1 0")
    second = ratings("1 1 1 0 0 1 0 0 0 0")
    assert krippendorff_alpha([first, second]) == pytest.approx(0.095, abs=5e-4)


# Krippendorff (2011), example C: four observers, 12 units, some ratings missing.
FOUR = [
    ratings("1 2 3 3 2 1 4 1 2 . . ."),
    ratings("1 2 3 3 2 2 4 1 2 5 . 3"),
    ratings(". 3 3 3 2 3 4 2 2 5 1 ."),
    ratings("1 2 3 3 2 4 4 1 2 5 1 ."),
]


@pytest.mark.parametrize(
    ("scale", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_of_four_observers_with_missing_ratings_as_published(scale, published):
    assert krippendorff_alpha(FOUR, scale) == pytest.approx(published, abs=5e-4)


def test_alpha_of_words_has_no_order():
    with pytest.raises(ConfigError, match="scale = 'ordinal' takes finite numbers"):
        krippendorff_alpha([["good", "bad"], ["bad", "bad"]], "ordinal")
    with pytest.raises(ConfigError, match="scale = 'ratio' is unknown"):
        krippendorff_alpha(FOUR, "ratio")


# Fleiss (1971) as worked at large in the literature: 10 subjects, 14 raters, 5 categories.
TABLE = """0 0 0 0 14, 0 2 6 4 2, 0 0 3 5 6, 0 3 9 2 0, 2 2 8 1 1,
7 7 0 0 0, 3 2 6 3 0, 2 5 3 2 2, 6 5 2 1 0, 0 2 2 3 7"""


def of_table(text):
    """Ratings of raters from the numbers of raters by category, a row a unit."""
    rows = [[int(number) for number in row.split()] for row in text.split(",")]
    units = [[kind for kind, number in enumerate(row) for _ in range(number)] for row in rows]
    return [list(rater) for rater in zip(*units, strict=True)]


def test_fleiss_kappa_of_a_worked_table():
    assert fleiss_kappa(of_table(TABLE)) == pytest.approx(0.210, abs=5e-4)


def test_fleiss_kappa_takes_no_missing_ratings():
    with pytest.raises(ValueError, match="units have 1, 2, 3, 4 ratings"):
        fleiss_kappa(FOUR)
    assert fleiss_kappa([["a", "a"], ["a", "a"]]) is None


def noisy(rng, num_units, num_raters=3):
    """Binary ratings that are right in 80 of 100 cases, one in ten missing."""
    truth = [rng.random() < 0.5 for _ in range(num_units)]
    return [
        [None if rng.random() < 0.1 else t == (rng.random() < 0.8) for t in truth]
        for _ in range(num_raters)
    ]


def alpha_covered(num_simulations):
    """Share of intervals that hold alpha of the whole population, 0.36: (0.68 - 0.5) / 0.5."""
    found = [
        alpha_interval(noisy(random.Random(i), 120), seed=i, num_resamples=200)
        for i in range(num_simulations)
    ]
    return sum(each.low <= 0.36 <= each.high for each in found) / num_simulations


def test_intervals_of_alpha_cover_in_short():
    assert alpha_covered(20) >= 0.85


@pytest.mark.slow
def test_intervals_of_alpha_cover():
    assert 0.93 <= alpha_covered(400) <= 0.97


def test_alpha_has_no_interval_where_one_unit_was_rated_by_two():
    found = alpha_interval([["a", "b"], ["b", None]])
    assert found is not None
    assert (found.low, found.high, found.num_units) == (None, None, 1)


def test_units_about_one_question_are_resampled_together():
    raters = noisy(random.Random(3), 120)
    alone = alpha_interval(raters)
    together = alpha_interval([each * 4 for each in raters], clusters=list(range(120)) * 4)
    naive = alpha_interval([each * 4 for each in raters])
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.25)
    assert naive.high - naive.low < 0.7 * (together.high - together.low)
    few = alpha_interval(raters, clusters=[at % 9 for at in range(120)])
    assert (few.low, few.high) == (None, None)


def test_resamples_of_nominal_data_are_those_of_their_two_values_as_numbers():
    """Between two values every distance is alike, so that both ways give one interval."""
    raters = [[None if x is None else int(x) for x in each] for each in noisy(random.Random(4), 60)]
    by_sums, one_by_one = (
        alpha_interval(raters, scale, clusters=[at // 3 for at in range(60)], num_resamples=100)
        for scale in ("nominal", "interval")
    )
    for name in ("value", "low", "high"):
        assert getattr(by_sums, name) == pytest.approx(getattr(one_by_one, name), abs=1e-9)


def test_agreement_that_never_varies_has_no_interval_of_no_width():
    found = alpha_interval([["a", "b"] * 10, ["a", "b"] * 10])
    assert (found.value, found.low, found.high) == (1.0, None, None)


def test_kappa_of_a_worked_table():
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: (0.7 - 0.5) / 0.5
    first = ["y"] * 25 + ["n"] * 25
    second = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)


def test_kappa_equals_another_implementation_and_skips_missing():
    rng = random.Random(0)
    first = [rng.choice("abc") for _ in range(200)]
    second = [a if rng.random() < 0.6 else rng.choice("abc") for a in first]
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))
    assert cohen_kappa([*first, None, "a"], [*second, "a", None]) == pytest.approx(
        cohen_kappa(first, second)
    )


def test_perfect_agreement_is_one_and_nothing_to_compare_is_none():
    assert krippendorff_alpha([["a", "b"], ["a", "b"]]) == pytest.approx(1.0)
    assert cohen_kappa(["a", "b"], ["a", "b"]) == pytest.approx(1.0)
    assert krippendorff_alpha([["a", "a"], ["a", "a"]]) is None
    assert cohen_kappa(["a", "a"], ["a", "a"]) is None
    assert krippendorff_alpha([["a", None], [None, "b"]]) is None
    assert pairwise_agreement([["a", None], [None, "b"]]) is None


def test_pairwise_agreement_counts_pairs_of_raters():
    assert pairwise_agreement([["a", "b"], ["a", "c"], ["b", None]]) == pytest.approx(1 / 4)
