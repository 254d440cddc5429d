"""`oversight rate`: compare responses, score them by principles, review revisions."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oversight.cli.options import Sets

if TYPE_CHECKING:
    from oversight.judging.tasks.settings import RatingSettings


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
    web: Annotated[bool, typer.Option("--web", help="In a browser on this machine.")] = False,
    port: Annotated[
        int, typer.Option(help="Of --web; 0 takes a free one.", min=0, max=65535)
    ] = 8765,
    light: Annotated[bool, typer.Option("--light", help="Dark on light.")] = False,
    sets: Sets = None,
) -> None:
    """Rate what was said in debates: pairs, principles, revisions.

    Every act is kept as it happens: leave at any moment, come back, go on. What was sent becomes
    training rows with `oversight export` and `oversight train`.
    """
    from oversight.config.recipe import assignments, override, read_toml
    from oversight.errors import ConfigError
    from oversight.judging.tasks.settings import RatingSettings

    if web and linear:
        raise ConfigError("--web and --linear are two ways of rating: choose one")
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
    if web:
        words = [f"--{key}={value}" for key, value in flags.items() if value and key != "theme"]
        words += ["--light"] if light else []
        words += [f"--set={each}" for each in sets or []]
        study_word = [] if study is None else [str(study)]
        run_in_browser(settings, task, [*words, "--", task.value, *study_word], port)
    else:
        run_here(settings, task, linear=linear)


def run_here(settings: RatingSettings, task: TaskName, *, linear: bool) -> None:
    """Open the store and rate."""
    from oversight.judging.tasks.desk import TaskDesk
    from oversight.store import Store
    from oversight.types import Task

    with Store.open(settings.store, create=False) as opened:
        if linear:
            from oversight.tui.linear_rating import rate_linear_in_terminal

            rate_linear_in_terminal(TaskDesk(opened, settings, Task(task.value)))
        else:
            from oversight.tui.rating import RateApp

            app = RateApp(opened, settings, Task(task.value))
            app.run()
            if app.return_code:
                raise typer.Exit(app.return_code)


def run_in_browser(settings: RatingSettings, task: TaskName, words: list[str], port: int) -> None:
    """Serve `oversight rate` with `words` to browsers of this machine, once it is known that it
    can begin."""
    from oversight.judging.tasks.desk import TaskDesk
    from oversight.store import Store
    from oversight.tui.keys import RATING_KEYS, keymap
    from oversight.tui.web import serve
    from oversight.types import Task

    keymap(settings.keys, RATING_KEYS)
    with Store.open(settings.store, create=False) as opened:
        TaskDesk(opened, settings, Task(task.value))
    command = [sys.executable, "-m", "oversight.cli.main", "rate", *words]
    serve(command, host="127.0.0.1", port=port, public_url=None)
