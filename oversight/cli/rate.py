"""`oversight rate`: compare responses, score them by principles, review revisions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oversight.cli.options import Json, one_of, places, registered
from oversight.cli.persons import (
    App,
    PersonOptions,
    RaterEngine,
    RaterModel,
    ServerUrls,
    again,
    described,
    person_options,
    require_chosen,
    session,
)
from oversight.errors import ConfigError
from oversight.redaction import without_password

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oversight.graphs.running import DebateProgress
    from oversight.judging.model_ratings import ModelRatings
    from oversight.judging.settings import RatingSettings


def known_tasks() -> list[str]:
    """Names of the registered tasks."""
    from oversight.judging.tasks import names

    return names()


def known_task(name: str) -> str:
    """The name of a registered task, or "file.py:Class", whose file is imported once it is begun.

    Raises:
        typer.BadParameter: It is neither.
    """
    from oversight.judging.tasks import names
    from oversight.registry import nearest

    if ":" not in name and name not in names():
        raise typer.BadParameter(
            f"there is no task {name!r}.{nearest(name, names())} Or name one of your own: "
            "'file.py:Class'."
        )
    return name


@person_options("pairs=all")
def rate(
    options: PersonOptions,
    task: Annotated[
        str,
        typer.Argument(
            callback=known_task,
            autocompletion=one_of(known_tasks),
            help="pairs: which of two candidates of one turn is better. principles: how well a "
            "speech keeps to each principle of a constitution. revisions: whether a criticism is "
            "right, and the revision better. flagged: whether a check of a guard was right to act. "
            "Or a task of your own, file.py:Class.",
            show_default=False,
        ),
    ],
    study: Annotated[
        Path | None,
        typer.Argument(
            help="A study's TOML file; see docs/rating.md.",
            show_default=False,
            autocompletion=places(".toml"),
        ),
    ] = None,
    constitution: Annotated[
        str | None,
        typer.Option(
            help="Whose principles are rated by, or drawn for a model to compare by: a name, or "
            "a .toml file of your own.",
            show_default="principles: honest_debate",
            autocompletion=registered("constitutions"),
        ),
    ] = None,
    rater: Annotated[
        str | None,
        typer.Option(help="A model rates, without a screen: its agent.", show_default=False),
    ] = None,
    engine: RaterEngine = None,
    model: RaterModel = None,
    base_url: ServerUrls = None,
    as_json: Json = False,
) -> None:
    """Rate what was said in debates and to open prompts: pairs, principles, revisions.

    Every act is kept as it happens: leave at any moment, come back, go on.

    With --rater or --model a model rates all there is, each item in both orders:
    `oversight rate pairs --model seedling --constitution honest_debate`. The same command
    finishes what was interrupted.

    Ratings that were sent become training rows: `oversight export`, `oversight train`.
    """
    from oversight.judging.desk import TaskDesk
    from oversight.judging.settings import RatingSettings
    from oversight.store import Store
    from oversight.tui.keys import RATING_KEYS
    from oversight.types import Task

    def lines(store: Store) -> None:
        from oversight.tui.linear.queues import rate_linear_in_terminal

        rate_linear_in_terminal(TaskDesk(store, settings, task))

    def screen(store: Store) -> App:
        from oversight.tui.person_app import RateApp

        return RateApp(store, settings, task)

    if rater is not None or model is not None:
        check_model_way(options.of_persons())
        flags = options.flags(
            constitution=constitution, **rater_flags(rater, engine, model, base_url, options.sets)
        )
        rate_by_model(session(RatingSettings, study, flags, options), task, as_json=as_json)
        return
    check_person_way({"engine": engine, "base-url": base_url, "json": as_json})

    flags = options.flags(constitution=constitution)
    options.check()
    if constitution is not None and task in set(Task) - {Task.PRINCIPLES}:
        raise ConfigError(
            f"--constitution {constitution!r} is what `oversight rate principles` rates by, and "
            f"{task} have none where a person rates: leave it out"
        )
    settings = session(RatingSettings, study, flags, options)
    options.begin(
        settings,
        RATING_KEYS,
        again("rate", flags, options.sets, [task, *([study] if study else [])]),
        check=lambda store: TaskDesk(store, settings, task),
        lines=lines,
        screen=screen,
    )


def check_model_way(given: Mapping[str, object]) -> None:
    """Refuse options of a person where a model rates.

    Raises:
        ConfigError: Names the option.
    """
    for option in (option for option, value in given.items() if value):
        raise ConfigError(f"--{option} is for a person who rates, and a model does: leave it out")


def check_person_way(given: Mapping[str, object]) -> None:
    """Refuse options of a model where a person rates.

    Raises:
        ConfigError: Names the option.
    """
    for option in (option for option, value in given.items() if value):
        raise ConfigError(
            f"--{option} is of use where a model rates: add --rater or --model, or leave it out"
        )


def rater_flags(
    rater: str | None,
    engine: str | None,
    model: str | None,
    base_url: Sequence[str] | None,
    sets: Sequence[str] = (),
) -> dict[str, object]:
    """The settings, by dotted name, that options for a model stand for; raises as `described`.

    The agent is `rater` where neither --rater nor --set names one.
    """
    by_hand = any(each.startswith("agents.rater") for each in sets)
    flags: dict[str, object] = {"agents.rater.agent": rater or (None if by_hand else "rater")}
    if found := described("model", model, engine, base_url):
        flags |= found | {"agents.rater.engine": "model"}
    return flags


def rate_by_model(settings: RatingSettings, task: str, *, as_json: bool) -> None:
    """Let a model rate the items it has not rated yet, and print the result.

    Raises:
        StoreError: There is nothing to rate.
        typer.Exit: Some ratings failed.
    """
    from rich.console import Console

    from oversight.cli.ending import INTERRUPTS
    from oversight.cli.progress import RunProgress
    from oversight.errors import StoreError
    from oversight.judging.model_ratings import ModelRatings
    from oversight.store import Store
    from oversight.store.runs import start_of

    with Store.open(settings.store, create=False) as opened:
        require_chosen(opened, settings)
        ratings = ModelRatings(opened, settings, task)
        if not ratings.items:
            raise StoreError(f"{opened.url}: there is nothing to rate: {ratings.nothing}")
        opened.begin_run(start_of(settings, "rate"))
        with RunProgress(ratings.num_planned, Console(stderr=True), noun="ratings") as shown:
            progress = INTERRUPTS.run(ratings.run(shown))
    print_ratings(ratings, progress, as_json=as_json)
    if progress.failures:
        raise typer.Exit(1)


def print_ratings(ratings: ModelRatings, progress: DebateProgress, *, as_json: bool) -> None:
    """Print the result of a model's ratings."""
    import json

    from rich.console import Console

    from oversight.cli.running import print_failures
    from oversight.text.numbers import count
    from oversight.text.terminal import rich_text

    store = without_password(ratings.settings.store)
    if as_json:
        document = {
            "store": store,
            "task": ratings.task.value,
            "rater": ratings.agent.name,
            "items": len(ratings.items),
            "ratings": ratings.num_planned,
            "given": progress.done,
            "found": progress.found,
            "given_elsewhere": progress.elsewhere,
            "failures": [
                {"debate_id": each.debate_id, "error": each.error, "cause": each.cause}
                for each in progress.failures
            ],
        }
        typer.echo(json.dumps(document, indent=2))
        return
    console = Console()
    parts = [f"{progress.done} given", f"{progress.found} found given"]
    parts += [f"{progress.elsewhere} asked by another process"] if progress.elsewhere else []
    parts += [f"{len(progress.failures)} failed"] if progress.failures else []
    about = f"{count(ratings.num_planned, 'rating')} of {count(len(ratings.items), 'item')}"
    console.print(f"{about}: {', '.join(parts)}.", highlight=False, soft_wrap=True)
    print_failures(progress.failures, console)
    flag = "" if store == "oversight.db" else f" --store {store}"
    said = f"Recorded in {store}. Next: oversight report{flag}, "
    said += f"oversight export preferences.parquet{flag}"
    console.print(rich_text(said, style="dim"), soft_wrap=True)
