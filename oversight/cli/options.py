"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

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
