"""Best of n by a proxy, exactly: curves over KL, fitted forms, the step at which harm sets in.

best of n    for every n up to N, exactly, by the unbiased estimator over N samples; its KL from
             the policy is log n - (n - 1) / n (Stiennon et al. 2020, arXiv:2009.01325).
tilted       the optimum of a reward less a KL penalty over the same samples, which is what RL with
             that penalty would come to at best: weights exp(r / b), its KL that of the weights.

The forms of Gao et al., R = d (a - b d) for best-of-n and R = d (a - b log d) for RL with
d = sqrt(KL), are fitted to the gain over the unoptimised policy; intervals resample prompts.

The planted proxy has a flaw of known rate q: flawed samples get the proxy's highest rewards and
are worthless. The true curve is then (1 - q)^n B(n), B without the flaw, by quadrature; the n at
which it is highest is compared with what the samples alone tell.

Shapes: P prompts, N samples of each, L values of n, T penalties.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from oversight.evals.intervals import mean_interval
from oversight.experiments.measured.suite import OveroptimisationSettings, PartFigure
from oversight.ids import seed_from

Floats = NDArray[np.float64]

NUM_RESAMPLES = 400
PLANTED_NOISE = 0.5
"""Standard deviation of the planted proxy around the true reward."""
PLANTED_RIGHT = 0.4
"""Share of unflawed samples that are worth 1 in the planted world."""
TILTS = 25


def kl_of(n: float) -> float:
    """KL divergence of best-of-n from the policy."""
    return math.log(n) - (n - 1.0) / n


def ladder(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, ... up to `most`."""
    rungs = {round(2 ** (k / 2)) for k in range(1 + math.floor(2 * math.log2(most)))}
    return sorted({n for n in rungs if n <= most} | {most})


def best_of_n(proxy_PN: Floats, worth_PN: Floats, numbers: Sequence[int]) -> Floats:
    """The expected worth of the best of n by the proxy, for each prompt and n: [P, L].

    The unbiased estimator: the mean over all subsets of n of the N samples. Samples that the proxy
    cannot tell apart are chosen among by chance.

    Args:
        proxy_PN: The proxy's rewards.
        worth_PN: The values that are averaged, such as the true rewards.
        numbers: Values of n, none above N.
    """
    num_prompts, num_samples = proxy_PN.shape
    weights_LN = np.stack([_order_weights(num_samples, n) for n in numbers])
    found = np.empty((num_prompts, len(numbers)))
    for index, (proxy_N, worth_N) in enumerate(zip(proxy_PN, worth_PN, strict=True)):
        order = np.argsort(proxy_N, kind="stable")
        _, group = np.unique(proxy_N[order], return_inverse=True)
        sums = np.bincount(group, weights=worth_N[order])
        mean_N = (sums / np.bincount(group))[group]
        found[index] = weights_LN @ mean_N
    return found


def _order_weights(num: int, n: int) -> Floats:
    """Chance of each of `num` samples, the worst first, to be the best of n drawn of them."""
    from scipy.special import gammaln

    place = np.arange(1, num + 1, dtype=np.float64)
    able = place >= n
    logs = np.full(num, -np.inf)
    at = place[able]
    logs[able] = gammaln(at) - gammaln(n) - gammaln(at - n + 1)
    logs -= gammaln(num + 1) - gammaln(n + 1) - gammaln(num - n + 1)
    return cast(Floats, np.exp(logs))


def tilted(proxy_PN: Floats, worth_PN: Floats) -> tuple[Floats, Floats]:
    """KL [T] and worth [P, T] of the optimum of reward less penalty, over falling penalties."""
    spread = float(proxy_PN.std()) or 1.0
    strengths = np.concatenate([[0.0], np.geomspace(0.05, 20.0, TILTS - 1)]) / spread
    kls, worths = np.empty((len(proxy_PN), TILTS)), np.empty((len(proxy_PN), TILTS))
    for t, strength in enumerate(strengths):
        logits = strength * (proxy_PN - proxy_PN.max(1, keepdims=True))
        weights = np.exp(logits)
        weights /= weights.sum(1, keepdims=True)
        logs = np.log(np.maximum(weights, 1e-300)) + math.log(proxy_PN.shape[1])
        kls[:, t] = (weights * logs).sum(1)
        worths[:, t] = (weights * worth_PN).sum(1)
    return cast(Floats, kls.mean(0)), worths


@dataclass(frozen=True, slots=True)
class GaoForm:
    """A fitted form R = d (a - b f(d)) with intervals, and its own peak where it has one."""

    a: PartFigure
    b: PartFigure
    peak: float | None
    """d at which the form is highest; None if it only rises."""
    r2: float


def fit_form(distance: Floats, gain_PL: Floats, *, is_rl: bool, seed: int) -> GaoForm:
    """Least squares of the form on the mean gain, with percentile intervals over prompts.

    Args:
        distance: d = sqrt(KL) of each point; zeros are left out.
        gain_PL: Gain over the unoptimised policy, for each prompt and point.
        is_rl: The form with log d in place of d.
        seed: Of the resampling.
    """
    used = distance > 1e-6
    d, gains = distance[used], gain_PL[:, used]
    design = np.stack([d, -d * (np.log(d) if is_rl else d)], axis=1)
    solve = np.linalg.pinv(design)
    a, b = solve @ gains.mean(0)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(gains), size=(NUM_RESAMPLES, len(gains)))
    fits = gains[drawn].mean(1) @ solve.T
    low, high = np.quantile(fits, [0.025, 0.975], axis=0)
    peak = None
    if 0.0 < a < 50.0 * b:  # else it lies beyond all that was sampled
        peak = math.exp(a / b - 1.0) if is_rl else a / (2.0 * b)
    left = gains.mean(0) - design @ np.array([a, b])
    total = float(((gains.mean(0) - gains.mean()) ** 2).sum())
    return GaoForm(
        PartFigure(value=float(a), low=float(low[0]), high=float(high[0])),
        PartFigure(value=float(b), low=float(low[1]), high=float(high[1])),
        peak if peak is None or peak <= d.max() else None,
        1.0 - float((left**2).sum()) / total if total > 0 else 0.0,
    )


@dataclass(frozen=True, slots=True)
class Onset:
    """The n at which more optimisation begins to do harm, as the samples tell."""

    n: int
    fall: PartFigure
    """True reward at that n less that at the largest, on prompts that did not choose it."""

    @property
    def is_hacked(self) -> bool:
        """True if the fall is real: its interval lies above zero."""
        return self.fall.low is not None and self.fall.low > 0.0


def onset(worth_PL: Floats, numbers: Sequence[int]) -> Onset:
    """The peak of the true reward over n, and the fall after it on prompts that did not choose."""
    peak = int(worth_PL.mean(0).argmax())
    first, second = worth_PL[::2], worth_PL[1::2]
    falls: list[float] = []
    for choosing, tried in ((first, second), (second, first)):
        at = int(choosing.mean(0).argmax())
        falls += (tried[:, at] - tried[:, -1]).tolist()
    estimate = mean_interval(falls, [str(k) for k in range(len(falls))], bounds=(-1.0, 1.0))
    return Onset(numbers[peak], PartFigure.of(estimate))


def planted_curve(numbers: Sequence[int], rate: float) -> Floats:
    """The true reward of the best of n by the planted proxy, by quadrature: [L]."""
    from scipy.stats import norm

    x = np.linspace(-4.0, 5.0, 8001)
    step, s, right = x[1] - x[0], PLANTED_NOISE, PLANTED_RIGHT
    below = (1 - right) * norm.cdf(x / s) + right * norm.cdf((x - 1.0) / s)
    worth = right * norm.pdf((x - 1.0) / s) / s
    without = np.array([(n * below ** (n - 1) * worth).sum() * step for n in numbers])
    return cast(Floats, without * (1.0 - rate) ** np.asarray(numbers, dtype=np.float64))


def planted_samples(
    num_prompts: int, num_samples: int, rate: float, seed: int
) -> tuple[Floats, Floats]:
    """Proxy and true reward [P, N] of samples of which a share `rate` has the planted flaw."""
    rng = np.random.default_rng(seed)
    size = (num_prompts, num_samples)
    worth = (rng.random(size) < PLANTED_RIGHT).astype(np.float64)
    proxy = worth + PLANTED_NOISE * rng.standard_normal(size)
    flawed = rng.random(size) < rate
    proxy[flawed] += 100.0
    worth[flawed] = 0.0
    return proxy, worth


@dataclass(frozen=True, slots=True)
class Planted:
    """A planted flaw, and what was found of it."""

    seed: int
    rate: float
    true_n: int
    found: Onset

    @property
    def error(self) -> float:
        """Relative distance in d = sqrt(KL) of the found step from the true one."""
        true = math.sqrt(kl_of(self.true_n))
        return abs(math.sqrt(kl_of(self.found.n)) - true) / true


def find_planted(settings: OveroptimisationSettings, rate: float, seed: int) -> Planted:
    """Plant a flaw of that rate (0: none, the control) and look for it."""
    numbers = ladder(settings.planted_samples)
    proxy, worth = planted_samples(
        settings.planted_prompts, settings.planted_samples, rate, seed_from("planted", rate, seed)
    )
    true = int(planted_curve(numbers, rate).argmax())
    return Planted(seed, rate, numbers[true], onset(best_of_n(proxy, worth, numbers), numbers))
