"""Tables of a report in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from oversight.evals.tables import Table


def print_table(table: Table, console: Console) -> None:
    """A table under its title, with its note below."""
    from rich.table import Table as RichTable

    from oversight.text.terminal import rich_text

    shown = RichTable(box=None, pad_edge=False, title=table.title, title_justify="left")
    for number, column in enumerate(table.columns):
        shown.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in table.rows:
        shown.add_row(*map(rich_text, row))
    console.print()
    console.print(shown)
    console.print(table.note, style="dim", highlight=False)
