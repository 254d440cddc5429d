"""`oversight plot`: the curves of training runs as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def plot(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The PNG; curves.png in the first run's folder.",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", help="Only this metric. May be repeated."),
    ] = None,
) -> None:
    """Draw loss, reward, KL and the like of one run, or of several over one another."""
    from oversight.train.runs.plot import plot as draw_plot

    target = out or runs[0] / "curves.png"
    draw_plot(runs, target, metric or ())
    typer.echo(f"{target} written", err=True)
