"""Known truth lies in the intervals of simulated studies as often as they say.

Each study has questions of different difficulty with several rulings each. The short form runs
always; the long one, 400 studies a statistic held between 93 and 97 %, is slow.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from oversight.evals.accuracy import Treatment, treated_accuracy
from oversight.evals.calibration import brier, priced_log_score
from oversight.evals.comparisons import gap_recovered
from oversight.evals.course import belief_by_turn
from oversight.evals.intervals import (
    bootstrap_interval,
    mean_interval,
    paired_difference,
    unpaired_difference,
)
from oversight.evals.winning import agent_score_difference, clustered_correlation
from oversight.types import Verdict

QUESTIONS, RULINGS = 60, 4
SPREAD = 6.0
"""Sum of the parameters of the beta distribution that questions' difficulties are drawn from."""


def rates(rng, mean, num=QUESTIONS, spread=SPREAD):
    return rng.beta(mean * spread, (1 - mean) * spread, size=num)


def rulings(rng, of, num=RULINGS):
    """(question, 1 or 0) of so many rulings on each question."""
    return [(q, float(rng.random() < rate)) for q, rate in enumerate(of) for _ in range(num)]


def columns(pairs):
    return [value for _, value in pairs], [question for question, _ in pairs]


def accuracy(rng):
    return mean_interval(*columns(rulings(rng, rates(rng, 0.7)))), 0.7


def accuracy_by_bootstrap(rng):
    values, questions = columns(rulings(rng, rates(rng, 0.7)))
    return bootstrap_interval(
        values, questions, num_resamples=1000, seed=int(rng.integers(99))
    ), 0.7


def paired(rng):
    hard = rates(rng, 0.6)
    return paired_difference(rulings(rng, hard + 0.3 * (1 - hard)), rulings(rng, hard)), 0.12


def unpaired(rng):
    one, two = (columns(rulings(rng, rates(rng, mean))) for mean in (0.75, 0.6))
    two = (two[0], [QUESTIONS + q for q in two[1]])
    return unpaired_difference(*one, *two), 0.15


def beliefs(rng):
    """(belief in the right one of two options, question): calibrated, alike within a question."""
    hard = rates(rng, 0.65)
    return [
        (q, float(p)) for q, rate in enumerate(hard) for p in rng.beta(4 * rate, 4 - 4 * rate, 4)
    ]


def moment(mean, spread, power):
    """E of the product of rising factorials: the k-th moment of a beta distribution."""
    a = mean * spread
    return math.prod((a + k) / (spread + k) for k in range(power))


def brier_score(rng):
    values, questions = columns([(q, brier((p, 1 - p), 0)) for q, p in beliefs(rng)])
    # E (1 - p)^2 with p of Beta(4 r, 4 - 4 r): (1 - r)(1 + 4 (1 - r)) / 5, r of Beta(3.9, 2.1).
    first, second = moment(0.35, SPREAD, 1), moment(0.35, SPREAD, 2)
    return mean_interval(values, questions), (first + 4 * second) / 5


def priced_score(rng):
    """Of beliefs of two values with three turns: their mean logarithm is known."""
    picked = [
        (q, priced_log_score((0.5 if v else 0.25, 0.5 if v else 0.75), 0, 3, price=0.1))
        for q, v in rulings(rng, rates(rng, 0.6))
    ]
    return mean_interval(*columns(picked), bounds=None), 0.6 * -1 + 0.4 * -2 - 0.3


def at_a_turn(rng):
    found = beliefs(rng)
    [(turn, belief)] = belief_by_turn([[(2, p)] for _, p in found], [q for q, _ in found])
    assert turn == 2
    return belief, 0.65


def score_difference(rng):
    """Beliefs of e^x over its sum with e^0, so that log p_true - log p_false is x: mean 0.5."""
    effect = rng.normal(0.5, 0.6, size=QUESTIONS)
    xs = [(q, x + rng.normal(0, 1.0)) for q, x in enumerate(effect) for _ in range(RULINGS)]
    right = [(q, 1 / (1 + math.exp(-x))) for q, x in xs]
    log, _ = agent_score_difference(right, [(q, 1 - p) for q, p in right])
    return log, 0.5


def recovered(rng):
    """A protocol that closes 40 % of the gap of 0.3 on every question on average."""
    hard = 0.5 * rates(rng, 0.6)
    arm, naive, expert = hard + 0.4 * 0.5 * rates(rng, 0.6), hard, hard + 0.5 * rates(rng, 0.6)
    found, flag = gap_recovered(*(rulings(rng, each) for each in (arm, naive, expert)))
    assert not flag
    return found, 0.4


def correlation(rng):
    """Two normal values that share a part of each question: rho in all, by ranks a known function
    of it (Pearson 1907: 6 / pi asin(rho / 2))."""
    of_question = rng.multivariate_normal([0, 0], [[0.5, 0.3], [0.3, 0.5]], size=QUESTIONS)
    own = rng.multivariate_normal([0, 0], [[0.5, 0.1], [0.1, 0.5]], size=(QUESTIONS, RULINGS))
    both = (of_question[:, None] + own).reshape(-1, 2)
    questions = np.repeat(np.arange(QUESTIONS), RULINGS).tolist()
    found = clustered_correlation(both[:, 0].tolist(), both[:, 1].tolist(), questions)
    assert found is not None
    return found[0], 6 / math.pi * math.asin(0.4 / 2)


def partial_correlation(rng):
    """Two values that both follow the side, and have nothing else in common."""
    sides = rng.choice([-1.0, 1.0], size=QUESTIONS * RULINGS)
    xs, ys = (sides * gain + rng.normal(size=len(sides)) for gain in (0.8, 1.2))
    questions = np.repeat(np.arange(QUESTIONS), RULINGS).tolist()
    found = clustered_correlation(xs.tolist(), ys.tolist(), questions, given=sides.tolist())
    assert found is not None
    return found[0], 0.0


STUDIES = (
    accuracy,
    accuracy_by_bootstrap,
    paired,
    unpaired,
    brier_score,
    priced_score,
    at_a_turn,
    score_difference,
    recovered,
    correlation,
    partial_correlation,
)


def coverage(study, num, seed=17):
    rng = np.random.default_rng(seed)
    covered = 0
    for _ in range(num):
        found, truth = study(rng)
        covered += found.low <= truth <= found.high
    return covered / num


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.__name__)
def test_intervals_cover_in_a_few_studies(study):
    assert coverage(study, 60) >= 0.88


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.__name__)
def test_intervals_cover_in_93_to_97_of_a_hundred_studies(study):
    found = coverage(study, 400)
    print(f"{study.__name__}: {100 * found:.1f} %")
    assert 0.93 <= found <= 0.97


def bounded(rng):
    """True if the bounds hold what accuracy would be, were the unreadable answers read: they are
    more often wrong than the others, so that leaving them out is too kind."""
    hard = rates(rng, 0.7)
    right, verdicts, questions = [], [], []
    for question, rate in enumerate(hard):
        for _ in range(RULINGS):
            hit = bool(rng.random() < rate)
            lost = rng.random() < (0.05 if hit else 0.3)
            right.append(None if lost else hit)
            verdicts.append(Verdict.INVALID if lost else Verdict.DECIDED)
            questions.append(question)
    arrays = (right, verdicts, [0.5] * len(right), questions)
    low, kind, high = (
        treated_accuracy(*arrays, each)
        for each in (Treatment.WRONG, Treatment.LEFT_OUT, Treatment.RIGHT)
    )
    return low.low <= 0.7 <= high.high, kind.low <= 0.7 <= kind.high


def test_bounds_hold_where_leaving_out_misleads():
    rng = np.random.default_rng(5)
    held = [bounded(rng) for _ in range(60)]
    assert sum(within for within, _ in held) / 60 >= 0.95
    assert sum(kind for _, kind in held) / 60 < 0.8


def test_the_clustered_bootstrap_is_wider_than_the_naive_one_where_questions_matter():
    rng = np.random.default_rng(3)
    alike = rulings(rng, rates(rng, 0.6, spread=0.8), num=8)
    apart = rulings(rng, [0.6] * QUESTIONS, num=8)
    for pairs, least, most in ((alike, 1.8, 4.0), (apart, 0.8, 1.25)):
        values, questions = columns(pairs)
        clustered = bootstrap_interval(values, questions, seed=1)
        naive = bootstrap_interval(values, range(len(values)), seed=1)
        assert least < clustered.width / naive.width < most
