"""`oversight report`: how often judges were right, by protocol."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from oversight.cli.options import DEFAULT_STORE, Json, Store


def report(
    store: Store = DEFAULT_STORE,
    protocol: Annotated[
        str | None, typer.Option("--protocol", "-p", help="Only this protocol.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Only this data set.", show_default=False)
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write one page with pictures.", show_default=False)
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Write one picture.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Show judge accuracy by protocol, with intervals clustered by question."""
    from rich.console import Console

    from oversight.cli.progress import reading
    from oversight.errors import StoreError
    from oversight.evals.findings import count, to_json
    from oversight.evals.html import render_html
    from oversight.evals.pictures import render_png
    from oversight.evals.report import build_report
    from oversight.evals.text import render_text
    from oversight.store import Store as OpenStore

    with OpenStore.open(store, create=False) as opened:
        transcripts = opened.transcripts(protocol=protocol, dataset=dataset)
        failed = opened.transcripts(protocol=protocol, dataset=dataset, complete=False)
        num_complete = opened.counts()["complete"]
        built = build_report(reading(transcripts, num_complete), failed=failed)
    if not built.num_debates:
        causes = ", ".join(f"{f.num} × {f.cause.replace('_', ' ')}" for f in built.failures)
        chosen = {"--protocol": protocol, "--dataset": dataset}
        which = "".join(f" {option} {value}" for option, value in chosen.items() if value)
        advice = f"run `oversight debate --store {store}`"
        if which and num_complete:
            there = count(num_complete, "complete debate")
            advice = f"without that it has {there}: `oversight report --store {store}`"
        raise StoreError(
            f"{store}: no complete debate{' with' * bool(which)}{which} to report on; "
            f"{f'failed: {causes}; ' * bool(causes)}{advice}"
        )
    if as_json:
        typer.echo(json.dumps(to_json(built), indent=2))
    else:
        Console().print(render_text(built))
    for path, render in ((html, render_html), (png, render_png)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            render(built, path)
            typer.echo(f"{path} written", err=True)
