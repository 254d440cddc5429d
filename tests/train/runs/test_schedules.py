from __future__ import annotations

from itertools import pairwise

import pytest

from oversight.train.runs.schedules import Schedule, multiplier, warmup_steps

ALL: tuple[Schedule, ...] = ("constant", "linear", "cosine", "wsd")


@pytest.mark.parametrize("schedule", ALL)
def test_it_rises_in_a_line_to_1_and_never_rises_again(schedule: Schedule) -> None:
    rates = [multiplier(schedule, step, 100, warmup=9) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert all(a >= b for a, b in pairwise(rates[9:]))
    assert min(rates) > 0.0


@pytest.mark.parametrize("schedule", ALL[1:])
def test_it_ends_at_the_smallest_ratio_and_stays_there(schedule: Schedule) -> None:
    for step in (100, 150):
        assert multiplier(schedule, step, 100, 10, min_ratio=0.1) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("schedule", "half", "late"),
    [
        ("constant", 1.0, 1.0),
        ("linear", 0.5, 0.1),
        ("cosine", 0.5, 0.0244717),
        ("wsd", 1, 0.292893),
    ],
)
def test_values_worked_by_hand(schedule: Schedule, half: float, late: float) -> None:
    assert multiplier(schedule, 50, 100) == pytest.approx(half)
    assert multiplier(schedule, 90, 100) == pytest.approx(late, rel=1e-5)


def test_a_warm_up_is_a_number_of_steps_or_a_share() -> None:
    assert [warmup_steps(w, 100) for w in (0, 0.03, 0.5, 1, 7, 1000)] == [0, 3, 50, 1, 7, 100]


@pytest.mark.parametrize("schedule", ALL)
def test_a_run_of_one_step_moves(schedule: Schedule) -> None:
    assert multiplier(schedule, 0, 1, 0.03) > 0.0
