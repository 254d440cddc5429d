"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Store = Annotated[
    str, typer.Option("--store", help="Path of an SQLite file, or a postgresql:// URL.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Recipe = Annotated[
    Path | None, typer.Argument(help="A run's TOML file; see recipes/.", show_default=False)
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override one setting: --set dataset.limit=10. May be repeated."),
]
DEFAULT_STORE = "oversight.db"
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
