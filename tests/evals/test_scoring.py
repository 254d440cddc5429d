import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.evals.calibration import (
    FLOOR,
    SCORES,
    brier,
    log_score,
    quadratic_score,
    spherical_score,
)


def simplex(size):
    weights = st.lists(st.floats(0.01, 1.0), min_size=size, max_size=size)
    return weights.map(lambda values: [v / sum(values) for v in values])


def test_scores_by_hand():
    assert log_score((0.8, 0.2), 0) == pytest.approx(math.log(0.8))
    assert brier((0.8, 0.2), 0) == pytest.approx(0.04)
    assert quadratic_score((0.8, 0.2), 1) == pytest.approx(1 - 0.64)
    assert spherical_score((0.6, 0.4), 0) == pytest.approx(0.6 / math.sqrt(0.52))
    assert brier((0.5, 0.3, 0.2), 0) == pytest.approx((0.25 + 0.09 + 0.04) / 2)


def test_a_sure_and_wrong_belief_costs_the_floor():
    assert log_score((0.0, 1.0), 0) == pytest.approx(math.log(FLOOR))


@pytest.mark.parametrize("name", SCORES)
@given(truth=simplex(3), stated=simplex(3))
def test_stating_what_one_believes_is_best(name, truth, stated):
    def expected(belief):
        return sum(p * SCORES[name](belief, k) for k, p in enumerate(truth))

    assert expected(truth) >= expected(stated) - 1e-9


@pytest.mark.parametrize("name", SCORES)
def test_more_belief_in_the_right_option_scores_more(name):
    values = [SCORES[name]((p / 10, 1 - p / 10), 0) for p in range(11)]
    assert values == sorted(values)
    assert values[0] < values[-1]
