"""`oversight pixels`: the pixel debate, from training its judges to the table."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from oversight.cli.options import Json, Recipe, Sets

if TYPE_CHECKING:
    from rich.console import Console

    from oversight.evals.tables import Table
    from oversight.pixels.results import Results
    from oversight.pixels.running import Played, Progress
    from oversight.pixels.settings import PixelSettings
    from oversight.store import Store


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
        int | None, typer.Option(help="Of split, judges, draws.", show_default="0")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for everything.", show_default="pixels"),
    ] = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Debate about an image before a judge who sees a few pixels of it (Irving et al. 2018).

    The same command goes on where it was stopped, and prints the same table again.
    """
    given = {"pixels": pixels, "images": images, "mnist": mnist, "seed": seed, "out": out}
    settings = _settings(recipe, given, sets or [])
    _run(settings, as_json)


def _settings(recipe: Path | None, given: dict[str, Any], sets: list[str]) -> PixelSettings:
    from oversight.config.recipe import assignments, override, read_toml
    from oversight.errors import ConfigError
    from oversight.pixels.settings import PixelSettings

    named = {name: value for name, value in given.items() if value is not None}
    data = read_toml(recipe) if recipe else {}
    try:
        return PixelSettings.parse(override(data, named | assignments(sets)))
    except ConfigError as error:
        raise ConfigError(f"{recipe}: {error}" if recipe else str(error)) from None


def _run(settings: PixelSettings, as_json: bool) -> None:
    from rich.console import Console

    from oversight.pixels.results import results
    from oversight.pixels.running import run, stored_games
    from oversight.store import Store

    settings.out.mkdir(parents=True, exist_ok=True)
    with Store.open(settings.store_url) as store:
        with Shown(Console(stderr=True)) as shown:
            played = run(settings, store, shown)
        found = results(played.dataset, played.games, stored_games(store, played.dataset))
        _write(played, found, store)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        _print(played, found, Console())


def _write(played: Played, found: Results, store: Store) -> None:
    from oversight.evals.drawing import LIGHT
    from oversight.pixels.page import write_page
    from oversight.pixels.pictures import draw_games, draw_results, pick_games, save_png
    from oversight.pixels.running import stored_games

    out = played.settings.out
    won, lost = pick_games(played.games, stored_games(store, played.dataset))
    save_png(draw_results(found, LIGHT), out / "results.png")
    if won or lost:
        save_png(draw_games(won, lost, LIGHT), out / "games.png")
    write_page(played, found, won, lost, out / "report.html")
    (out / "results.json").write_text(json.dumps(found.to_json(), indent=2) + "\n")


def _print(played: Played, found: Results, console: Console) -> None:
    from oversight.pixels import words
    from oversight.text.terminal import rich_text

    console.print(rich_text(words.extent(found), style="bold"))
    for line in words.headlines(found):
        console.print(rich_text(f"• {line}"))
    _print_table(words.table(found, wide=False), console)
    for line in words.methods(played, found):
        console.print(rich_text(line, style="dim"))
    settings = played.settings
    console.print(
        f"{played.num_played} games played, {played.num_found} found complete.", highlight=False
    )
    for line in (
        f"{settings.out}: report.html, results.png, games.png, results.json",
        f"Every game is a debate of {settings.store_url}: "
        f"oversight report --store {settings.store_url} -p pixels{settings.pixels[-1]}_debate",
    ):
        console.print(rich_text(line), soft_wrap=True)


def _print_table(table: Table, console: Console) -> None:
    from rich.table import Table as RichTable

    shown = RichTable(box=None, pad_edge=False, title=table.title, title_justify="left")
    for number, column in enumerate(table.columns):
        shown.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in table.rows:
        shown.add_row(*row)
    console.print()
    console.print(shown)
    console.print(table.note, style="dim", highlight=False)


class Shown:
    """Progress of judges and games on stderr: a bar on a terminal, else a line at each tenth."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._console = console
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, Any] = {}
        self._tenths: dict[str, int] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Show how far the run is."""
        done = progress.done + progress.found
        if progress.doing not in self._tasks:
            self._tasks[progress.doing] = self._bar.add_task(progress.doing, total=progress.total)
        self._bar.update(self._tasks[progress.doing], completed=done)
        tenth = 10 * done // progress.total
        if not self._console.is_terminal and self._tenths.get(progress.doing, 0) < tenth:
            self._tenths[progress.doing] = tenth
            self._console.print(f"{progress.doing}: {done} of {progress.total}", soft_wrap=True)
