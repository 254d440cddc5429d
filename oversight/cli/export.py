"""`oversight export`: preference rows and transcripts as files for other tools."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from oversight.cli.options import DEFAULT_STORE, Json, Store, set_option

Sets = Annotated[list[str] | None, set_option("min_margin=0.1", "What counts as a preference")]


class Layout(StrEnum):
    """What a file holds."""

    PREFERENCE = "preference"
    KWISE = "kwise"
    UNPAIRED = "unpaired"
    TRANSCRIPTS = "transcripts"


FORMAT_OF_SUFFIX = {".parquet": "parquet", ".jsonl": "jsonl"}


def export(
    out: Annotated[Path, typer.Argument(help="The file: NAME.parquet or NAME.jsonl.")],
    store: Store = DEFAULT_STORE,
    layout: Annotated[
        Layout,
        typer.Option(
            help="preference: prompt, chosen, rejected. kwise: all responses with their ranks. "
            "unpaired: each speech with a label, whether its side was believed. "
            "transcripts: whole debates."
        ),
    ] = Layout.PREFERENCE,
    protocol: Annotated[
        str | None, typer.Option("--protocol", "-p", help="Only this protocol.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Only this data set.", show_default=False)
    ] = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Write preference rows or transcripts as Parquet or JSONL.

    Settings for --set, with their defaults: kinds=["sides", "siblings", "pairs", "principles",
    "revisions"], label="judge" (or "truth"), siblings="best_worst" (or "best_all", "all_pairs",
    "kwise"), min_margin=0, min_score_gap=0, unseen=true, raters="all" (or "persons", "models"),
    ties=true, weight="equal". Of these the layout transcripts takes two: raters, whose ratings are
    written, and unseen=false, without what people judged or rated before all the turns had been
    on their screen.
    """
    from oversight.cli.progress import reading
    from oversight.config.recipe import assignments
    from oversight.errors import ConfigError
    from oversight.evals.findings import count
    from oversight.preferences.building import preferences
    from oversight.preferences.dropped import Dropped
    from oversight.preferences.export import export as write
    from oversight.preferences.rulings import only_of, without_unseen
    from oversight.preferences.settings import PreferenceSettings
    from oversight.preferences.speeches import labelled_speeches
    from oversight.store import Store as OpenStore

    if out.suffix not in FORMAT_OF_SUFFIX:
        raise ConfigError(f"{str(out)!r}: the name ends in .parquet or .jsonl")
    settings = PreferenceSettings.parse(assignments(sets or ()))
    dropped = Dropped()
    with OpenStore.open(store, create=False) as opened:
        found = opened.transcripts(protocol=protocol, dataset=dataset)
        transcripts = reading(found, opened.counts()["complete"])
        make = labelled_speeches if layout is Layout.UNPAIRED else preferences
        rows: Any = (
            (
                only_of(each if settings.unseen else without_unseen(each, dropped), settings.raters)
                for each in transcripts
            )
            if layout is Layout.TRANSCRIPTS
            else make(transcripts, settings, opened.prompt, dropped)
        )
        written = write(rows, out, FORMAT_OF_SUFFIX[out.suffix], layout.value)
    if as_json:
        document = {
            "path": str(written.path),
            "rows": written.num_rows,
            "left_out": written.num_left_out,
            "repaired": written.num_repaired,
            "dropped": dropped.to_json(),
        }
        typer.echo(json.dumps(document, indent=2))
        return
    typer.echo(f"{written.path}: {count(written.num_rows, 'row')}")
    if written.num_left_out:
        rows = count(written.num_left_out, "row")
        typer.echo(f"  {rows} left out (ties, or K-wise): use --layout kwise")
    for reason, number in dropped.to_json().items():
        typer.echo(f"  {number:,} dropped: {reason.replace('_', ' ')}")
    if written.num_repaired:
        replaced = count(written.num_repaired, "character")
        typer.echo(f"  {replaced} replaced that no file can hold")
