"""Power of a comparison: how many questions show a difference in accuracy, and how small a one.

Two arms are judged on questions, each with one or several rulings a question. Two rulings on one
question are alike: within an arm by the intraclass correlation (icc), between the arms by another
correlation, which is what pairing gains. With m rulings a question, the mean of an arm of accuracy
p has on one question the variance

    v(p) = p (1 - p) (1 + (m - 1) icc) / m

(the design effect of Kish 1965), and the difference of n paired questions has the variance

    (v(p1) + v(p2) - 2 correlation sqrt(p1 (1 - p1) p2 (1 - p2))) / n

Miller (2024, arXiv:2411.00640, section 5) writes the same for evaluations of language models. The
test is the report's: t over questions, two-sided. Its power is that of the noncentral t
distribution, and `simulated_power` counts how often the report's own interval leaves 0 out.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from oversight.aggregation import LEVEL
from oversight.errors import ConfigError
from oversight.evals.intervals import paired_difference, unpaired_difference

MAX_QUESTIONS = 10_000_000
"""Questions beyond which a plan says that there is no such number."""
DEFAULT_CORRELATION = 0.3
"""Taken where nothing is known: questions that are hard in one protocol are rather hard in another
one. A pilot tells better (`pilot`)."""


@dataclass(frozen=True, slots=True)
class PowerPlan:
    """Assumptions of a comparison of two arms."""

    difference: float
    """To be shown, in accuracy: 0.1 is ten points."""
    accuracy: float = 0.7
    """Of the less accurate arm."""
    rulings: int = 1
    """A question, in each arm."""
    icc: float = DEFAULT_CORRELATION
    """Correlation of two rulings of one arm on one question; without effect with one ruling."""
    correlation: float = DEFAULT_CORRELATION
    """Correlation of a ruling of the one arm with one of the other on the same question."""
    paired: bool = True
    """False if each arm has questions of its own."""
    comparisons: int = 1
    """Differences tested together: the level is shared among them, as in Holm's first step."""
    level: float = LEVEL
    """Coverage of the interval of a single difference."""

    def __post_init__(self) -> None:
        self._require("difference", 0.0 < self.difference < 1.0, "a number between 0 and 1")
        self._require("accuracy", 0.0 < self.accuracy < 1.0, "a number between 0 and 1")
        if self.accuracy + self.difference > 1.0:
            raise ConfigError(
                f"difference={self.difference!r}: {self.accuracy:g} and this are above 1; name the "
                "accuracy of the less accurate arm, or a smaller difference"
            )
        self._require("rulings", self.rulings >= 1, "a whole number from 1")
        self._require("icc", 0.0 <= self.icc <= 1.0, "a number from 0 to 1")
        self._require("correlation", -1.0 <= self.correlation <= 1.0, "a number from -1 to 1")
        self._require("comparisons", self.comparisons >= 1, "a whole number from 1")
        self._require("level", 0.0 < self.level < 1.0, "a number between 0 and 1")
        if self.variance <= 0.0:
            raise ConfigError(
                f"correlation={self.correlation!r}: arms of {self.accuracy:g} and "
                f"{self.accuracy + self.difference:g} cannot be that much alike; name a smaller one"
            )

    def _require(self, name: str, holds: bool, accepted: str) -> None:
        if not holds:
            raise ConfigError(f"{name}={getattr(self, name)!r}: is to be {accepted}")

    @property
    def variance(self) -> float:
        """Variance of the difference on one question; of different questions, on one of each."""
        low, high = self.accuracy, self.accuracy + self.difference
        spreads = [p * (1.0 - p) for p in (low, high)]
        effect = (1.0 + (self.rulings - 1) * self.icc) / self.rulings
        shared = self.correlation * math.sqrt(spreads[0] * spreads[1]) if self.paired else 0.0
        return effect * sum(spreads) - 2.0 * shared

    @property
    def alpha(self) -> float:
        """Level of the test of one difference."""
        return (1.0 - self.level) / self.comparisons


def power(plan: PowerPlan, questions: int) -> float:
    """Probability that the difference is shown with so many questions (in each arm, unpaired).

    Raises:
        ConfigError: They are fewer than two.
    """
    from scipy import stats

    if questions < 2:
        raise ConfigError(f"questions={questions!r}: fewer than two bear no interval; name more")
    degrees = questions - 1 if plan.paired else 2 * (questions - 1)
    limit = float(stats.t.ppf(1.0 - plan.alpha / 2.0, degrees))
    shift = plan.difference / math.sqrt(plan.variance / questions)
    # Far out the noncentral t has no digits left, and is the normal distribution shifted.
    if degrees > 10_000 or shift > 30.0:
        return float(stats.norm.sf(limit - shift) + stats.norm.cdf(-limit - shift))
    found = stats.nct.sf(limit, degrees, shift) + stats.nct.cdf(-limit, degrees, shift)
    return min(1.0, float(found))


def questions_needed(plan: PowerPlan, wanted: float = 0.8) -> int:
    """Least number of questions (of each arm, unpaired) with at least the power `wanted`.

    Raises:
        ConfigError: No probability below 1 is wanted, or more than `MAX_QUESTIONS` are needed.
    """
    if not 0.0 < wanted < 1.0:
        raise ConfigError(f"power={wanted!r}: is to be a number between 0 and 1")
    low, high = 1, 2
    while power(plan, high) < wanted:
        low, high = high, 2 * high
        if high > MAX_QUESTIONS:
            raise ConfigError(
                f"difference={plan.difference!r}: more than {MAX_QUESTIONS:,} questions would be "
                "needed; name a larger one"
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if power(plan, middle) < wanted else (low, middle)
    return high


def smallest_difference(plan: PowerPlan, questions: int, wanted: float = 0.8) -> float | None:
    """Smallest difference that so many questions show with the power `wanted`; None if even an arm
    that is always right would not be shown better than one of `plan.accuracy`.

    Raises:
        ConfigError: They are fewer than two.
    """
    low, high = 0.0, 1.0 - plan.accuracy - 1e-9

    def shows(difference: float) -> bool:
        try:
            return power(replace(plan, difference=difference), questions) >= wanted
        except ConfigError:
            # Two arms that far apart cannot be as much alike as is assumed: the variance is gone.
            return questions >= 2

    power(plan, questions)
    if not shows(high):
        return None
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high


# --- a pilot ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pilot:
    """Accuracy and likeness of rulings, as two arms of a pilot show them."""

    accuracies: tuple[float, float]
    rulings: float
    """A question and arm, on average."""
    icc: float | None
    """None where no question has two rulings in one arm."""
    correlation: float | None
    """None where fewer than `MIN_PILOT` questions were asked of both."""
    num_questions: int
    """Asked of both."""


MIN_PILOT = 10
"""Questions of both arms below which their correlation is not told."""


def pilot(
    first: Sequence[tuple[Hashable, float]], second: Sequence[tuple[Hashable, float]]
) -> Pilot:
    """Estimates for a plan from (question, right or wrong) of two arms.

    The icc is that of a one-way analysis of variance (Fisher 1925; Donner 1986), pooled over the
    arms, and 0 at least. The correlation is of single rulings: the covariance of the question
    means, over the standard deviations of single rulings.

    Raises:
        ConfigError: An arm has no ruling.
    """
    if not first or not second:
        raise ConfigError("a pilot needs rulings in both arms; name arms with known answers")
    by_arm = [_by_question(each) for each in (first, second)]
    means = [math.fsum(v for _, v in each) / len(each) for each in (first, second)]
    shared = [question for question in by_arm[0] if question in by_arm[1]]
    iccs = [icc for each in by_arm if (icc := intraclass(list(each.values()))) is not None]
    correlation = None
    spreads = [p * (1.0 - p) for p in means]
    if len(shared) >= MIN_PILOT and min(spreads) > 0.0:
        columns = [[float(np.mean(each[q])) for q in shared] for each in by_arm]
        covariance = float(np.cov(columns[0], columns[1])[0, 1])
        correlation = max(-1.0, min(1.0, covariance / math.sqrt(spreads[0] * spreads[1])))
    num = len(first) + len(second)
    return Pilot(
        accuracies=(means[0], means[1]),
        rulings=num / sum(map(len, by_arm)),
        icc=math.fsum(iccs) / len(iccs) if iccs else None,
        correlation=correlation,
        num_questions=len(shared),
    )


def intraclass(groups: Sequence[Sequence[float]]) -> float | None:
    """Intraclass correlation of values in groups, 0 at least; None where no group has two.

    (MSB - MSW) / (MSB + (n0 - 1) MSW) with n0 the adjusted mean size (Donner 1986, eq. 2).
    """
    sizes = np.array([len(group) for group in groups], dtype=np.float64)
    total, number = float(sizes.sum()), len(groups)
    if number < 2 or total <= number:
        return None
    means = np.array([np.mean(group) for group in groups])
    grand = float((sizes * means).sum() / total)
    between = float((sizes * (means - grand) ** 2).sum()) / (number - 1)
    within = math.fsum(
        float(((np.asarray(group) - mean) ** 2).sum())
        for group, mean in zip(groups, means, strict=True)
    ) / (total - number)
    size = (total - float((sizes**2).sum()) / total) / (number - 1)
    spread = between + (size - 1.0) * within
    return max(0.0, (between - within) / spread) if spread > 0.0 else None


def _by_question(pairs: Sequence[tuple[Hashable, float]]) -> dict[Hashable, list[float]]:
    found: dict[Hashable, list[float]] = {}
    for question, value in pairs:
        found.setdefault(question, []).append(value)
    return found


# --- the same by simulation ------------------------------------------------------


def simulated_power(
    plan: PowerPlan, questions: int, *, num_simulations: int = 1000, seed: int = 0
) -> float:
    """Share of simulated studies in which the report's own interval leaves 0 out.

    Rulings are made by thresholds of normal variables (the copula of Emrich and Piedmonte 1991),
    whose correlations are chosen such that those of the rulings are the plan's.

    Raises:
        ConfigError: Correlations that no rulings of these accuracies can have.
    """
    rates = (plan.accuracy, plan.accuracy + plan.difference)
    latent = _latent(plan, rates)
    rng = np.random.default_rng(seed)
    size = 2 * plan.rulings
    shown = 0
    cuts = np.repeat(_cuts(rates), plan.rulings)
    for _ in range(num_simulations):
        drawn = rng.multivariate_normal(np.zeros(size), latent, size=questions) < cuts
        values = drawn.astype(np.float64)
        arms = [
            [(q, float(v)) for q, row in enumerate(part) for v in row]
            for part in (values[:, : plan.rulings], values[:, plan.rulings :])
        ]
        coverage = 1.0 - plan.alpha
        if plan.paired:
            gap = paired_difference(arms[1], arms[0], coverage)
        else:
            columns = [([v for _, v in arm], [q for q, _ in arm]) for arm in reversed(arms)]
            columns[1] = (columns[1][0], [questions + q for q in columns[1][1]])
            gap = unpaired_difference(*columns[0], *columns[1], coverage)
        shown += gap is not None and gap.excludes(0.0)
    return shown / num_simulations


def _cuts(rates: tuple[float, float]) -> list[float]:
    from scipy import stats

    return [float(stats.norm.ppf(rate)) for rate in rates]


def _latent(plan: PowerPlan, rates: tuple[float, float]) -> np.ndarray[tuple[int, int], np.dtype]:
    """The correlations of the normal variables, rulings of the first arm before the second's."""
    number = plan.rulings
    within = [_threshold_correlation((p, p), plan.icc) if number > 1 else 0.0 for p in rates]
    across = _threshold_correlation(rates, plan.correlation if plan.paired else 0.0)
    latent = np.full((2 * number, 2 * number), across)
    latent[:number, :number] = within[0]
    latent[number:, number:] = within[1]
    np.fill_diagonal(latent, 1.0)
    if float(np.linalg.eigvalsh(latent).min()) < -1e-9:
        raise ConfigError(
            f"correlation={plan.correlation!r}: no rulings have it with icc={plan.icc!r}; name a "
            "smaller one, or a larger icc"
        )
    return latent


def _threshold_correlation(rates: tuple[float, float], wanted: float) -> float:
    """Correlation of two normal variables whose thresholds at `rates` correlate as wanted."""
    from scipy import stats

    cuts = _cuts(rates)
    spread = math.sqrt(math.prod(p * (1.0 - p) for p in rates))

    def correlation(latent: float) -> float:
        both = stats.multivariate_normal.cdf(cuts, cov=[[1.0, latent], [latent, 1.0]])
        return (float(both) - rates[0] * rates[1]) / spread

    low, high = -0.9999, 0.9999
    if not correlation(low) <= wanted <= correlation(high):
        raise ConfigError(
            f"correlation={wanted!r}: rulings right in {rates[0]:g} and {rates[1]:g} cannot be "
            "that much alike; name a number nearer to 0"
        )
    for _ in range(40):
        middle = (low + high) / 2.0
        low, high = (middle, high) if correlation(middle) < wanted else (low, middle)
    return (low + high) / 2.0
