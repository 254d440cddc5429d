"""`oversight tournament`: debaters measured against each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oversight.cli.options import (
    Json,
    MaxCost,
    MaxTokens,
    Prices,
    RunName,
    Tags,
    bounded,
    labelled,
    places,
    set_option,
)

if TYPE_CHECKING:
    from rich.console import Console

    from oversight.tournaments.playing import TournamentSettings, TournamentWork
    from oversight.tournaments.results import TournamentResults


def tournament(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="Its TOML file: recipes/tournament.toml.",
            show_default=False,
            autocompletion=places(".toml"),
        ),
    ],
    store: Annotated[
        str | None,
        typer.Option(help="Store of its debates.", show_default="the recipe's"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many questions.", show_default=False)
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="Debates in flight at once.", show_default="32")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every draw.", show_default="0")] = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    prices: Prices = None,
    run: RunName = None,
    tag: Tags = None,
    html: Annotated[Path | None, typer.Option(help="Write one page.", show_default=False)] = None,
    png: Annotated[Path | None, typer.Option(help="Write one picture.", show_default=False)] = None,
    sets: Annotated[list[str] | None, set_option("schedule=swiss")] = None,
    as_json: Json = False,
) -> None:
    """Let debaters meet each other and rate them: oversight tournament recipes/tournament.toml

    On each question two players that meet argue for the right and the wrong answer once each, and
    the judge reads both orders. Ratings (Bradley-Terry with ties, order effect and covariates) have
    intervals over questions, over both sides and for each; cross-play is a matrix.

    The same command goes on where it was stopped; run again, it finds everything done.
    """
    from oversight.config import chosen, read_toml
    from oversight.files import check_place
    from oversight.tournaments.playing import TournamentSettings

    for option, place in (("--html", html), ("--png", png)):
        if place is not None:
            check_place(place, option)
    flags: dict[str, Any] = {
        "store": store,
        "dataset.limit": limit,
        "concurrency": concurrency,
        "seed": seed,
    }
    flags |= labelled(run, tag) | bounded(max_tokens, max_cost, prices)
    changes = chosen(flags, sets or ())
    settings = TournamentSettings.changed(read_toml(recipe), changes, where=recipe.name)
    _run(settings, recipe, html, png, as_json=as_json)


def _run(
    settings: TournamentSettings,
    recipe: Path,
    html: Path | None,
    png: Path | None,
    *,
    as_json: bool,
) -> None:
    """Hold what is missing, measure, and show it."""
    from rich.console import Console

    from oversight.cli.ending import INTERRUPTS
    from oversight.cli.progress import TaskProgress
    from oversight.store import Store
    from oversight.store.runs import start_of
    from oversight.tournaments.picture import write_tournament_page, write_tournament_picture
    from oversight.tournaments.playing import prepare_tournament, run_tournament
    from oversight.tournaments.results import measure_tournament, tournament_json

    work = prepare_tournament(settings)
    with Store.open(settings.store, transactions=settings.transactions) as opened:
        start = opened.begin_run(start_of(settings, "tournament", recipe))
        with TaskProgress(Console(stderr=True)) as shown:
            INTERRUPTS.run(run_tournament(work, opened, shown))
        found = measure_tournament(work, opened, start.run)
    if as_json:
        typer.echo(json.dumps(tournament_json(found), indent=2))
    else:
        _print(found, work, Console(highlight=False))
    for path, write in ((html, write_tournament_page), (png, write_tournament_picture)):
        if path is not None:
            write(found, path)
            typer.echo(f"{path} written", err=True)
    if work.failures or work.num_elsewhere:
        raise typer.Exit(1)


def _print(found: TournamentResults, work: TournamentWork, console: Console) -> None:
    from oversight.cli.report import print_table
    from oversight.cli.running import print_failures
    from oversight.text.numbers import count
    from oversight.text.terminal import rich_text
    from oversight.tournaments.results import extent, headlines, tournament_tables

    console.print(rich_text("Tournament of debaters", style="bold"))
    console.print(rich_text(extent(found), style="dim"))
    for line in headlines(found):
        console.print(rich_text(f"• {line}"))
    for line in found.notes:
        console.print(rich_text(f"! {line}", style="yellow"))
    for table in tournament_tables(found, wide=False):
        print_table(table, console)
    console.print(
        f"{count(work.num_done, 'debate')} run, {work.num_found:,} found complete.",
        highlight=False,
    )
    if work.num_elsewhere:
        console.print(
            f"{count(work.num_elsewhere, 'debate')} left to another process; the same command "
            "goes on when it has ended."
        )
    print_failures(work.failures, console)
    told = f"Recorded in {found.store} as run {found.run}; oversight view shows every debate."
    console.print(rich_text(told, style="dim"), soft_wrap=True)
