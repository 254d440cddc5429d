from __future__ import annotations

import math

from oversight.train.runs.schedules import EarlyStop


def test_it_is_due_after_so_many_results_without_a_better_one() -> None:
    stop = EarlyStop(patience=2)
    results = [3.0, 2.0, 2.5, 1.9, 1.9, math.nan]
    better = [stop.better(step, result) for step, result in enumerate(results)]
    assert better == [True, True, False, True, False, False]
    assert stop.is_due
    assert (stop.best, stop.best_step) == (1.9, 3)


def test_higher_can_be_better_and_small_gains_do_not_count() -> None:
    stop = EarlyStop(patience=1, min_delta=0.1, higher_is_better=True)
    assert stop.better(1, 0.5)
    assert not stop.better(2, 0.55)
    assert stop.is_due


def test_without_patience_it_never_is_due() -> None:
    stop = EarlyStop()
    for step in range(100):
        stop.better(step, float(step))
    assert not stop.is_due


def test_it_goes_on_from_its_state() -> None:
    stop = EarlyStop(patience=2)
    stop.better(1, 1.0)
    stop.better(2, 2.0)
    again = EarlyStop(patience=2)
    again.load_state_dict(stop.state_dict())
    assert not again.better(3, 1.5)
    assert again.is_due
