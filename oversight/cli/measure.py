"""`oversight measure`: the hard problems as numbers, a part at a time or all in one report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oversight.cli.options import (
    INTERRUPTED,
    Json,
    OutFolder,
    Processes,
    Quick,
    RunName,
    Tags,
    labelled,
    places,
    set_option,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from oversight.experiments.measured.suite import MeasureSettings, PartDone

Sets = Annotated[list[str] | None, set_option("control.tasks=100")]


def measure(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="Its TOML file: recipes/measured/suite.toml.",
            show_default=False,
            autocompletion=places(".toml"),
        ),
    ],
    part: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            "-p",
            help="Part: overoptimisation, shift, control, weak_to_strong. May be repeated.",
            show_default="the recipe's",
        ),
    ] = None,
    out: OutFolder = None,
    quick: Quick = False,
    jobs: Processes = None,
    name: RunName = None,
    tag: Tags = None,
    sets: Sets = None,
    as_json: Json = False,
) -> int:
    """Measure the hard problems: over-optimised proxies, shift, control, weak to strong.

    Each part is a page of one report, with its controls, its intervals, and what it does not show.
    Parts that are done stay in the report; the same command goes on where it was stopped.
    """
    from rich.console import Console

    changes: dict[str, Any] = {} if out is None else {"out": str(out)}
    changes |= {} if jobs is None else {"jobs": jobs}
    changes |= {"parts": part} if part else {}
    changes |= labelled(name, tag)
    settings = load_suite(recipe, changes, sets or [], quick=quick)
    try:
        found, written = run_suite(settings, Console(stderr=True))
    except KeyboardInterrupt:
        return INTERRUPTED
    if as_json:
        from oversight.experiments.measured.pages import results

        typer.echo(json.dumps(results(settings, found), indent=2))
    else:
        print_suite(found, written, Console())
    return 0


def load_suite(
    recipe: Path, changes: dict[str, Any], sets: list[str], *, quick: bool
) -> MeasureSettings:
    """The settings of a suite's recipe, in its short form if asked for.

    Raises:
        ConfigError: It cannot be read, or a setting is wrong.
    """
    from oversight.config import chosen, override, read_toml, short_form
    from oversight.errors import ConfigError
    from oversight.experiments.measured.suite import MeasureSettings

    data = read_toml(recipe)
    if quick:
        data = short_form(data, recipe)
    data = override(data, chosen(changes, sets))
    try:
        return MeasureSettings.parse(data)
    except ConfigError as error:
        raise ConfigError(f"{recipe}: {error}") from None


def run_suite(
    settings: MeasureSettings, console: Console
) -> tuple[Mapping[str, PartDone], Sequence[Path]]:
    """Measure what is left, write the report, and give the findings and their files."""
    from oversight.cli.run import job_progress
    from oversight.experiments.measured.pages import write_all
    from oversight.experiments.measured.suite import run

    with job_progress("measured", console) as report:
        found = run(settings, report)
    return found, write_all(settings, found)


def print_suite(found: Mapping[str, PartDone], written: Sequence[Path], console: Console) -> None:
    """Each part's findings, warnings, tables and limits, and where the files are."""
    from oversight.cli.report import print_table
    from oversight.text.terminal import rich_text

    for done in found.values():
        console.print(rich_text(done.title, style="bold"))
        for line in done.headlines:
            console.print(rich_text(f"• {line}"))
        for line in done.warnings:
            console.print(rich_text(f"! {line}", style="yellow"))
        for table in done.tables:
            print_table(table.shown(), console)
        console.print(rich_text(done.not_shown, style="dim"))
        console.print()
    console.print(rich_text(", ".join(str(path) for path in written)), soft_wrap=True)
