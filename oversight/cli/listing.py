"""Lists of names with what each is, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

import typer
from rich.console import Console
from rich.table import Table

from oversight.text.terminal import rich_text


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
