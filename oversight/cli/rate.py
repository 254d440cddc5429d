"""`oversight rate`: compare responses, score them by principles, review revisions."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from oversight.cli.options import Sets


class TaskName(StrEnum):
    """What is asked."""

    PAIRS = "pairs"
    PRINCIPLES = "principles"
    REVISIONS = "revisions"


def rate(
    task: Annotated[
        TaskName,
        typer.Argument(
            help="pairs: which of two candidates of one turn is better. principles: how well a "
            "speech keeps to each principle of a constitution. revisions: whether a criticism is "
            "right, and the revision better.",
            show_default=False,
        ),
    ],
    study: Annotated[
        Path | None,
        typer.Argument(help="A study's TOML file; see docs/rating.md.", show_default=False),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Path of an SQLite file, or a postgresql:// URL.", show_default="oversight.db"
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--judge", help="Your pseudonym.", show_default="your user name"),
    ] = None,
    constitution: Annotated[
        str | None,
        typer.Option(
            help="Of principles: a name, or a .toml file of your own.",
            show_default="honest_debate",
        ),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Only this protocol.")] = None,
    linear: Annotated[
        bool,
        typer.Option("--linear", help="Plain lines, for screen readers, pipes and scripts."),
    ] = False,
    light: Annotated[bool, typer.Option("--light", help="Dark on light.")] = False,
    sets: Sets = None,
) -> None:
    """Rate what was said in debates: pairs, principles, revisions.

    Every act is kept as it happens: leave at any moment, come back, go on. What was sent becomes
    training rows with `oversight export` and `oversight train`.
    """
    from oversight.config.recipe import assignments, override, read_toml
    from oversight.judging.tasks.desk import TaskDesk
    from oversight.judging.tasks.settings import RatingSettings
    from oversight.store import Store
    from oversight.tui.linear_rating import rate_linear_in_terminal
    from oversight.tui.rating import RateApp
    from oversight.types import Task

    flags = {
        "store": store,
        "judge": name,
        "constitution": constitution,
        "dataset": dataset,
        "protocol": protocol,
        "theme": "light" if light else None,
    }
    changes = {key: value for key, value in flags.items() if value is not None}
    changes |= assignments(sets or [])
    given = override(read_toml(study) if study else {}, changes)
    settings = RatingSettings.parse(given, where=study.name if study else "")
    with Store.open(settings.store, create=False) as opened:
        if linear:
            rate_linear_in_terminal(TaskDesk(opened, settings, Task(task.value)))
        else:
            RateApp(opened, settings, Task(task.value)).run()
