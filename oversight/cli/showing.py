"""Tables of a report in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from oversight.evals.tables import Table

GAP = 2
"""Spaces between two columns."""


def print_table(table: Table, console: Console) -> None:
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
