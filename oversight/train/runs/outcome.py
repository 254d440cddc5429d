"""How a run went, in a few rows: first, last and best of what matters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from oversight.train.runs.card import LOWER_IS_BETTER

SHOWN = ("nll", "loss", "accuracy", "reward", "kl", "entropy", "response_length")
"""Metrics that are told at the end, in this order."""


def outcome(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str, str]]:
    """Name, first, last, best and its step of each metric that is shown and was logged."""
    return list(_rows(lines))


def _rows(lines: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str, str]]:
    for split, where in (("eval", "held out "), ("train", "")):
        for name in SHOWN:
            series = [
                (line["step"], line[name])
                for line in lines
                if line["split"] == split and line.get(name) is not None
            ]
            if series:
                pick = min if LOWER_IS_BETTER.search(name) or name == "nll" else max
                step, best = pick(series, key=lambda item: item[1])
                first, last = series[0][1], series[-1][1]
                yield f"{where}{name}", f"{first:.4g}", f"{last:.4g}", f"{best:.4g}", str(step)
