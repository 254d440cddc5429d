"""`oversight import`: records made elsewhere, read into the store."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oversight import registry
from oversight.cli.options import (
    DEFAULT_STORE,
    Json,
    RunName,
    Store,
    Tags,
    labelled,
    registered,
    set_option,
    show_table,
)
from oversight.redaction import without_password

if TYPE_CHECKING:
    from oversight.interop.base import Imported, ImportSettings
    from oversight.types import RunStart

Sets = Annotated[list[str] | None, set_option("debates=paper", "Set one of the format's own")]
AsFormat = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="FORMAT",
        help="Write debates in a format that `oversight import` reads, as far as it can hold them; "
        "--layout does not matter then, and --set sets the format's own.",
        show_default=False,
        autocompletion=registered("interop"),
    ),
]
NUM_LISTED = 5
"""Bad items that are listed; the rest are only counted."""


def import_records(
    format: Annotated[
        str | None,
        typer.Argument(
            help="Format of the files, or a class of your own: file.py:Class.",
            show_default=False,
            autocompletion=registered("interop"),
        ),
    ] = None,
    path: Annotated[
        str | None, typer.Argument(help="The file or folder to read.", show_default=False)
    ] = None,
    store: Store = DEFAULT_STORE,
    skip_bad: Annotated[bool, typer.Option(help="Go on without what cannot be used.")] = False,
    sets: Sets = None,
    run: RunName = None,
    tag: Tags = None,
    as_json: Json = False,
) -> None:
    """Read debates and judgments made elsewhere into the store; without arguments, list formats.

    oversight import nyu ../debates reads a folder. Everything is checked before anything is
    written. To import again is harmless, and goes on where an import was cut off.
    """
    from oversight.errors import ConfigError

    if format is None:
        rows = [(name, registry.summary("interop", name)) for name in registry.names("interop")]
        show_table("Formats", ("name", "description"), rows, as_json)
        return
    if path is None:
        raise ConfigError(f"PATH is missing: oversight import {format} PATH")
    from rich.console import Console

    from oversight.cli.progress import LINE_EVERY_S, TaskProgress
    from oversight.config import assignments
    from oversight.interop.base import DebateImport, ImportSettings, num_items
    from oversight.store import Store as OpenStore
    from oversight.store.runs import start_of

    given = {"format": format, "path": path, "store": store, "skip_bad": skip_bad}
    given |= {"settings": assignments(sets or ()), "run": run, "tags": _tags(run, tag)}
    settings = ImportSettings.parse(given)
    total, console = num_items(settings), Console(stderr=True)
    told_at = time.monotonic()
    with TaskProgress(console) as shown:

        def tell(task: str, done: int) -> None:
            nonlocal told_at
            is_due = console.is_terminal or time.monotonic() - told_at >= LINE_EVERY_S
            if total is not None and is_due:
                shown(task, done, max(total, done))
                told_at = time.monotonic()

        begun = DebateImport(settings, tell)
        begun.check()
        with OpenStore.open(store) as opened:
            opened.begin_run(start_of(settings, "import"))
            found = begun.write(opened)
            start = opened.run
    if as_json:
        typer.echo(json.dumps(_as_json(settings, start, found), indent=2))
    else:
        _print(settings, start, found)


def _tags(run: str | None, tags: Sequence[str] | None) -> dict[str, str]:
    """The tags of `--tag` by their names."""
    given = labelled(run, tags).items()
    return {name.removeprefix("tags."): value for name, value in given if name != "run"}


def _print(settings: ImportSettings, start: RunStart | None, found: Imported) -> None:
    """Print what was read, what was left out and why, and what to do next."""
    from rich.console import Console

    from oversight.text.numbers import count, listed
    from oversight.text.terminal import rich_text

    console = Console(highlight=False)

    def say(text: str, style: str = "") -> None:
        console.print(rich_text(text, style=style), soft_wrap=True)

    numbers = [
        (found.num_turns, "turn"),
        (found.num_quotes, "quote"),
        (found.num_judgments, "judgment"),
        (found.num_ratings, "rating"),
    ]
    inside = [count(number, noun) for number, noun in numbers if number]
    again = f" ({found.num_found:,} stored already)" if found.num_found else ""
    holding = f": {listed(inside)}" if inside else ""
    say(f"{count(found.num_debates, 'debate')}{again}{holding}.")
    if found.bad:
        were = "was" if len(found.bad) == 1 else "were"
        say(f"{count(len(found.bad), 'bad item')} {were} skipped:", "yellow")
        for row in found.bad[:NUM_LISTED]:
            say(f"  {row}")
        if len(found.bad) > NUM_LISTED:
            say(f"  … and {len(found.bad) - NUM_LISTED:,} more")
    for reason, number in found.left_out.items():
        say(f"{count(number, 'item')} left out: {reason}", "dim")
    store = without_password(settings.store)
    as_run = "" if start is None else f" as run {start.run}"
    say(f"Recorded in {store}{as_run}.", "dim")
    flag = "" if store == DEFAULT_STORE else f" --store {store}"
    say(f"Next: oversight report{flag}", "dim")


def _as_json(settings: ImportSettings, start: RunStart | None, found: Imported) -> dict[str, Any]:
    """The same for machines."""
    return {
        "store": without_password(settings.store),
        "run_name": None if start is None else start.run,
        "debates": found.num_debates,
        "found": found.num_found,
        "turns": found.num_turns,
        "quotes": found.num_quotes,
        "judgments": found.num_judgments,
        "ratings": found.num_ratings,
        "bad_items": [str(row) for row in found.bad],
        "left_out": dict(found.left_out),
    }


def write_as(
    format: str,
    out: Path,
    store: str,
    where: dict[str, str | None],
    runs: tuple[Sequence[str], Sequence[str]],
    sets: Sequence[str] | None,
    *,
    as_json: bool,
) -> None:
    """Write the debates of a store in a format, complete or not, and print what was left out.

    Args:
        format: Its name.
        out: The file or folder.
        store: The store.
        where: The protocol and the data set, if not all.
        runs: Names of runs, and tags, that choose debates.
        sets: The format's own settings, as `--set` gives them.
        as_json: Print for machines.
    """
    from oversight.cli.progress import reading
    from oversight.cli.runs import names_of
    from oversight.config import assignments
    from oversight.interop.base import write_debates
    from oversight.store import Store as OpenStore
    from oversight.text.numbers import count
    from oversight.text.terminal import visible

    with OpenStore.open(store, create=False, only_read=True) as opened:
        opened.require_debates(**where)
        found = opened.transcripts(complete=None, runs=names_of(opened, *runs), **where)
        shown = reading(found, opened.counts()["debates"])
        told = write_debates(
            format,
            shown,
            out,
            assignments(sets or ()),
            lambda id_, num: opened.prompt(id_, num_tokens=num),
        )
    if as_json:
        document = {"path": str(out), "debates": told.num_debates, "left_out": dict(told.left_out)}
        typer.echo(json.dumps(document, indent=2))
        return
    typer.echo(visible(f"{out}: {count(told.num_debates, 'debate')}", newlines=False))
    for reason, number in told.left_out.items():
        typer.echo(f"  {count(number, 'debate')} left out: {visible(reason, newlines=False)}")
