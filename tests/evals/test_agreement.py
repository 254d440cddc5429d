"""Agreement against numbers worked in the literature."""

import random

import pytest
from sklearn.metrics import cohen_kappa_score

from oversight.aggregation import cohen_kappa, krippendorff_alpha, pairwise_agreement


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


def test_alpha_of_four_observers_with_missing_ratings_as_published():
    # Krippendorff (2011), example C: nominal alpha = .743
    raters = [
        ratings("1 2 3 3 2 1 4 1 2 . . ."),
        ratings("1 2 3 3 2 2 4 1 2 5 . 3"),
        ratings(". 3 3 3 2 3 4 2 2 5 1 ."),
        ratings("1 2 3 3 2 4 4 1 2 5 1 ."),
    ]
    assert krippendorff_alpha(raters) == pytest.approx(0.743, abs=5e-4)


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
