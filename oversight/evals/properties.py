"""Judged debates taken apart by properties of theirs: accuracy, beliefs by turn, and sizes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import TypeAlias

from pydantic import JsonValue

from oversight.errors import ConfigError
from oversight.evals.accuracy import Accuracy, accuracy
from oversight.evals.breakdown import RunMembership
from oversight.evals.calibration import BeliefPath, TrajectoryPoint, trajectory
from oversight.evals.course import DebateMeasures, DebateSizes, RulingCourse, debate_sizes
from oversight.evals.observations import UNKNOWN, Arm, Observation, difficulty_of
from oversight.registry import nearest, shortened
from oversight.text.numbers import NONE, Table, percent, share
from oversight.text.terminal import visible
from oversight.types import Question


class By(StrEnum):
    """Property of debates that accuracy is shown by."""

    DIFFICULTY = "difficulty"
    MODEL = "model"
    TAG = "tag"
    PROTOCOL = "protocol"
    JUDGE = "judge"
    STUDY = "study"
    DATASET = "dataset"
    RUN = "run"


Property: TypeAlias = By | str
"""A `By`, `meta.NAME` for a value of the question's `meta`, or several of these joined by `+`."""

META = "meta."


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Accuracy, beliefs and sizes of the debates that have one value of a property."""

    by: Property
    value: str
    label: str
    """The arm; empty where all arms with the value are pooled: of a property that belongs to
    arms, and of several properties at once."""
    accuracy: Accuracy
    share_right: float
    """Rulings for the right option over all of them: a tie is not right."""
    beliefs: tuple[TrajectoryPoint, ...]
    """Mean belief in the right answer by the judge's turn, as `evals.course` counts turns, of those
    who still gave one; at last the final one."""
    beliefs_carried: tuple[TrajectoryPoint, ...]
    """The same where debates that ended early keep their final belief."""
    sizes: DebateSizes


OF_ARMS = frozenset({By.MODEL, By.PROTOCOL, By.JUDGE, By.STUDY})
"""Properties that belong to arms: all arms with a value are pooled."""


def property_of(text: str) -> Property:
    """The property, or several joined by `+`, that a text names.

    Raises:
        ConfigError: One of them is unknown.
    """
    parts = text.split("+")
    for part in parts:
        known = [each.value for each in By]
        if part not in known and not (part.startswith(META) and part != META):
            raise ConfigError(
                f"--by {part!r}: no such property.{nearest(part, known)} And meta.NAME for a value "
                "that questions carry; several at once are joined by '+'."
            )
    return By(text) if text in {each.value for each in By} else text


def values_of(
    by: Property, question: Question, seen: Observation, runs: RunMembership
) -> list[str]:
    """The values that a ruling counts under: of a tag or a run it may have several."""
    if "+" in by:
        each = [values_of(part, question, seen, runs) for part in by.split("+")]
        return [", ".join(values) for values in product(*each)]
    if by.startswith(META):
        return [_plain(question.meta.get(by.removeprefix(META)))]
    if by == By.RUN:
        return list(runs.runs_of(seen.debate_id)) or [UNKNOWN]
    if by == By.TAG:
        names = runs.runs_of(seen.debate_id)
        pairs = (pair for name in names for pair in runs.tags.get(name, {}).items())
        return sorted({f"{tag}={value}" for tag, value in pairs}) or [UNKNOWN]
    if by == By.DIFFICULTY:
        return [difficulty_of(question)]
    plain = {
        By.MODEL: seen.arm.speakers,
        By.PROTOCOL: seen.arm.protocol,
        By.JUDGE: seen.arm.judge,
        By.STUDY: seen.study,
        By.DATASET: seen.dataset,
    }
    return [plain[By(by)] or UNKNOWN]


def _plain(value: JsonValue) -> str:
    """A value of `meta` in a word."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "":
        return UNKNOWN
    return shortened(value if isinstance(value, str) else json.dumps(value), 60)


@dataclass(frozen=True, slots=True)
class _Counted:
    """One ruling, and the size of its debate."""

    course: RulingCourse
    measured: DebateMeasures

    @property
    def path(self) -> BeliefPath:
        seen = self.course.observation
        return BeliefPath(seen.cluster, self.course.by_turn, seen.p_correct)


class BreakdownCounter:
    """Gathers rulings by the values of properties, over transcripts as they pass."""

    def __init__(self, by: Sequence[Property]) -> None:
        self._by = by
        self._groups: dict[tuple[Property, str, Arm | None], list[_Counted]] = defaultdict(list)

    def add(
        self,
        question: Question,
        measured: DebateMeasures,
        course: RulingCourse,
        runs: RunMembership,
    ) -> None:
        """Count a ruling under each value that it has."""
        for by in self._by:
            arm = None if "+" in by or by in OF_ARMS else course.observation.arm
            for value in values_of(by, question, course.observation, runs):
                self._groups[by, value, arm].append(_Counted(course, measured))

    def update(self, other: BreakdownCounter) -> None:
        """Add what another one gathered."""
        for key, group in other._groups.items():
            self._groups[key] += group

    def pool(self, apart: Iterable[Arm], together: Arm) -> None:
        """Count what several arms have as one arm's."""
        of = set(apart)
        for key in [key for key in self._groups if key[2] in of]:
            self._groups[key[0], key[1], together] += self._groups.pop(key)

    def counted(self, named: Mapping[Arm, str]) -> tuple[Breakdown, ...]:
        """Figures by property, value and arm, in this order; values as numbers where they are."""
        found = []
        for (by, value, arm), group in self._groups.items():
            measured = accuracy(each.course.observation for each in group)
            if measured is not None:
                label = "" if arm is None else named[arm]
                found.append(_breakdown(by, value, label, measured, group))
        return tuple(
            sorted(found, key=lambda each: (each.by, _number(each.value), each.value, each.label))
        )


def _breakdown(
    by: Property, value: str, label: str, measured: Accuracy, group: Sequence[_Counted]
) -> Breakdown:
    known = [each.course.observation for each in group]
    known = [each for each in known if each.correct is not None]
    paths = [each.path for each in group]
    debates = {each.measured.debate_id: each.measured for each in group}
    return Breakdown(
        by=by,
        value=value,
        label=label,
        accuracy=measured,
        share_right=sum(bool(each.right) for each in known) / len(known),
        beliefs=trajectory(paths, "present"),
        beliefs_carried=trajectory(paths),
        sizes=debate_sizes(list(debates.values())),
    )


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("inf")


SHOWN_TURNS = 6
"""Turns of a judge whose mean belief a table shows; all are in --json."""


def breakdown_tables(found: Sequence[Breakdown]) -> Iterator[Table]:
    """Two tables for each property: accuracy, and what the debates are made of."""
    for by in dict.fromkeys(each.by for each in found):
        rows = [each for each in found if each.by == by]
        yield Table(
            title=f"By {by}",
            note="As in judge accuracy; “right”: of all rulings, a tie being none. A debate of "
            "several runs or tags counts in each.",
            columns=(str(by), "protocol", "accuracy", "all", "right", "INVALID", "n / q."),
            rows=tuple(
                (
                    visible(each.value, newlines=False),
                    each.label or "all",
                    share(each.accuracy.accuracy),
                    share(each.accuracy.accuracy_all),
                    percent(each.share_right, 1),
                    percent(each.accuracy.share_invalid),
                    f"{each.accuracy.num:,}/{each.accuracy.num_questions:,}",
                )
                for each in rows
            ),
        )
        yield Table(
            title=f"Debates by {by}",
            note="Means a debate, and the mean belief in the right answer by the judge's turn, of "
            f"those who still gave one; the first {SHOWN_TURNS} turns, all of them in --json.",
            columns=(str(by), "protocol", "debates", "rounds", "characters", "quotes", "belief"),
            rows=tuple(
                (
                    visible(each.value, newlines=False),
                    each.label or "all",
                    f"{each.sizes.num_debates:,}",
                    f"{each.sizes.rounds.value:.2f}",
                    f"{each.sizes.characters.value:,.0f}",
                    f"{each.sizes.quotes.value:.2f}",
                    " ".join(f"{point.belief.value:.2f}" for point in _first(each.beliefs)) or NONE,
                )
                for each in rows
            ),
        )


def _first(points: Sequence[TrajectoryPoint]) -> list[TrajectoryPoint]:
    return [point for point in points if point.round is not None][:SHOWN_TURNS]
