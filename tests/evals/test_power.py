"""Power of a comparison: held against simulated studies, and against formulas worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from oversight.cli.main import run
from oversight.errors import ConfigError
from oversight.evals.power import (
    PowerPlan,
    intraclass,
    pilot,
    power,
    questions_needed,
    simulated_power,
    smallest_difference,
)

PLANS = (
    PowerPlan(0.15, accuracy=0.6, correlation=0.3),
    PowerPlan(0.15, accuracy=0.6, correlation=0.0),
    PowerPlan(0.12, accuracy=0.65, rulings=4, icc=0.4, correlation=0.3),
    PowerPlan(0.2, accuracy=0.6, paired=False),
    PowerPlan(0.2, accuracy=0.5, correlation=0.4, comparisons=5),
)


def test_the_variance_is_that_of_two_binomials_and_their_covariance():
    plan = PowerPlan(0.1, accuracy=0.7, rulings=3, icc=0.2, correlation=0.25)
    own = (0.21 + 0.16) * (1 + 2 * 0.2) / 3
    assert plan.variance == pytest.approx(own - 2 * 0.25 * (0.21 * 0.16) ** 0.5)
    assert replace(plan, paired=False).variance == pytest.approx(own)


def test_many_questions_are_those_of_the_normal_formula():
    plan = PowerPlan(0.02, accuracy=0.7, correlation=0.0)
    by_hand = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) ** 2 * plan.variance / 0.02**2
    assert questions_needed(plan) == pytest.approx(by_hand, rel=0.001)


def test_the_number_is_the_least_one():
    for plan in PLANS:
        number = questions_needed(plan, 0.8)
        assert power(plan, number) >= 0.8 > power(plan, number - 1)


def test_pairing_saves_questions_and_comparisons_cost_them():
    plan = PowerPlan(0.1)
    assert questions_needed(plan) < questions_needed(replace(plan, correlation=0.0))
    alone = questions_needed(replace(plan, paired=False))
    assert questions_needed(replace(plan, correlation=0.0)) == pytest.approx(alone, abs=2)
    assert questions_needed(replace(plan, comparisons=6)) > questions_needed(plan)
    assert questions_needed(replace(plan, rulings=4)) < questions_needed(plan)


def test_the_smallest_difference_is_where_the_power_is():
    plan = PowerPlan(0.5, accuracy=0.4)
    least = smallest_difference(plan, 150)
    assert power(replace(plan, difference=least), 150) == pytest.approx(0.8, abs=1e-6)
    assert smallest_difference(PowerPlan(0.001, accuracy=0.98), 20) is None


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_power_is_what_simulated_studies_find(plan):
    number = questions_needed(plan, 0.8)
    assert simulated_power(plan, number, num_simulations=200, seed=2) == pytest.approx(0.8, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_power_is_what_thousands_of_simulated_studies_find(plan):
    number = questions_needed(plan, 0.8)
    found = simulated_power(plan, number, num_simulations=3000, seed=1)
    print(f"{number} questions: planned {power(plan, number):.3f}, simulated {found:.3f}")
    assert found == pytest.approx(0.8, abs=0.03)


def test_without_a_difference_few_studies_find_one():
    plan = PowerPlan(1e-9, accuracy=0.6, rulings=3, icc=0.3)
    assert simulated_power(plan, 80, num_simulations=300, seed=0) < 0.09


def test_a_pilot_tells_what_was_simulated():
    rng = np.random.default_rng(0)
    hard = rng.beta(2.1, 0.9, size=3000)
    arms = [
        [(q, float(rng.random() < 0.9 * rate)) for q, rate in enumerate(hard) for _ in range(3)]
        for _ in range(2)
    ]
    found = pilot(*arms)
    # One latent rate for both: rulings of one arm are as alike as those of two.
    alike = 0.81 * hard.var() / (0.63 * 0.37)
    assert found.accuracies == (pytest.approx(0.63, abs=0.01), pytest.approx(0.63, abs=0.01))
    assert found.icc == pytest.approx(alike, abs=0.02)
    assert found.correlation == pytest.approx(alike, abs=0.02)
    assert (found.rulings, found.num_questions) == (3.0, 3000)


def test_a_pilot_that_cannot_tell_says_so():
    found = pilot([(q, q % 2) for q in range(5)], [(q, 1.0) for q in range(5)])
    assert (found.icc, found.correlation) == (None, None)
    with pytest.raises(ConfigError, match="a pilot needs rulings in both arms"):
        pilot([], [(0, 1.0)])


def test_the_intraclass_correlation_is_that_of_a_worked_example():
    # Three groups of two: means 1, 2, 6; MSB = 14, MSW = 1 (1/2 each way), n0 = 2.
    groups = [[0.5, 1.5], [1.5, 2.5], [5.5, 6.5]]
    between, within = 2 * (4 + 1 + 9) / 2, 6 * 0.25 / 3
    assert intraclass(groups) == pytest.approx((between - within) / (between + within))
    assert intraclass([[1.0], [0.0]]) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"difference": 0.0}, "difference=0.0: is to be a number between 0 and 1"),
        ({"difference": 0.4}, "0.7 and this are above 1"),
        ({"accuracy": 1.0}, "accuracy=1.0"),
        ({"rulings": 0}, "rulings=0"),
        ({"icc": -0.1}, "icc=-0.1: is to be a number from 0 to 1"),
        ({"correlation": 1.5}, "correlation=1.5"),
        ({"correlation": 1.0, "difference": 1e-9}, "cannot be that much alike"),
    ],
)
def test_plans_that_cannot_be_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        PowerPlan(**({"difference": 0.1} | changes))


def test_correlations_that_no_rulings_have_are_refused():
    with pytest.raises(ConfigError, match="cannot be that much alike"):
        simulated_power(PowerPlan(0.45, accuracy=0.5, correlation=0.5), 30)
    with pytest.raises(ConfigError, match="no rulings have it with icc"):
        simulated_power(PowerPlan(0.05, rulings=3, icc=0.05, correlation=0.3), 30)


# --- the command -----------------------------------------------------------------


def said(capsys, args):
    code = run(["power", *args])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_the_command_tells_how_many_questions(capsys):
    code, out = said(capsys, ["-d", "0.1"])
    number = questions_needed(PowerPlan(0.1))
    assert code == 0
    assert f"{number} questions, each asked of both arms, show a difference of 10 points" in out
    assert "Questions needed" in out


def test_the_command_tells_what_so_many_questions_show(capsys):
    code, out = said(capsys, ["-n", "200"])
    least = smallest_difference(PowerPlan(0.1), 200)
    assert code == 0
    assert f"200 questions show with 80 %: {100 * least:.1f} points" in out
    code, out = said(capsys, ["-n", "200", "-d", "0.1", "--json"])
    assert f'"power": {power(PowerPlan(0.1), 200)}' in out


def test_the_command_takes_a_pilot(capsys, tmp_path):
    store = str(tmp_path / "pilot.db")
    for protocol in ("naive", "expert"):
        ask = ["debate", "-d", "world", "-p", protocol, "--limit", "12", "--no-live"]
        assert run([*ask, "--store", store]) == 0
    capsys.readouterr()
    code, out = said(capsys, ["-d", "0.05", "--accuracy", "0.6", "--pilot", store])
    assert code == 0
    assert "Pilot: " in out
    assert "12 questions asked of both" in out
    code, out = said(
        capsys, ["-d", "0.1", "--pilot", store, "--first", "debat", "--second", "naive"]
    )
    assert code == 2
    assert "--first 'debat': no such arm." in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "neither --difference nor --questions"),
        (["-d", "0.5"], "0.7 and this are above 1"),
        (["-d", "0.1", "--power", "1"], "power=1.0"),
        (["-n", "1"], "questions=1: fewer than two"),
        (["-d", "0.1", "--first", "debate"], "it is an arm of a pilot; name its store"),
        (["-d", "0.1", "--pilot", "nowhere.db"], "nowhere.db"),
    ],
)
def test_the_command_refuses_in_one_line(capsys, args, words):
    code, out = said(capsys, args)
    assert code == 2
    assert words in out
    assert out.count("\n") == 1
