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

from oversight.aggregation import Ruling, readable
from oversight.errors import ConfigError
from oversight.evals.accuracy import Accuracy, accuracy
from oversight.evals.breakdown import RunMembership
from oversight.evals.calibration import BeliefPath, TrajectoryPoint, trajectory
from oversight.evals.intervals import Estimate, mean_interval
from oversight.evals.observations import UNKNOWN, Arm, Observation, cluster_of, difficulty_of
from oversight.registry import nearest, shortened
from oversight.text.numbers import NONE, Table, percent, share
from oversight.text.quotes import strip_quotes
from oversight.text.terminal import visible
from oversight.types import Question, Transcript


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
class DebateSizes:
    """Means over the debates of a group, each counted once."""

    num_debates: int
    rounds: Estimate
    """Rounds in which a side spoke; the opening is one."""
    characters: Estimate
    """Of all speeches, quoted words with them."""
    quotes: Estimate


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
    """Mean belief in the right answer by the judge's turn, 0 the first, of those who still gave
    one; at last the final one."""
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
    """One ruling, and what its debate is made of."""

    observation: Observation
    path: BeliefPath | None
    rounds: int
    characters: int
    quotes: int


class BreakdownCounter:
    """Gathers rulings by the values of properties, over transcripts as they pass."""

    def __init__(self, by: Sequence[Property]) -> None:
        self._by = by
        self._groups: dict[tuple[Property, str, Arm | None], list[_Counted]] = defaultdict(list)

    def add(
        self, transcript: Transcript, ruling: Ruling, seen: Observation, runs: RunMembership
    ) -> None:
        """Count a ruling under each value that it has."""
        if not self._by:
            return
        spoken = [turn for turn in transcript.spoken() if turn.act.is_spoken]
        one = _Counted(
            observation=seen,
            path=_path(transcript.question, ruling),
            rounds=len({turn.round for turn in spoken}),
            characters=sum(len(strip_quotes(turn.text)) for turn in spoken),
            quotes=sum(len(turn.quotes) for turn in spoken),
        )
        for by in self._by:
            arm = None if "+" in by or by in OF_ARMS else seen.arm
            for value in values_of(by, transcript.question, seen, runs):
                self._groups[by, value, arm].append(one)

    def counted(self, named: Mapping[Arm, str]) -> tuple[Breakdown, ...]:
        """Figures by property, value and arm, in this order; values as numbers where they are."""
        found = []
        for (by, value, arm), group in self._groups.items():
            measured = accuracy(each.observation for each in group)
            if measured is not None:
                label = "" if arm is None else named[arm]
                found.append(_breakdown(by, value, label, measured, group))
        return tuple(
            sorted(found, key=lambda each: (each.by, _number(each.value), each.value, each.label))
        )


def _breakdown(
    by: Property, value: str, label: str, measured: Accuracy, group: Sequence[_Counted]
) -> Breakdown:
    known = [each.observation for each in group if each.observation.correct is not None]
    paths = [each.path for each in group if each.path is not None]
    debates = list({each.observation.debate_id: each for each in group}.values())
    clusters = [each.observation.cluster for each in debates]

    def mean(values: Iterable[float]) -> Estimate:
        return mean_interval(list(values), clusters, bounds=None)

    return Breakdown(
        by=by,
        value=value,
        label=label,
        accuracy=measured,
        share_right=sum(bool(each.right) for each in known) / len(known),
        beliefs=trajectory(paths, "present"),
        beliefs_carried=trajectory(paths),
        sizes=DebateSizes(
            num_debates=len(debates),
            rounds=mean(each.rounds for each in debates),
            characters=mean(each.characters for each in debates),
            quotes=mean(each.quotes for each in debates),
        ),
    )


def _path(question: Question, ruling: Ruling) -> BeliefPath | None:
    """Beliefs in the right answer by the judge's turn; None if the right answer is unknown."""
    if question.correct is None:
        return None
    beliefs = [
        (number, belief.probs[question.correct])
        for number, (_, belief) in enumerate(ruling.trajectory)
        if readable(belief) and belief.probs is not None
    ]
    final = ruling.final
    last = final.probs[question.correct] if readable(final) and final.probs else None
    return BeliefPath(cluster_of(question), tuple(beliefs), last)


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
