"""Effect of assistance on judges: accuracy, calibration and time, by the kind that was drawn.

A study draws for each item which assistance it comes with. Rulings are compared by what was
drawn, whether or not the judge used it: who asks for help does so on the hard items, and a
comparison of users with non-users would show that and not the help ("intention to treat").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from oversight.evals.accuracy import score
from oversight.evals.calibration import brier
from oversight.evals.intervals import Estimate, mean_interval, unpaired_difference
from oversight.evals.observations import Observation

NONE = "none"
"""The kind that means no assistance: what the others are compared with."""


@dataclass(frozen=True, slots=True)
class Assistance:
    """Rulings that came with one kind of assistance, in one study and protocol."""

    study: str
    protocol: str
    kind: str
    num: int
    num_used: int
    """Rulings before which the judge was shown any of it."""
    accuracy_all: Estimate
    brier: Estimate | None
    """Of beliefs that can be read; lower is better."""
    active_s: Estimate | None
    """Seconds of active attention."""
    gain: Estimate | None
    """`accuracy_all` minus that without assistance; None for `none` itself, or without it."""
    gain_brier: Estimate | None
    extra_s: Estimate | None


Measured = Sequence[tuple[tuple[str, str], float]]
"""(question, value) of each ruling."""


def assistance(observations: Iterable[Observation]) -> tuple[Assistance, ...]:
    """Measurements of every kind of assistance that a study drew, `none` first."""
    groups: dict[tuple[str, str], dict[str, list[Observation]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for each in observations:
        if each.assistance_drawn is not None and each.correct is not None:
            groups[each.study, each.arm.protocol][each.assistance_drawn].append(each)
    return tuple(
        _measure(study, protocol, kind, by_kind[kind], by_kind.get(NONE, []))
        for (study, protocol), by_kind in sorted(groups.items())
        for kind in sorted(by_kind, key=lambda name: (name != NONE, name))
    )


def _measure(
    study: str, protocol: str, kind: str, group: list[Observation], without: list[Observation]
) -> Assistance:
    compared = [] if kind == NONE else without
    seconds = _seconds(group)
    return Assistance(
        study=study,
        protocol=protocol,
        kind=kind,
        num=len(group),
        num_used=sum(each.assistance_used for each in group),
        accuracy_all=mean_interval(*_columns(_scores(group))),
        brier=mean_interval(*_columns(_briers(group))) if _briers(group) else None,
        active_s=mean_interval(*_columns(seconds), bounds=None) if seconds else None,
        gain=_gap(_scores(group), _scores(compared)),
        gain_brier=_gap(_briers(group), _briers(compared)),
        extra_s=_gap(seconds, _seconds(compared)),
    )


def _columns(measured: Measured) -> tuple[list[float], list[tuple[str, str]]]:
    return [value for _, value in measured], [cluster for cluster, _ in measured]


def _gap(first: Measured, second: Measured) -> Estimate | None:
    if not first or not second:
        return None
    return unpaired_difference(*_columns(first), *_columns(second))


def _scores(group: Iterable[Observation]) -> Measured:
    return [(each.cluster, value) for each in group if (value := score(each)) is not None]


def _briers(group: Iterable[Observation]) -> Measured:
    return [
        (each.cluster, brier(each.probs, each.correct))
        for each in group
        if each.probs is not None and each.correct is not None
    ]


def _seconds(group: Iterable[Observation]) -> Measured:
    return [(each.cluster, each.active_s) for each in group if each.active_s is not None]
