"""`oversight power`: how many questions show a difference between two protocols or judges."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oversight.cli.options import Json

if TYPE_CHECKING:
    from oversight.evals.power import Pilot, PowerPlan
    from oversight.text.numbers import Table

PLACEHOLDER = 1e-3
"""Difference that stands in a plan while the smallest one is looked for."""
STEPS = (0.5, 0.75, 1.0, 1.5, 2.0)
"""Parts of the difference in question that the table shows."""
POWERS = (0.8, 0.9, 0.95)


def power(
    difference: Annotated[
        float | None,
        typer.Option(
            "--difference",
            "-d",
            help="Difference in accuracy to be shown: 0.1 is ten points.",
            show_default=False,
        ),
    ] = None,
    questions: Annotated[
        int | None,
        typer.Option(
            "--questions",
            "-n",
            help="With so many questions: the power, and the smallest difference that is shown.",
            show_default=False,
        ),
    ] = None,
    accuracy: Annotated[
        float | None,
        typer.Option(help="Of the less accurate arm.", show_default="0.7, or the pilot's"),
    ] = None,
    rulings: Annotated[
        int, typer.Option(min=1, help="Rulings a question, in each of the two arms.")
    ] = 1,
    icc: Annotated[
        float | None,
        typer.Option(
            help="Correlation of two rulings of one arm on one question.",
            show_default="0.3, or the pilot's",
        ),
    ] = None,
    correlation: Annotated[
        float | None,
        typer.Option(
            help="Correlation of two rulings on one question, one of each arm.",
            show_default="0.3, or the pilot's",
        ),
    ] = None,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="Each arm has questions of its own.")
    ] = False,
    comparisons: Annotated[
        int, typer.Option(min=1, help="Differences that are tested together.")
    ] = 1,
    wanted: Annotated[
        float, typer.Option("--power", help="Probability with which it is to be shown.")
    ] = 0.8,
    pilot: Annotated[
        str | None,
        typer.Option(
            metavar="STORE",
            help="Take accuracy and correlations from the rulings in this store.",
            show_default=False,
        ),
    ] = None,
    first: Annotated[
        str | None,
        typer.Option(help="An arm of the pilot, as its report names it.", show_default=False),
    ] = None,
    second: Annotated[str | None, typer.Option(help="The other.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Tell how many questions a study needs: oversight power --difference 0.1.

    For the difference in accuracy of two arms that the report shows, judged on the same questions
    unless --unpaired is given. What makes questions alike is assumed, or taken from a pilot:
    oversight power --difference 0.1 --pilot pilot.db --first debate --second consultancy.
    """
    from oversight.errors import ConfigError
    from oversight.evals.power import DEFAULT_CORRELATION, PowerPlan

    if difference is None and questions is None:
        raise ConfigError(
            "neither --difference nor --questions: name one, as in `oversight power -d 0.1`"
        )
    if pilot is None and (first or second):
        option, value = ("--first", first) if first else ("--second", second)
        raise ConfigError(f"{option} {value!r}: it is an arm of a pilot; name its store: --pilot")
    held = _piloted(pilot, first, second) if pilot is not None else None
    less = 0.7 if held is None else min(held.accuracies)
    alike = DEFAULT_CORRELATION
    plan = PowerPlan(
        difference=PLACEHOLDER if difference is None else difference,
        accuracy=less if accuracy is None else accuracy,
        rulings=rulings,
        icc=_first_known(icc, None if held is None else held.icc, alike),
        correlation=_first_known(correlation, None if held is None else held.correlation, alike),
        paired=not unpaired,
        comparisons=comparisons,
    )
    _show(plan, difference, questions, wanted, held, as_json=as_json)


def _first_known(*values: float | None) -> float:
    return next(each for each in values if each is not None)


def _show(
    plan: PowerPlan,
    difference: float | None,
    questions: int | None,
    wanted: float,
    held: Pilot | None,
    *,
    as_json: bool,
) -> None:
    """Compute what is asked for and print it."""
    from rich.console import Console

    from oversight.cli.report import print_table
    from oversight.evals.power import power as power_of
    from oversight.evals.power import questions_needed, smallest_difference

    found: dict[str, Any] = {"plan": asdict(plan), "power_wanted": wanted}
    if difference is None:
        del found["plan"]["difference"]
    else:
        found["questions_needed"] = questions_needed(plan, wanted)
    if questions is not None:
        found["questions"] = questions
        found["power"] = None if difference is None else power_of(plan, questions)
        found["smallest_difference"] = smallest_difference(plan, questions, wanted)
    if held is not None:
        found["pilot"] = asdict(held)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for line in _sentences(plan, found, held):
        typer.echo(line)
    if difference is not None:
        print_table(_table(plan), Console())


def _sentences(plan: PowerPlan, found: dict[str, Any], held: Pilot | None) -> Sequence[str]:
    from oversight.text.numbers import count, per_cent, percent

    each = "each asked of both arms" if plan.paired else "in each arm"
    said = []
    wanted = percent(found["power_wanted"])
    if "questions_needed" in found:
        number = count(found["questions_needed"], "question")
        points = per_cent(plan.difference)
        said.append(
            f"{number}, {each}, show a difference of {points} points in accuracy with a "
            f"probability of {wanted}."
        )
    if "questions" in found:
        number = count(found["questions"], "question")
        if found["power"] is not None:
            said.append(
                f"{number} show {per_cent(plan.difference)} points with a probability of "
                f"{percent(found['power'])}."
            )
        least = found["smallest_difference"]
        said.append(
            f"The smallest difference that {number} show with {wanted}: "
            + ("none that is possible." if least is None else f"{per_cent(least, 1)} points.")
        )
    tests = f", {count(plan.comparisons, 'comparison')}" if plan.comparisons > 1 else ""
    alike = f", correlation of the arms {plan.correlation:.2g}" if plan.paired else ""
    own = f", of rulings on one question {plan.icc:.2g}" if plan.rulings > 1 else ""
    said.append(
        f"Assumed: the less accurate arm {percent(plan.accuracy)} right, "
        f"{count(plan.rulings, 'ruling')} a question and arm{alike}{own}{tests}; two-sided, "
        f"{percent(plan.level)}."
    )
    if held is not None:
        first, second = (percent(each) for each in held.accuracies)
        unknown = [name for name in ("icc", "correlation") if getattr(held, name) is None]
        lacking = f"; it does not tell {' and '.join(unknown)}" if unknown else ""
        said.append(
            f"Pilot: {first} and {second} right, {count(held.num_questions, 'question')} asked of "
            f"both{lacking}."
        )
    return said


def _table(plan: PowerPlan) -> Table:
    """Questions by difference and power, around what was asked."""
    from oversight.errors import ConfigError
    from oversight.evals.power import questions_needed
    from oversight.text.numbers import NONE, Table, per_cent, percent

    def needed(difference: float, wanted: float) -> str:
        try:
            return f"{questions_needed(replace(plan, difference=difference), wanted):,}"
        except ConfigError:
            return NONE  # no accuracies are that far apart, or that much alike

    return Table(
        title="Questions needed",
        note="By difference and power, with the same assumptions. A dash: no two arms are that far "
        "apart and that alike.",
        columns=("points", *(percent(wanted) for wanted in POWERS)),
        rows=tuple(
            (
                per_cent(part * plan.difference, 1),
                *(needed(part * plan.difference, w) for w in POWERS),
            )
            for part in STEPS
            if part * plan.difference < 1.0
        ),
    )


def _piloted(store: str, first: str | None, second: str | None) -> Pilot:
    """The pilot of two arms in a store.

    Raises:
        StoreError: It cannot be opened.
        ConfigError: Its report has no such arms, or more than two and none is named.
    """
    from collections import defaultdict

    from oversight.aggregation import rulings
    from oversight.errors import ConfigError
    from oversight.evals.accuracy import scores
    from oversight.evals.observations import Arm, Observation, labels, observe
    from oversight.evals.power import pilot
    from oversight.registry import nearest
    from oversight.store import Store as Records

    observed: dict[Arm, list[Observation]] = defaultdict(list)
    with Records.open(store, create=False, only_read=True) as opened:
        for transcript in opened.transcripts():
            if not transcript.question.is_open:
                for ruling in rulings(transcript):
                    seen = observe(transcript, ruling)
                    observed[seen.arm].append(seen)
    by_label = {label: scores(observed[arm]) for arm, label in labels(observed).items()}
    if not (first and second):
        if len(by_label) != 2 or first or second:
            known = ", ".join(sorted(by_label)) or "none"
            raise ConfigError(f"{store}: name two arms by --first and --second. Its arms: {known}")
        first, second = by_label
    for option, label in (("--first", first), ("--second", second)):
        if label not in by_label:
            raise ConfigError(f"{option} {label!r}: no such arm.{nearest(label, by_label)}")
    return pilot(by_label[first], by_label[second])
