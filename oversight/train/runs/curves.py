"""What a plot of runs shows: which metrics, in which order, and a smoothed form of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oversight.errors import ConfigError, DataError
from oversight.registry import nearest
from oversight.train.runs.metrics import FIXED, NAME, read_metrics

Floats = npt.NDArray[np.float64]

PANELS: dict[str, str] = {
    "loss": "Loss",
    "reward": "Reward",
    "accuracy": "Accuracy",
    "kl": "KL from the reference",
    "entropy": "Entropy, nats a token",
    "response_length": "Response length, tokens",
    "grad_norm": "Gradient norm",
    "lr": "Learning rate",
}
"""Metrics that are shown where a run has them, in this order, with their titles."""
SMOOTH_SHARE = 0.02
"""Share of a curve's points that its smoothed form looks back over."""
MIN_POINTS = 30
"""Shorter curves are shown as they are."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One metric of one run, on one split."""

    run: str
    metric: str
    split: str
    steps: Floats
    values: Floats

    def smoothed(self) -> Floats | None:
        """A running mean with exponential weights; None where the curve is too short for one."""
        if len(self.values) < MIN_POINTS:
            return None
        keep = 1.0 - 1.0 / max(SMOOTH_SHARE * len(self.values), 3.0)
        smooth, weight, found = 0.0, 0.0, []
        for value in self.values:
            # Divided by the weights so far: the beginning is not pulled to 0.
            smooth = keep * smooth + (1.0 - keep) * float(value)
            weight = keep * weight + (1.0 - keep)
            found.append(smooth / weight)
        return np.array(found)


def read_curves(folders: Sequence[Path]) -> list[Curve]:
    """All curves of runs; runs whose folders have one name are told apart by their parents.

    Raises:
        DataError: A folder has no metrics; says so.
    """
    curves = []
    for folder, label in zip(folders, _labels(folders), strict=True):
        lines = read_metrics(folder)
        found = [curve for split in ("train", "eval") for curve in _curves(lines, label, split)]
        if not found:
            raise DataError(f"{folder / NAME} has no metrics yet; wait for the run's first step")
        curves += found
    return curves


def choose(curves: Sequence[Curve], wanted: Sequence[str] = ()) -> list[str]:
    """Metrics to show: those `wanted`, else the known ones, else all.

    Raises:
        ConfigError: One that is wanted is in no run; names the nearest.
    """
    there = sorted({curve.metric for curve in curves})
    for name in wanted:
        if name not in there:
            raise ConfigError(f"--metric {name!r}: no run has it.{nearest(name, there)}")
    return list(wanted) or [name for name in PANELS if name in there] or there


def _curves(lines: list[dict[str, Any]], run: str, split: str) -> list[Curve]:
    mine = [line for line in lines if line["split"] == split]
    names = sorted({name for line in mine for name in line} - FIXED)
    found = []
    for name in names:
        points = [
            (line["step"], line[name])
            for line in mine
            if isinstance(line.get(name), int | float) and math.isfinite(line[name])
        ]
        if points:
            steps, values = np.array(points, dtype=np.float64).T
            found.append(Curve(run, name, split, steps, values))
    return found


def _labels(folders: Sequence[Path]) -> list[str]:
    """The shortest endings of the paths that tell all of them apart."""
    paths = [folder.resolve() for folder in folders]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        labels = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(labels)) == len(set(paths)):
            return labels
    return [str(path) for path in paths]
