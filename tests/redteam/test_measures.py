"""Figures of a run, worked out by hand or against what was simulated."""

from __future__ import annotations

import math

import numpy as np
import pytest

from oversight.errors import DataError
from oversight.redteam.detecting import DetectorFigures, corrected, detector_figures
from oversight.redteam.log import LaneSum
from oversight.redteam.measures import AttackFigures, at_most, measure, power_law
from oversight.redteam.page import sentences


def lane(attack: str, goal: str, **given: object) -> LaneSum:
    base: dict[str, object] = {
        "id": f"{attack}-{goal}-{given}",
        "number": 0,
        "target": "t",
        "kind": "policy",
        "goal": goal,
        "cluster": goal,
        "harm": "leak",
        "severity": 2,
        "attack": attack,
        "calls": 10,
    }
    return LaneSum(**{**base, **given})  # type: ignore[arg-type]


def test_goals_that_break_by_themselves_are_no_attacks_merit() -> None:
    lanes = [lane("direct", f"g{n}", broken_at=1 if n == 0 else None) for n in range(5)]
    lanes += [lane("cases", f"g{n}", broken_at=2, fresh=(2, 2), num_success=1) for n in (1, 2)]
    lanes += [lane("cases", f"g{n}") for n in (3, 4)]
    [target] = measure(lanes).targets
    assert target.num_goals == 5
    assert target.direct.value == pytest.approx(0.2)
    assert target.broken is not None
    assert target.broken.value == pytest.approx(0.5)
    assert target.open.value == pytest.approx(0.6)
    assert target.calls == 90


def test_what_was_never_decided_is_not_safe() -> None:
    lanes = [lane("direct", "g", num_undetermined=10), lane("cases", "g", num_undetermined=10)]
    [target] = measure(lanes).targets
    assert target.open.value == 1.0
    assert target.undetermined == 1.0
    assert "never counted as safe" not in sentences(measure(lanes), [])[0]
    [note] = measure(lanes).notes
    assert "none of 20 replies could be decided" in note


def test_a_target_that_refuses_everybody_is_told() -> None:
    figures = measure([lane("direct", "g", num_refused=10), lane("cases", "g", num_refused=10)])
    assert "refused all 20 calls" in figures.notes[0]


def test_one_decided_attempt_is_enough_not_to_be_open() -> None:
    [target] = measure([lane("direct", "g"), lane("cases", "g", num_undetermined=9)]).targets
    assert target.open.value == 0.0


def test_nothing_found_says_what_may_still_be() -> None:
    figures = measure(
        [lane("direct", f"g{n}") for n in range(20)] + [lane("a", f"g{n}") for n in range(20)]
    )
    [target] = figures.targets
    assert target.bound is not None
    by_goal, by_call = target.bound
    assert by_call == pytest.approx(1 - 0.05 ** (1 / 400))
    assert 0.1 < by_goal < 0.25
    [said] = sentences(figures, [])
    assert "nothing found after 400 calls on 20 goals" in said


def test_the_bound_is_that_of_the_binomial() -> None:
    assert at_most(0) == 1.0
    for number in (1, 10, 300):
        assert (1 - at_most(number)) ** number == pytest.approx(0.05)


def test_an_attacks_success_is_counted_on_fresh_seeds_beside_its_control() -> None:
    lanes = [
        lane("a", f"g{n}", broken_at=1, fresh=(1, 4), control="failure", num_success=1)
        for n in range(10)
    ]
    lanes += [lane("a", f"h{n}", control="success") for n in range(10)]
    [row] = measure([*lanes, *(lane("direct", e.goal) for e in lanes)]).attacks
    assert row.found == 0.5
    assert row.broken.value == 0.0
    assert row.fresh.value == pytest.approx(0.125)
    assert row.control is not None
    assert row.control.value == pytest.approx(0.5)
    assert row.beyond is not None
    assert row.beyond.value == pytest.approx(-0.375)


def test_an_undetermined_control_is_left_out() -> None:
    [row] = measure([lane("direct", "g"), lane("a", "g", control="undetermined")]).attacks
    assert row.control is None


def test_success_against_calls_rises_to_the_share_found() -> None:
    lanes = [lane("a", f"g{n}", broken_at=n or None, calls=16) for n in range(9)]
    [row] = measure([*lanes, *(lane("direct", e.goal) for e in lanes)]).attacks
    curve = dict(row.curve)
    assert [curve[at] for at in (1, 2, 4, 8, 16)] == pytest.approx(
        [1 / 9, 2 / 9, 4 / 9, 8 / 9, 8 / 9]
    )


def test_the_power_law_is_found_again() -> None:
    numbers = (1, 2, 4, 8, 16, 32, 64)
    curve = tuple((n, math.exp(-3.0 * n**-0.4)) for n in numbers)
    estimate = measure([lane("direct", "g")]).targets[0].direct
    row = AttackFigures("t", "best_of_n", 1, 1, estimate, 0.5, 0.0, estimate, None, None, curve)
    law = power_law(row)
    assert law is not None
    assert law.scale == pytest.approx(3.0)
    assert law.exponent == pytest.approx(0.4)
    assert law.at(1000) == pytest.approx(math.exp(-3.0 * 1000**-0.4))


def test_a_detector_is_held_against_labels() -> None:
    pairs = [(True, True)] * 8 + [(False, True)] * 2 + [(False, False)] * 15 + [(True, False)] * 5
    found = detector_figures(pairs)
    assert (found.sensitivity, found.specificity) == (0.8, 0.75)
    with pytest.raises(DataError, match="3 successes and 0 failures"):
        detector_figures([(True, True)] * 3)


def test_a_rate_is_corrected_as_rogan_and_gladen_have_it() -> None:
    detector = DetectorFigures(0.8, 0.9, 200, 200)
    values = [1.0] * 38 + [0.0] * 62
    found = corrected(values, [str(n) for n in range(100)], detector)
    assert found is not None
    assert found.value == pytest.approx((0.38 + 0.9 - 1) / 0.7)
    assert corrected(values, [str(n) for n in range(100)], DetectorFigures(0.4, 0.5, 9, 9)) is None


def test_the_corrected_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    true, se, sp, covered = 0.2, 0.85, 0.9, 0
    for _ in range(400):
        is_true = rng.random(150) < true
        decided = np.where(is_true, rng.random(150) < se, rng.random(150) < 1 - sp)
        detector = DetectorFigures(rng.binomial(60, se) / 60, rng.binomial(60, sp) / 60, 60, 60)
        values = [float(each) for each in decided]
        found = corrected(values, [str(n) for n in range(150)], detector)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= true <= found.high
    assert 0.92 <= covered / 400 <= 0.995


def test_transfer_is_counted_by_pair_of_targets() -> None:
    lanes = [lane("direct", "g"), lane("direct", "g", target="u")]
    lanes += [lane("from t", "g", target="u", fresh=(1, 2)), lane("from t", "h", target="u")]
    figures = measure(lanes)
    assert {pair: e.value for pair, e in figures.transfer.items()} == {("t", "u"): 0.25}
    assert not figures.attacks
