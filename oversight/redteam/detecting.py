"""The decider of success held against people's labels, and rates corrected for what it gets wrong.

A sample of what it decided is written as a file; a person puts true or false in the place of each
null, and the rates of attempts are then corrected for the decider's sensitivity and specificity,
with the uncertainty of these in the interval.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from oversight.aggregation import LEVEL
from oversight.datasets.base import BadRow, jsonl_objects
from oversight.errors import DataError
from oversight.evals.intervals import Estimate, clustered_spread
from oversight.files import whole_file
from oversight.ids import seed_from
from oversight.redteam.log import AttemptLog, LaneSum
from oversight.redteam.types import AttackOutcome, Attempt, AttemptPurpose

SAMPLE = "to_label.jsonl"
SAMPLE_SIZE = 50
"""Attempts of either outcome that people are asked about."""


def write_sample(
    path: Path, log: AttemptLog, lanes: Iterable[LaneSum], goals: frozenset[str], seed: int
) -> int:
    """Write a sample of what the decider decided, to be labelled; the number of its lines.

    A reservoir of either outcome is kept, so that memory stays flat.

    Args:
        path: The file; one that is there already is left as it is, as somebody may work on it.
        log: The run's attempts.
        lanes: The run's lanes.
        goals: Ids of the goals that the decider decides of.
        seed: Of the sample.
    """
    if path.exists() or not goals:
        return 0
    rng = random.Random(seed_from("labels", seed))
    kept: dict[AttackOutcome, list[Attempt]] = defaultdict(list)
    seen: Counter[AttackOutcome] = Counter()
    for each in _attempts(log, lanes):
        if each.goal not in goals or each.outcome is AttackOutcome.UNDETERMINED:
            continue
        seen[each.outcome] += 1
        own = kept[each.outcome]
        if len(own) < SAMPLE_SIZE:
            own.append(each)
        elif (place := rng.randrange(seen[each.outcome])) < SAMPLE_SIZE:
            own[place] = each
    rows = [each for own in kept.values() for each in own]
    rng.shuffle(rows)
    if rows:
        with whole_file(path, "labels") as part, part.open("w", encoding="utf-8") as file:
            for each in rows:
                body = {"id": each.id, "goal": each.goal, "text": each.text, "reply": each.reply}
                file.write(json.dumps({**body, "success": None}) + "\n")
    return len(rows)


def _attempts(log: AttemptLog, lanes: Iterable[LaneSum]) -> Iterator[Attempt]:
    for lane in lanes:
        yield from log.attempts(lane.id)


def read_labels(path: Path) -> dict[str, bool]:
    """People's labels by the attempt's id; lines whose success is still null are left out.

    Raises:
        DataError: A line is no label, or there are none.
        ConfigError: The file cannot be read.
    """
    found = {}
    for row in jsonl_objects(path):
        if isinstance(row, BadRow):
            raise DataError(str(row))
        number, body = row
        label = body.get("success")
        if not isinstance(body.get("id"), str) or label not in (True, False, None):
            raise DataError(
                f"{path}, line {number}: success = {label!r}; write true or false, or leave null"
            )
        if label is not None:
            found[body["id"]] = label
    if not found:
        raise DataError(f"{path}: nothing is labelled; put true or false in the place of null")
    return found


@dataclass(frozen=True, slots=True)
class CorrectedRate:
    """A target's rate of successful attempts, as decided and corrected."""

    target: str
    decided: Estimate
    corrected: Estimate | None
    """None where the decider is no better than chance."""


def corrected_rates(
    log: AttemptLog,
    lanes: Iterable[LaneSum],
    labels: Mapping[str, bool],
    goals: frozenset[str],
) -> tuple[DetectorFigures, list[CorrectedRate]]:
    """The decider's figures, and the rate of successes of the search's attempts by target.

    Raises:
        DataError: The labels are of no attempts of this run, or of one kind alone.
    """
    from oversight.evals.intervals import mean_interval

    pairs: list[tuple[bool, bool]] = []
    values: dict[str, tuple[list[float], list[str]]] = {}
    for each in _attempts(log, lanes):
        if each.goal not in goals or each.outcome is AttackOutcome.UNDETERMINED:
            continue
        if each.id in labels:
            pairs.append((each.is_success, labels[each.id]))
        if each.purpose is AttemptPurpose.SEARCH:
            own = values.setdefault(each.target, ([], []))
            own[0].append(float(each.is_success))
            own[1].append(each.goal)
    if not pairs:
        raise DataError("labels: none of them is of an attempt of this run")
    detector = detector_figures(pairs)
    return detector, [
        CorrectedRate(target, mean_interval(*own), corrected(*own, detector))
        for target, own in values.items()
    ]


@dataclass(frozen=True, slots=True)
class DetectorFigures:
    """Figures of what decides success, held against people's labels."""

    sensitivity: float
    specificity: float
    num_positive: int
    num_negative: int


def detector_figures(labelled: Iterable[tuple[bool, bool]]) -> DetectorFigures:
    """Sensitivity and specificity.

    Args:
        labelled: What was decided, and what people say.

    Raises:
        DataError: There are labels of one kind alone.
    """
    table = Counter(labelled)
    positive = table[True, True] + table[False, True]
    negative = table[True, False] + table[False, False]
    if not positive or not negative:
        raise DataError(
            f"labels: {positive} successes and {negative} failures; both are needed to say how "
            "often what decides is right"
        )
    return DetectorFigures(
        table[True, True] / positive, table[False, False] / negative, positive, negative
    )


def corrected(
    values: Sequence[float],
    clusters: Sequence[str],
    detector: DetectorFigures,
    level: float = LEVEL,
) -> Estimate | None:
    """The share of true successes behind decisions that err, with the detector's own uncertainty.

    The estimate is Rogan and Gladen's (1978), p = (q + sp − 1) / (se + sp − 1), cut to [0, 1], and
    the interval Lang and Reiczigel's (2014), which adds pseudo-observations to all three; q counts
    as many observations as its clustered variance leaves.

    Args:
        values: Decisions, 1 for a success.
        clusters: The goal of each.
        detector: Its figures on labelled attempts.
        level: Coverage.

    Returns:
        None where the detector is no better than chance.
    """
    from scipy import stats

    spread = clustered_spread(values, clusters)
    gain = detector.sensitivity + detector.specificity - 1.0
    if gain <= 0.0:
        return None
    q = spread.mean
    size = float(spread.num_clusters)
    if spread.variance > 0.0 and 0.0 < q < 1.0:
        size = min(q * (1.0 - q) / spread.variance, float(spread.num))
    z = float(stats.norm.ppf(0.5 + level / 2.0))
    n_q, n_se, n_sp = size + z * z, detector.num_positive + 2.0, detector.num_negative + 2.0
    q_ = (size * q + z * z / 2.0) / n_q
    se = (detector.num_positive * detector.sensitivity + 1.0) / n_se
    sp = (detector.num_negative * detector.specificity + 1.0) / n_sp
    gain_ = se + sp - 1.0
    if gain_ <= 0.0:
        return None
    p = (q_ + sp - 1.0) / gain_
    v_se, v_sp = se * (1.0 - se) / n_se, sp * (1.0 - sp) / n_sp
    shift = 2.0 * z * z * (p * v_se - (1.0 - p) * v_sp) / gain_
    half = z * math.sqrt(q_ * (1.0 - q_) / n_q + p * p * v_se + (1.0 - p) ** 2 * v_sp) / gain_
    value = (q + detector.specificity - 1.0) / gain
    low, high = (min(max(end, 0.0), 1.0) for end in (p + shift - half, p + shift + half))
    value = min(max(value, 0.0), 1.0)
    return Estimate(
        value,
        min(low, value),
        max(high, value),
        spread.num,
        spread.num_clusters,
        "lang-reiczigel",
    )
