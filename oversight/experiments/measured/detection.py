"""Detection of a shift from texts alone, at a proven rate of false alarms.

The detector is a test martingale on online conformal p-values (Vovk, Nouretdinov and Gammerman
2003): each text is ranked among all before it by how strange its words are, and a bet on small
ranks is kept up. Its wealth exceeds 1/f with a chance of at most f, however long one looks, where
nothing has shifted (Ville's inequality): the false alarms are a theorem, and are counted all the
same.
Shapes: S texts of a stream, C scores of a text.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from oversight.evals.intervals import Estimate, mean_interval
from oversight.experiments.measured.best_of_n import Floats
from oversight.experiments.measured.suite import ShiftSettings
from oversight.ids import seed_from

POWERS: Floats = np.linspace(0.05, 0.95, 19)
"""Exponents of the martingale's bets e p^(e - 1), mixed in equal shares."""


class WordModel:
    """Strangeness of texts: pairs of words under counts of the reference's, and its extremes."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._ones: Counter[str] = Counter()
        self._pairs: Counter[tuple[str, str]] = Counter()
        for text in texts:
            words = self._words(text)
            self._ones.update(words)
            self._pairs.update(itertools.pairwise(words))
        self._size = len(self._ones) + 1

    def scores(self, text: str) -> tuple[float, float, float, float]:
        """Mean and largest surprise of a text's pairs of words, and its length both ways."""
        words = self._words(text)
        found = [
            math.log((self._ones[a] + 0.1 * self._size) / (self._pairs[a, b] + 0.1))
            for a, b in itertools.pairwise(words)
        ]
        return sum(found) / len(found), max(found), float(len(words)), -float(len(words))

    @staticmethod
    def _words(text: str) -> list[str]:
        """Words, numbers as one: the days of a story are drawn anew for each."""
        return ["^", *re.sub(r"\d+", "0", text.lower()).split(), "$"]


def online_ranks(reference: Floats, stream: Floats, rng: np.random.Generator) -> Floats:
    """Smoothed conformal p-values of a stream, each among the reference and all before it: [S].

    Small where a score is larger than what was seen. They are independent and uniform where all
    scores come in an exchangeable order.
    """
    from bisect import bisect_left, bisect_right, insort

    known = sorted(reference.tolist())
    found = np.empty(len(stream))
    for place, score in enumerate(stream.tolist()):
        low, high = bisect_left(known, score), bisect_right(known, score)
        above, equal = len(known) - high, high - low + 1
        found[place] = (above + rng.random() * equal) / (len(known) + 1)
        insort(known, score)
    return found


def log_wealth(ranks: Floats) -> Floats:
    """Logarithm of the martingale's wealth after each rank, the mixture over `POWERS`: [S, ...].

    Args:
        ranks: [S] or [S, C]; several columns are several martingales.
    """
    logs = np.cumsum(np.log(np.clip(ranks, 1e-12, 1.0)), axis=0)
    steps = np.arange(1, len(ranks) + 1).reshape(-1, *[1] * (ranks.ndim - 1))
    parts = np.stack([steps * math.log(e) + (e - 1.0) * logs for e in POWERS])
    top = parts.max(0)
    return cast(Floats, top + np.log(np.exp(parts - top).mean(0)))


def alarm_at(ranks: Floats, false_alarm: float) -> int | None:
    """Number of texts after which the mean wealth over the scores exceeds 1 / `false_alarm`.

    A mean of martingales is a martingale, so the bound on false alarms holds for all together.

    Args:
        ranks: [S, C], one column a score.
        false_alarm: Chance of any alarm where nothing has shifted.
    """
    wealth = log_wealth(ranks)
    top = wealth.max(1)
    total = top + np.log(np.exp(wealth - top[:, None]).mean(1))
    over = np.flatnonzero(total >= -math.log(false_alarm))
    return int(over[0]) + 1 if len(over) else None


@dataclass(frozen=True, slots=True)
class Detection:
    """Alarms over streams in which a share of the texts is shifted."""

    found: Estimate
    """Share of streams with an alarm."""
    median_at: int | None
    """Texts until the alarm, in half of the streams; None where fewer than half had one."""


def detect(
    model: WordModel, plain: Sequence[str], shifted: Sequence[str], own: ShiftSettings, seed: int
) -> Detection:
    """Look for a shift of `own.share` in streams that are drawn anew from texts of both kinds.

    Args:
        model: What texts looked like, of others than `plain`.
        plain: Texts without shift: for each stream a reference and the unshifted of the stream.
        shifted: Texts under the shift.
        own: Lengths and shares.
        seed: Of the draws.
    """
    scores = np.array([model.scores(text) for text in plain])
    strange = np.array([model.scores(text) for text in shifted])
    num_shifted = round(own.share * own.stream)
    alarms: list[int | None] = []
    for number in range(own.streams):
        rng = np.random.default_rng(seed_from("stream", seed, number))
        order = rng.permutation(len(scores))
        rest = order[own.reference : own.reference + own.stream - num_shifted]
        chosen = rng.choice(len(strange), num_shifted, replace=num_shifted > len(strange))
        stream = rng.permutation(np.concatenate([scores[rest], strange[chosen]]))
        ranks = np.stack(
            [
                online_ranks(scores[order[: own.reference], c], stream[:, c], rng)
                for c in range(scores.shape[1])
            ],
            axis=1,
        )
        alarms.append(alarm_at(ranks, own.false_alarm))
    told = [float(at is not None) for at in alarms]
    median = sorted(math.inf if at is None else at for at in alarms)[len(alarms) // 2]
    return Detection(
        mean_interval(told, [str(k) for k in range(len(told))]),
        None if math.isinf(median) else int(median),
    )


def null_alarms(own: ShiftSettings, seed: int) -> int:
    """Alarms in so many streams of uniform ranks, four scores each, where nothing has shifted."""
    rng = np.random.default_rng(seed_from("null", seed))
    bar, steps = -math.log(own.false_alarm), np.arange(1, own.stream + 1)[:, None]
    alarms = 0
    for _ in range(own.null_streams // 500):
        ranks = np.maximum(rng.random((own.stream, 2000)), 1e-12)
        logs = np.cumsum(np.log(ranks), axis=0)
        # A mean exceeds the bar only where one of its parts does: few streams are left to sum.
        highest = [(steps * math.log(e) + (e - 1.0) * logs).max(0) for e in POWERS]
        able = (np.max(highest, axis=0) >= bar).reshape(500, 4).any(1)
        streams = ranks.reshape(own.stream, 500, 4)[:, able]
        alarms += sum(
            alarm_at(streams[:, k], own.false_alarm) is not None for k in range(streams.shape[1])
        )
    return alarms
