"""`oversight pixels`: the pixel debate, from training its judges to the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oversight.cli.options import Json, Recipe, RunName, Tags, labelled, set_option

if TYPE_CHECKING:
    from rich.console import Console

    from oversight.experiments.pixels import PixelSettings
    from oversight.experiments.pixels.results import PixelResults
    from oversight.experiments.pixels.running import FinishedRun
    from oversight.store import Store


Sets = Annotated[list[str] | None, set_option("judge.steps=1000")]


def pixels(
    recipe: Recipe = None,
    pixels: Annotated[
        list[int] | None,
        typer.Option(help="Pixels that the judge sees. May be repeated.", show_default="4, 6"),
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Held-out images to play on.", show_default="150")
    ] = None,
    mnist: Annotated[
        Path | None,
        typer.Option(help="Folder with MNIST's IDX files.", show_default="scikit-learn's digits"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the split, the judges and every random draw.", show_default="0"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for everything.", show_default="pixels"),
    ] = None,
    run: RunName = None,
    tag: Tags = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Debate about an image before a judge who sees a few pixels of it (Irving et al. 2018).

    The same command goes on where it was stopped, and prints the same table again.
    """
    given: dict[str, Any] = {"pixels": pixels, "images": images, "mnist": mnist}
    given |= {"seed": seed, "out": out}
    given |= labelled(run, tag)
    settings = _settings(recipe, given, sets or [])
    _run(settings, as_json)


def _settings(recipe: Path | None, given: dict[str, Any], sets: list[str]) -> PixelSettings:
    from oversight.config import assignments, override, read_toml
    from oversight.errors import ConfigError
    from oversight.experiments.pixels import PixelSettings

    named = {name: value for name, value in given.items() if value is not None}
    data = read_toml(recipe) if recipe else {}
    try:
        return PixelSettings.parse(override(data, named | assignments(sets)))
    except ConfigError as error:
        raise ConfigError(f"{recipe}: {error}" if recipe else str(error)) from None


def _run(settings: PixelSettings, as_json: bool) -> None:
    from rich.console import Console

    from oversight.cli.progress import TaskProgress
    from oversight.experiments.pixels.results import results
    from oversight.experiments.pixels.running import run, stored_games
    from oversight.files import check_place
    from oversight.store import Store
    from oversight.store.runs import start_of

    check_place(settings.out, "out", is_folder=True)
    settings.out.mkdir(parents=True, exist_ok=True)
    with Store.open(settings.store_url) as store:
        store.begin_run(start_of(settings, "pixels"))
        with TaskProgress(Console(stderr=True)) as shown:
            played = run(settings, store, lambda at: shown(at.doing, at.done + at.found, at.total))
        found = results(played.dataset, played.games, stored_games(store, played.dataset))
        _write(played, found, store)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        _print(played, found, Console())


def _write(played: FinishedRun, found: PixelResults, store: Store) -> None:
    from oversight.evals.drawing import LIGHT, save_png
    from oversight.experiments.pixels.pictures import (
        draw_games,
        draw_results,
        pick_games,
        write_page,
    )
    from oversight.experiments.pixels.running import stored_games
    from oversight.files import write_json

    out = played.settings.out
    won, lost = pick_games(played.games, stored_games(store, played.dataset))
    save_png(draw_results(found, LIGHT), out / "results.png")
    if won or lost:
        save_png(draw_games(won, lost, LIGHT), out / "games.png")
    write_page(played, found, won, lost, out / "report.html")
    write_json(out / "results.json", found.to_json())


def _print(played: FinishedRun, found: PixelResults, console: Console) -> None:
    from oversight.cli.options import print_table
    from oversight.experiments.pixels.results import extent, headlines, methods, table
    from oversight.text.numbers import count
    from oversight.text.terminal import rich_text

    console.print(rich_text(extent(found), style="bold"))
    for line in headlines(found):
        console.print(rich_text(f"• {line}"))
    print_table(table(found, wide=False), console)
    for line in methods(played, found):
        console.print(rich_text(line, style="dim"))
    settings = played.settings
    console.print(
        f"{count(played.num_played, 'game')} played, {played.num_found:,} found complete.",
        highlight=False,
    )
    for line in (
        f"{settings.out}: report.html, results.png, games.png, results.json",
        f"Every game is a debate of {settings.store_url}: "
        f"oversight report --store {settings.store_url} -p pixels{settings.pixels[-1]}_debate",
    ):
        console.print(rich_text(line), soft_wrap=True)
