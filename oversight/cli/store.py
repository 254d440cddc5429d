"""`oversight store`: look after a store."""

from __future__ import annotations

import json

import typer

from oversight.cli.listing import show
from oversight.cli.options import DEFAULT_STORE, Json, Store

NUM_LISTED = 20
"""How many problems are listed before they are only counted."""

store = typer.Typer(help="Look after a store: check it, count what is in it.", no_args_is_help=True)


@store.command()
def check(store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Verify that every row parses and every reference holds. Exits with 1 if one does not."""
    from oversight.store import Store as OpenStore

    with OpenStore.open(store, create=False) as opened:
        problems = opened.check()
        counts = opened.counts()
    if as_json:
        rows = [{"table": p.table, "row": p.row, "reason": p.reason} for p in problems]
        typer.echo(json.dumps({"problems": rows, "counts": counts}, indent=2))
    elif problems:
        shown = [(each.table, each.row, each.reason) for each in problems[:NUM_LISTED]]
        show(f"{len(problems)} problems", ("table", "row", "reason"), shown, as_json=False)
        if len(problems) > NUM_LISTED:
            typer.echo(f"… and {len(problems) - NUM_LISTED} more; --json lists them all")
    else:
        typer.echo(f"{store}: {sum(counts.values())} rows in {len(counts)} tables, all sound")
    if problems:
        raise typer.Exit(1)


@store.command()
def info(store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Count the records of each kind."""
    from oversight.store import Store as OpenStore

    with OpenStore.open(store, create=False) as opened:
        counts = opened.counts()
    show(store, ("table", "rows"), [(name, str(n)) for name, n in counts.items()], as_json)
