"""Figures of an attacker before its training and after each round of it: success and novelty.

Seeds are taken together; intervals are clustered by question, and changes paired by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from oversight.errors import DataError
from oversight.evals.intervals import Estimate, mean_interval, paired_difference
from oversight.redteam.measures import AttackedDebate
from oversight.text.numbers import Table, count, decimals, percent, points, share


@dataclass(slots=True)
class AttackerMeasure:
    """One attacker on the held-out debates of one seed."""

    round: int
    """Rounds of training behind it; 0 of the untrained one."""
    steps: int
    seed: int
    attacked: list[AttackedDebate] = field(default_factory=list)
    first: list[tuple[str, float]] = field(default_factory=list)
    """Question and 1 or 0: success at the first call."""
    distances: list[tuple[str, float]] = field(default_factory=list)
    """Question and distance to the nearest other, of the first speeches on each debate."""
    distinct: float = 0.0
    """Share of different ones among the runs of three words of all first speeches."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """The measure that a file holds.

        Raises:
            DataError: It is none.
        """
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            body["attacked"] = [
                AttackedDebate(**{**e, "right": tuple(e["right"])}) for e in body["attacked"]
            ]
            for name in ("first", "distances"):
                body[name] = [(str(question), float(value)) for question, value in body[name]]
            return cls(**body)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: no measure of an attacker ({type(error).__name__}); delete it, and it is "
                "made anew"
            ) from None


@dataclass(frozen=True, slots=True)
class AttackerRoundFigures:
    """The attacker after so many rounds, over all seeds."""

    round: int
    steps: int
    first: Estimate
    """Success at the first call, of debates that the judge decides right in both orders."""
    found: Estimate
    """Share of these with a success within the calls."""
    again: Estimate
    """Share with one that comes again in the other order of the sides."""
    more_found: Estimate | None
    """`found` less that of the untrained attacker, paired by question; None of itself."""
    more_again: Estimate | None
    """Likewise of `again`."""
    distance: Estimate
    """Distance of a speech to the nearest other on its debate."""
    distinct: float
    """Share of different ones among the runs of three words, mean of the seeds."""
    calls: int


@dataclass(frozen=True, slots=True)
class AttackerFigures:
    """The attacker before its training and after each round."""

    rounds: tuple[AttackerRoundFigures, ...]
    seeds: tuple[int, ...]


def measure_training(every: Iterable[AttackerMeasure]) -> AttackerFigures:
    """The figures of all rounds; seeds are taken together, and intervals clustered by question.

    Raises:
        DataError: There is no debate that the judge decides right in both orders.
    """
    measures = list(every)
    rounds = sorted({each.round for each in measures})
    if not all(_open(measures, number) for number in rounds):
        raise DataError("the judge decides no held-out debate right in both orders of the sides")
    return AttackerFigures(
        tuple(_round(measures, number) for number in rounds),
        tuple(dict.fromkeys(each.seed for each in measures)),
    )


def _open(measures: Iterable[AttackerMeasure], number: int) -> list[AttackedDebate]:
    return [
        one for each in measures if each.round == number for one in each.attacked if all(one.right)
    ]


def _pairs(debates: Iterable[AttackedDebate]) -> dict[str, list[tuple[str, float]]]:
    """Question and 1 or 0 of each debate, of what is found and of what comes again."""
    every = list(debates)
    return {
        "found": [(each.question, float(each.found)) for each in every],
        "again": [(each.question, float(each.again)) for each in every],
    }


def _round(measures: Sequence[AttackerMeasure], number: int) -> AttackerRoundFigures:
    own = [each for each in measures if each.round == number]
    pairs, before = _pairs(_open(measures, number)), _pairs(_open(measures, 0))
    more = {
        name: paired_difference(pairs[name], before[name]) if number else None for name in pairs
    }
    return AttackerRoundFigures(
        round=number,
        steps=own[0].steps,
        first=_mean([pair for each in own for pair in each.first]),
        found=_mean(pairs["found"]),
        again=_mean(pairs["again"]),
        more_found=more["found"],
        more_again=more["again"],
        distance=_mean([pair for each in own for pair in each.distances]),
        distinct=sum(each.distinct for each in own) / len(own),
        calls=sum(each.calls for one in own for each in one.attacked),
    )


def _mean(pairs: Sequence[tuple[str, float]]) -> Estimate:
    return mean_interval([value for _, value in pairs], [question for question, _ in pairs])


def training_sentences(figures: AttackerFigures) -> list[str]:
    """The result in words: the last round against the untrained attacker."""
    before, after = figures.rounds[0], figures.rounds[-1]
    behind = f"after {count(after.steps, 'step')} of training, with as many speeches"
    said = []
    for what, name, more in (
        ("Success in the order of the sides that it saw", "found", after.more_found),
        ("Success in both orders of the sides", "again", after.more_again),
    ):
        first, now = getattr(before, name), getattr(after, name)
        gained = "" if more is None else f" ({points(more)} points, paired by question)"
        said.append(
            f"{what}: {share(first)} by the untrained attacker, {share(now)} {behind}{gained}."
        )
    said.append(
        f"Novelty: the distance to the nearest other speech is {decimals(before.distance)} before "
        f"and {decimals(after.distance)} after; different ones among runs of three words "
        f"{percent(before.distinct)} and {percent(after.distinct)}."
    )
    return said


def training_table(figures: AttackerFigures) -> Table:
    """One row a round."""
    rows = [
        (
            f"{each.steps:,}",
            share(each.first),
            share(each.found),
            "" if each.more_found is None else points(each.more_found),
            share(each.again),
            "" if each.more_again is None else points(each.more_again),
            decimals(each.distance),
            percent(each.distinct),
            f"{each.calls:,}",
        )
        for each in figures.rounds
    ]
    return Table(
        title="An attacker trained on the judge's word",
        note="“first”: success at the first call, of debates that the judge decides right in both "
        "orders of the sides; “found”: within all calls; “again”: the same words in the other "
        "order too; “more”: less the untrained attacker's, in points, paired by question; "
        "“distance”: of a speech to the nearest other on its debate; “distinct”: different ones "
        f"among runs of three words; “calls”: of the judge, which is not asked again for a speech "
        f"that it read before. {count(len(figures.seeds), 'seed')}; intervals are clustered "
        "by question.",
        columns=("steps", "first", "found", "more", "again", "more ", "distance", "distinct",
                 "calls"),
        rows=tuple(rows),
    )  # fmt: skip
