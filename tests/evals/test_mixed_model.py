"""The mixed model: known effects come back, and data that cannot bear it are flagged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from oversight.evals.mixed_model import mixed_model
from oversight.evals.report import build_report
from oversight.evals.tables import tables


def study(rng, num_questions=60, rulings=4, gain=0.15, overlap=1.0):
    """(arms, questions, values): the second arm gains so much on every question; it was asked the
    part `overlap` of the questions of the first one, and others."""
    hard = rng.beta(3.3, 2.7, size=2 * num_questions) * (1 - gain)
    first = range(num_questions)
    start = round((1 - overlap) * num_questions)
    second = range(start, start + num_questions)
    rows = [
        (arm, q, float(rng.random() < hard[q] + more))
        for arm, of, more in (("plain", first, 0.0), ("better", second, gain))
        for q in of
        for _ in range(rulings)
    ]
    return tuple(zip(*rows, strict=True)), 0.55 * (1 - gain)


def covered(num, seed=11, **how):
    rng = np.random.default_rng(seed)
    shares = gains = 0
    for _ in range(num):
        data, truth = study(rng, **how)
        plain, better = mixed_model(*data).effects
        shares += plain.share.low <= truth <= plain.share.high
        gains += better.difference.low <= 0.15 <= better.difference.high
    return shares / num, gains / num


def test_known_effects_are_covered_in_a_few_studies():
    assert min(covered(30)) >= 0.85


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("overlap", [1.0, 0.5])
def test_known_effects_are_covered_in_93_to_97_of_a_hundred_studies(overlap):
    shares, gains = covered(400, overlap=overlap)
    print(f"overlap {overlap}: share {100 * shares:.1f} %, difference {100 * gains:.1f} %")
    assert 0.93 <= shares <= 0.97
    assert 0.93 <= gains <= 0.97


def test_the_part_between_questions_is_found():
    data, _ = study(np.random.default_rng(0), num_questions=1500, gain=0.0)
    fit = mixed_model(*data)
    assert fit.icc == pytest.approx(1 / 7, abs=0.02)  # of Beta(3.3, 2.7)
    assert fit.sd_question == pytest.approx((0.55 * 0.45 / 7) ** 0.5, abs=0.02)


NOTHING_LEFT = "nothing differs but arms and questions"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((["a", "b"], ["q", "q"], [0.0, 1.0]), "1 question for 2 arms: too few"),
        ((["a"] * 9, range(9), [0.0, 1.0, 1.0] * 3), "no question has two rulings"),
        ((["a"] * 9, [0, 0, 1, 1, 2, 2, 3, 3, 4], [1.0] * 9), "every ruling has the same score"),
        ((["a"] * 12 + ["b"] * 12, [*range(6)] * 4, [1.0] * 12 + [0.0] * 12), NOTHING_LEFT),
        ((["a"] * 12 + ["b"] * 12, [*range(12)] * 2, [0.0, 1.0] * 12), NOTHING_LEFT),
    ],
)
def test_data_that_cannot_bear_it_have_a_flag_and_no_number(data, words):
    fit = mixed_model(*data)
    assert fit.icc is None
    for each in fit.effects:
        assert each.share is each.difference is None
        assert words in each.flag


def test_lists_have_to_be_as_long():
    with pytest.raises(ValueError, match="1 arms, 2 questions and 1 values: need as many"):
        mixed_model(["a"], ["q", "r"], [1.0])


def by_matrices(icc, arms, questions, values):
    """Restricted deviance, means and their covariance from the definition, with whole matrices."""
    names = list(dict.fromkeys(arms))
    X = np.array([[arm == name for name in names] for arm in arms], dtype=float)
    Z = np.array([[q == own for own in dict.fromkeys(questions)] for q in questions], dtype=float)
    V = np.eye(len(values)) + icc / (1 - icc) * Z @ Z.T
    inverse = np.linalg.inv(V)
    normal = X.T @ inverse @ X
    means = np.linalg.solve(normal, X.T @ inverse @ values)
    rest = values - X @ means
    degrees = len(values) - len(names)
    within = rest @ inverse @ rest / degrees
    logs = degrees * np.log(within) + np.linalg.slogdet(V)[1] + np.linalg.slogdet(normal)[1]
    return logs, means, within * np.linalg.inv(normal)


@pytest.mark.parametrize("seed", range(6))
def test_the_fit_is_the_most_likely_one_by_the_definition(seed):
    data, _ = study(np.random.default_rng(seed), num_questions=25, overlap=0.6)
    fit = mixed_model(*data)
    least, means, covariance = by_matrices(fit.icc, *data)
    grid = np.linspace(0.0, 0.6, 61)
    assert least <= min(by_matrices(icc, *data)[0] for icc in grid) + 1e-6
    plain, better = fit.effects
    assert [plain.share.value, better.share.value] == pytest.approx(list(means))
    quantile = stats.t.ppf(0.975, len(set(data[1])) - 2)
    assert plain.share.width / 2 == pytest.approx(quantile * covariance[0, 0] ** 0.5)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert better.difference.value == pytest.approx(means[1] - means[0])
    assert better.difference.width / 2 == pytest.approx(quantile * variance**0.5)


@pytest.mark.parametrize("seed", range(3))
def test_the_fit_is_that_of_statsmodels_where_that_converges(seed):
    from statsmodels.regression.mixed_linear_model import MixedLM

    (arms, questions, values), _ = study(np.random.default_rng(seed), num_questions=40)
    design = np.array([[1.0, float(arm == "better")] for arm in arms])
    peer = MixedLM(np.array(values), design, np.array(questions)).fit(reml=True)
    assert peer.converged
    fit = mixed_model(arms, questions, values)
    plain, better = fit.effects
    means = [plain.share.value, better.difference.value]
    assert means == pytest.approx(list(peer.fe_params), abs=1e-5)
    quantile = stats.t.ppf(0.975, len(set(questions)) - 2)
    half = [plain.share.width / 2, better.difference.width / 2]
    assert half == pytest.approx(list(quantile * peer.bse_fe), rel=1e-3)
    between = float(peer.cov_re[0, 0])
    assert fit.sd_question == pytest.approx(between**0.5, rel=1e-2)
    assert fit.icc == pytest.approx(between / (between + peer.scale), rel=1e-2)


def test_questions_that_do_not_differ_leave_the_means_as_they_are():
    values = [0.0, 1.0] * 30
    fit = mixed_model(["a"] * 60, [n // 2 for n in range(60)], values)
    assert fit.icc == 0.0
    assert fit.effects[0].share.value == pytest.approx(0.5)


def test_the_model_stands_in_the_report_of_several_arms(simulated, protocols):
    made = [t for name in ("debate", "naive") for t in simulated(40, protocols[name], 0.7)]
    assert build_report(made[:40]).mixed is None
    report = build_report(made)
    table = next(table for table in tables(report) if table.title == "Mixed model")
    assert [row[0] for row in table.rows] == ["debate", "naive"]
    assert "of the variance lies between them" in table.note


def test_no_interval_is_wider_than_a_share_can_be():
    arms = ["a"] * 12 + ["b"] * 12
    questions = [*range(6), *range(6)] * 2
    values = [1.0] * 11 + [0.0] + [1.0] * 10 + [0.0, 0.0]
    found = mixed_model(arms, questions, values)
    assert all(each.share.low >= 0.0 and each.share.high <= 1.0 for each in found.effects)
    assert any(each.share.high == 1.0 for each in found.effects)
