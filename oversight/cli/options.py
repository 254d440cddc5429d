"""Options and tables that several commands share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from oversight.text.terminal import rich_text

if TYPE_CHECKING:
    from rich.console import Console

    from oversight.text import numbers


Store = Annotated[
    str, typer.Option("--store", help="Path of an SQLite file, or a postgresql:// URL.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Recipe = Annotated[
    Path | None, typer.Argument(help="A run's TOML file; see recipes/.", show_default=False)
]


def set_option(example: str, what: str = "Override one setting") -> Any:
    """The option `--set` of one command, with an example that this command takes."""
    return typer.Option("--set", help=f"{what}: --set {example}. May be repeated.")


DEFAULT_STORE = "oversight.db"
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], as_json: bool) -> None:
    """Print rows under their columns; as JSON, a list of objects."""
    if as_json:
        typer.echo(json.dumps([dict(zip(columns, row, strict=True)) for row in rows], indent=2))
        return
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(rich_text, row))
    Console().print(table)


GAP = 2
"""Spaces between two columns."""


def print_table(table: numbers.Table, console: Console) -> None:
    """A table under its title, with its note below; in parts where the terminal is narrow."""
    from rich.table import Table as RichTable

    from oversight.evals.text import add_columns, layouts

    console.print()
    for number, layout in enumerate(layouts(table, console.width, GAP)):
        title = None if number else table.title
        shown = RichTable(box=None, pad_edge=False, title=title, title_justify="left")
        add_columns(shown, table, layout)
        console.print(shown)
    console.print(table.note, style="dim", highlight=False)
