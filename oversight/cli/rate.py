"""`oversight rate`: compare responses, score them by principles, review revisions."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oversight.cli.options import set_option
from oversight.cli.persons import (
    LOOPBACK,
    Host,
    Light,
    Linear,
    ListKeys,
    OfStore,
    OnlyDataset,
    OnlyProtocol,
    Port,
    Pseudonym,
    PublicUrl,
    Web,
    again,
    check_ways,
    print_keys,
    session,
    show,
)
from oversight.errors import ConfigError

if TYPE_CHECKING:
    from oversight.judging.tasks.settings import RatingSettings


class TaskName(StrEnum):
    """What is asked."""

    PAIRS = "pairs"
    PRINCIPLES = "principles"
    REVISIONS = "revisions"


Sets = Annotated[list[str] | None, set_option("pairs=all")]


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
    store: OfStore = None,
    name: Pseudonym = None,
    constitution: Annotated[
        str | None,
        typer.Option(
            help="Of principles: a name, or a .toml file of your own.",
            show_default="honest_debate",
        ),
    ] = None,
    dataset: OnlyDataset = None,
    protocol: OnlyProtocol = None,
    linear: Linear = False,
    web: Web = False,
    port: Port = None,
    host: Host = LOOPBACK,
    public_url: PublicUrl = None,
    light: Light = False,
    keys: ListKeys = False,
    sets: Sets = None,
) -> None:
    """Rate what was said in debates: pairs, principles, revisions.

    Every act is kept as it happens: leave at any moment, come back, go on.

    What was sent becomes training rows: `oversight export`, `oversight train`.
    """
    from oversight.judging.tasks.settings import RatingSettings
    from oversight.tui.keys import RATING_KEYS

    flags = {
        "store": store,
        "judge": name,
        "constitution": constitution,
        "dataset": dataset,
        "protocol": protocol,
        "theme": "light" if light else None,
    }
    check_ways(linear=linear, web=web, port=port, host=host, public_url=public_url, light=light)
    if constitution is not None and task is not TaskName.PRINCIPLES:
        raise ConfigError(
            f"--constitution {constitution!r} is what `oversight rate principles` rates by, and "
            f"{task.value} have none: leave it out"
        )
    settings = session(RatingSettings, study, flags, port, sets)
    if keys:
        print_keys(settings, RATING_KEYS)
    elif web:
        arguments = [task.value, *([study] if study else [])]
        serve_rating(settings, task, again("rate", flags, sets, arguments), host, public_url)
    else:
        run_rating(settings, task, linear=linear)


def run_rating(settings: RatingSettings, task: TaskName, *, linear: bool) -> None:
    """Open the store and rate."""
    from oversight.judging.tasks.desk import TaskDesk
    from oversight.store import Store
    from oversight.types import Task

    with Store.open(settings.store, create=False) as opened:
        if linear:
            from oversight.tui.linear.rating import rate_linear_in_terminal

            rate_linear_in_terminal(TaskDesk(opened, settings, Task(task.value)))
        else:
            from oversight.tui.rating import RateApp

            show(RateApp(opened, settings, Task(task.value)))


def serve_rating(
    settings: RatingSettings,
    task: TaskName,
    command: list[str],
    host: str,
    public_url: str | None,
) -> None:
    """Serve `command` to browsers, once it is known that it can begin."""
    from oversight.judging.tasks.desk import TaskDesk
    from oversight.store import Store
    from oversight.tui.keys import RATING_KEYS, keymap
    from oversight.tui.web import serve
    from oversight.types import Task

    keymap(settings.keys, RATING_KEYS)
    with Store.open(settings.store, create=False) as opened:
        TaskDesk(opened, settings, Task(task.value))
    serve(
        command,
        host=host,
        port=settings.port,
        public_url=public_url,
        max_tabs=settings.max_tabs,
    )
