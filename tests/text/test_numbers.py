"""A share that is not all is not printed as all, and one that is not none not as none."""

from __future__ import annotations

import pytest

from oversight.evals.intervals import Estimate
from oversight.text.numbers import interval, per_cent, percent, points, share, unbroken


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.5, "50 %"),
        (0.994, "99 %"),
        (0.996, "99.6 %"),
        (0.004, "0.4 %"),
        (0.9996, "99.96 %"),
        (1 / 30_000, "0.003 %"),
        (sum([0.1] * 10), "100 %"),
        (0.1 + 0.2 - 0.3, "0 %"),
    ],
)
def test_a_share_is_whole_per_cent_unless_it_would_round_to_all_or_none(value, shown) -> None:
    assert percent(value) == shown


@pytest.mark.parametrize("whole", [10, 999, 12_345])
def test_all_but_one_is_not_all_and_one_is_not_none(whole) -> None:
    assert 0 < float(per_cent(1 / whole)) < 100
    assert 0 < float(per_cent((whole - 1) / whole)) < 100


def test_ends_of_an_interval_and_differences_are_told_apart_from_all_and_none() -> None:
    near = Estimate(0.996, 0.004, 0.9996, 500, 500, "wilson")
    assert interval(near) == "[0.40, 99.96]"
    assert share(near) == "99.6 % [0.40, 99.96]"
    assert points(Estimate(-0.0004, -0.997, 0.2, 9, 9, "cr2-t")) == ("−0.04 [−99.7, 20.0]")


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.001, 0.99, "[0.1, 99.0]"),
        (0.01, 0.996, "[1.0, 99.6]"),
        (0.0, 0.998, "[0.0, 99.8]"),
        (0.0, 1.0, "[0, 100]"),
        (0.71, 0.81, "[71, 81]"),
        (-0.00004, 0.2, "[−0.004, 20.000]"),
    ],
)
def test_both_ends_of_an_interval_have_like_decimals(low: float, high: float, said: str) -> None:
    assert interval(Estimate(0.5, low, high, 9, 9, "wilson")) == said


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        (
            "right: 67 % [4, 99] of 12 debates",
            ["right:", "67\xa0%\xa0[4,\xa099]", "of", "12", "debates"],
        ),
        ("−12 [−19.5, 5.0], less", ["−12\xa0[−19.5,\xa05.0],", "less"]),
        ("0.21 [−0.15, 0.28]", ["0.21\xa0[−0.15,\xa00.28]"]),
        (
            "in 5, 6 cases [1]; 95 % intervals",
            ["in", "5,", "6", "cases", "[1];", "95\xa0%", "intervals"],
        ),
        ("", []),
    ],
)
def test_no_line_breaks_within_an_estimate(text: str, pieces: list[str]) -> None:
    assert unbroken(text).split(" ") == (pieces or [""])
    assert unbroken(text).replace("\xa0", " ") == text
