"""Accuracy by a linear mixed model: arms are fixed, and each question has a random intercept."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from oversight.aggregation import LEVEL
from oversight.evals.comparisons import flag_cell, why_not
from oversight.evals.intervals import Estimate, Floats
from oversight.text.numbers import NONE, Table, count, points, share

MAX_ICC = 0.9999
"""Part of the variance between questions up to which the likelihood is looked at."""
LEAST_WITHIN = 1e-9
"""Variance within arms and questions below which there is none: what is left is rounding."""


@dataclass(frozen=True, slots=True)
class MixedEffect:
    """One arm's accuracy in a model with a random intercept for each question."""

    label: str
    share: Estimate | None
    difference: Estimate | None
    """From the first arm; None of the first."""
    flag: str = ""


@dataclass(frozen=True, slots=True)
class MixedFit:
    """A linear mixed model of all arms."""

    effects: tuple[MixedEffect, ...]
    sd_question: float | None
    """Standard deviation of the questions' difficulties, as shares."""
    icc: float | None
    """Part of the variance of single rulings that lies between questions."""


def mixed_model(
    arms: Sequence[str], questions: Sequence[Hashable], values: Sequence[float]
) -> MixedFit:
    """Accuracy of each arm under a linear mixed model with a random intercept for each question.

    value_ij = arm + u_question + e, by restricted maximum likelihood (Patterson and Thompson 1971;
    Laird and Ware 1982), on shares and not on log odds: differences are percentage points, as
    everywhere in the report. Intervals take t quantiles of questions minus arms. The model weighs
    questions by what they tell, and compares arms within questions also where not every question
    was asked of both.

    The likelihood is profiled over the one ratio of variances and needs nothing but the counts and
    sums of each question. Tests hold it against `statsmodels.MixedLM`, which took seven seconds for
    600 questions and did not converge: binary values with little between questions lie near the
    edge of its space.

    Args:
        arms: The arm of each ruling; the first to come is what others are compared with.
        questions: The question of each ruling.
        values: 1 right, 0 wrong, between for a guess.

    Returns:
        The fit; effects that the data cannot bear have a flag in the place of numbers.

    Raises:
        ValueError: The three are not as long as one another.
    """
    if not len(arms) == len(questions) == len(values):
        raise ValueError(
            f"{len(arms)} arms, {len(questions)} questions and {len(values)} values: need as many"
        )
    names = list(dict.fromkeys(arms))
    if flag := _cannot_fit(arms, questions, values):
        return _unfit(names, flag)
    totals = _totals(arms, questions, values)
    icc = _most_likely_icc(totals)
    means, covariance, within = totals.solved(icc)
    if within < LEAST_WITHIN or icc > MAX_ICC - 1e-6:
        # An interval of no width would say that 20 rulings settle it.
        return _unfit(names, "nothing differs but arms and questions: chance cannot be measured")
    degrees = len(totals.sums) - len(names)
    effects = []
    for place, name in enumerate(names):
        asked = totals.counts_QA[:, place]
        size = (int(asked.sum()), int((asked > 0).sum()), degrees)
        gap = None
        if place:
            variance = covariance[place, place] + covariance[0, 0] - 2.0 * covariance[place, 0]
            gap = _t_interval(means[place] - means[0], variance, *size, lowest=-1.0)
        own = _t_interval(means[place], covariance[place, place], *size, lowest=0.0)
        effects.append(MixedEffect(name, own, gap))
    return MixedFit(tuple(effects), math.sqrt(within * icc / (1.0 - icc)), icc)


def _unfit(names: Sequence[str], flag: str) -> MixedFit:
    """Arms without numbers, each with the reason."""
    return MixedFit(tuple(MixedEffect(name, None, None, flag) for name in names), None, None)


@dataclass(frozen=True, slots=True)
class _Totals:
    """All that the likelihood needs: Q questions, A arms."""

    counts_QA: Floats
    """Rulings of each arm on each question."""
    sums: Floats
    """Sum of the values on each question."""
    sums_A: Floats
    """Sum of the values in each arm."""
    square: float
    """Sum of all squared values."""

    def weighed(self, icc: float) -> tuple[Floats, Floats, float]:
        """X'WX, X'Wy and y'Wy, where W is the inverse of the covariance over that within."""
        ratio = icc / (1.0 - icc)
        shrink = ratio / (1.0 + ratio * self.counts_QA.sum(1))
        weighed_QA = self.counts_QA * shrink[:, None]
        normal = np.diag(self.counts_QA.sum(0)) - self.counts_QA.T @ weighed_QA
        return (
            normal,
            self.sums_A - weighed_QA.T @ self.sums,
            self.square - float((shrink * self.sums**2).sum()),
        )

    def solved(self, icc: float) -> tuple[Floats, Floats, float]:
        """The arms' means, their covariance, and the variance within questions."""
        normal, right, square = self.weighed(icc)
        covariance: Floats = np.asarray(np.linalg.inv(normal), dtype=np.float64)
        means: Floats = covariance @ right
        degrees = float(self.counts_QA.sum()) - len(means)
        within = max(square - float(right @ means), 1e-300) / degrees
        return means, within * covariance, within

    def deviance(self, icc: float) -> float:
        """Minus twice the restricted log-likelihood, profiled, up to a constant."""
        means, covariance, within = self.solved(icc)
        degrees = float(self.counts_QA.sum()) - len(means)
        spread = np.log1p(icc / (1.0 - icc) * self.counts_QA.sum(1)).sum()
        determinant = len(means) * math.log(within) - np.linalg.slogdet(covariance)[1]
        return float(degrees * math.log(within) + spread + determinant)


def _totals(arms: Sequence[str], questions: Sequence[Hashable], values: Sequence[float]) -> _Totals:
    numbers: tuple[dict[Hashable, int], dict[Hashable, int]] = ({}, {})
    rows = [numbers[0].setdefault(each, len(numbers[0])) for each in questions]
    columns = [numbers[1].setdefault(each, len(numbers[1])) for each in arms]
    counts = np.zeros((len(numbers[0]), len(numbers[1])))
    np.add.at(counts, (rows, columns), 1.0)
    found = np.asarray(values, dtype=np.float64)
    return _Totals(
        counts,
        np.bincount(rows, weights=found).astype(np.float64),
        np.bincount(columns, weights=found).astype(np.float64),
        float((found**2).sum()),
    )


def _most_likely_icc(totals: _Totals) -> float:
    """The part of the variance between questions at which the deviance is least."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        totals.deviance, bounds=(0.0, MAX_ICC), method="bounded", options={"xatol": 1e-7}
    )
    best = float(found.x)
    return best if totals.deviance(best) < totals.deviance(0.0) else 0.0


def _cannot_fit(arms: Sequence[str], questions: Sequence[Hashable], values: Sequence[float]) -> str:
    """The reason why the data cannot bear the model; empty if they can."""
    num_questions = len(set(questions))
    if num_questions <= len(set(arms)) + 1:
        return f"{count(num_questions, 'question')} for {count(len(set(arms)), 'arm')}: too few"
    if num_questions == len(questions):
        return "no question has two rulings, so that questions cannot be told from chance"
    if len(set(values)) < 2:
        return "every ruling has the same score"
    return ""


def _t_interval(
    value: float, variance: float, num: int, clusters: int, degrees: int, *, lowest: float
) -> Estimate:
    """An interval by Student's t, cut where no share or difference can be: at `lowest` and 1."""
    from scipy import stats

    half = float(stats.t.ppf(0.5 + LEVEL / 2.0, degrees)) * math.sqrt(max(variance, 0.0))
    if half == 0.0:
        return Estimate(float(value), None, None, num, clusters, "none")
    ends = (max(float(value) - half, lowest), min(float(value) + half, 1.0))
    return Estimate(float(value), *ends, num, clusters, "mixed")


def mixed_table(found: MixedFit | None) -> Table:
    """Arms in the mixed model."""
    effects = found.effects if found else ()
    spread = ""
    if found is not None and found.icc is not None and found.sd_question is not None:
        spread = (
            f" Questions differ by a standard deviation of {100 * found.sd_question:.0f} points; "
            f"{100 * found.icc:.0f} % of the variance lies between them."
        )
    return Table(
        title="Mixed model",
        note="“All” by arm with a random intercept for each question (REML); differences from the "
        f"first arm.{spread}",
        columns=("protocol", "all", "difference", *why_not(effects)),
        rows=tuple(
            (
                each.label,
                share(each.share),
                NONE if each.difference is None else points(each.difference),
                *flag_cell(each, effects),
            )
            for each in effects
        ),
    )
