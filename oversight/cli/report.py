"""`oversight report` and `oversight export`: what came of debates, in figures and in rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oversight.cli.importing import AsFormat, write_as
from oversight.cli.options import (
    DEFAULT_STORE,
    Json,
    Prices,
    RunNames,
    RunTags,
    Store,
    one_of,
    registered,
    set_option,
)

if TYPE_CHECKING:
    from rich.console import Console

    from oversight.cli.runs import ReportChoice
    from oversight.evals.report import Report
    from oversight.text import numbers


OnlyProtocol = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        "-p",
        help="Only this protocol.",
        show_default=False,
        autocompletion=registered("protocols"),
    ),
]
OnlyDataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        "-d",
        help="Only this data set.",
        show_default=False,
        autocompletion=registered("datasets"),
    ),
]
BY = ("difficulty", "model", "tag", "protocol", "judge", "study", "dataset", "run")
"""Properties by which a report can be divided (`evals.properties.By`)."""
DividedBy = Annotated[
    list[str] | None,
    typer.Option(
        "--by",
        metavar="|".join((*BY, "meta.NAME")),
        help="Also by this, meta.NAME being a value that questions carry; several joined by + "
        "are crossed, all arms pooled. May be repeated.",
        show_default=False,
        autocompletion=one_of(lambda: BY),
    ),
]
JudgeGroups = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.toml",
        help='Judges\' groups, a table [groups] such as anna = "nurses": agreement, regret by '
        "rule and ratings of debaters in each.",
        show_default=False,
    ),
]


def report(
    stores: Annotated[
        list[str] | None,
        typer.Argument(help="Stores, each measured by itself.", show_default="--store"),
    ] = None,
    store: Store = DEFAULT_STORE,
    run: RunNames = None,
    tag: RunTags = None,
    by: DividedBy = None,
    protocol: OnlyProtocol = None,
    dataset: OnlyDataset = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            metavar="NAME=STORE",
            help="Report on these stores in place of --store, each under a name of your own.",
            show_default=False,
        ),
    ] = None,
    prices: Prices = None,
    turn_price: Annotated[
        float, typer.Option(min=0.0, help="Of a judge's turn, in points of the log score, base 2.")
    ] = 0.05,
    groups: JudgeGroups = None,
    each_person: Annotated[
        bool,
        typer.Option(
            "--each-person",
            help="Show each person who judged; more than 5 of one protocol are else shown as one.",
        ),
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="NAME.html or FOLDER",
            help="Write one page with pictures; or a folder in which each number leads to the "
            "transcripts behind it.",
            show_default=False,
        ),
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Write one picture.", show_default=False)] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            help="Write figures as CSV: NAME.csv, or a folder for every table.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show judge accuracy by protocol, with intervals clustered by question.

    Several stores (oversight report a.db b.db) or runs (--run a --run b) stand side by side, with
    their differences on the questions that both were asked.

    Of answers to open prompts: harm, right answers and over-refusal before and after self-critique,
    where the data set decides them by rule, by arm with --arm start=a.db --arm 'after SL'=b.db.
    """
    from rich.console import Console

    from oversight.cli.runs import ReportChoice, arms_of, properties, stores_of
    from oversight.evals.findings import to_json, write_csv
    from oversight.evals.groups import read_groups
    from oversight.evals.pictures import render_png
    from oversight.evals.rendering import render_html, render_text
    from oversight.files import check_place

    for option, place in (("--html", html), ("--png", png), ("--csv", csv)):
        if place is not None:
            is_folder = option == "--html" and place.suffix.lower() not in PAGE_SUFFIXES
            check_place(place, option, is_folder=is_folder)
    read = ReportChoice(
        stores_of(stores or (), store, arms_of(arm or ())), run or (), tag or (), protocol, dataset
    )
    built = read.report(
        properties(by or ()),
        prices,
        turn_price,
        each_person=each_person,
        groups=None if groups is None else read_groups(groups),
    )
    if as_json:
        typer.echo(json.dumps(to_json(built), indent=2))
    else:
        Console().print(render_text(built))
    if html is not None and html.suffix.lower() not in PAGE_SUFFIXES:
        _write_folder(built, read, html)
        html = None
    for path, render in ((html, render_html), (png, render_png)):
        if path is not None:
            render(built, path)
            typer.echo(f"{path} written", err=True)
    for path in write_csv(built, csv) if csv is not None else ():
        typer.echo(f"{path} written", err=True)


PAGE_SUFFIXES = (".html", ".htm")
"""Ends of names for which --html is one page; any other name is a folder's."""


def _write_folder(built: Report, read: ReportChoice, folder: Path) -> None:
    """Write a report with the transcripts behind its numbers."""
    from oversight.reporting.static import write_folder
    from oversight.store import Store as OpenStore
    from oversight.text.numbers import count

    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(OpenStore.open(url, create=False, only_read=True))
            for name, url in read.stores.items()
        }
        only, groups = read.filters(opened)
        written = write_folder(built, opened, folder, only, groups)
    said = count(written.num_transcripts, "transcript")
    typer.echo(f"{written.path} written, with {said} behind its numbers", err=True)


Sets = Annotated[list[str] | None, set_option("min_margin=0.1", "What counts as a preference")]


GAP = 2
"""Spaces between two columns."""


def print_table(table: numbers.Table, console: Console) -> None:
    """A table under its title, with its note below; in parts where the terminal is narrow."""
    from rich.table import Table as RichTable

    from oversight.evals.rendering import add_columns, layouts

    console.print()
    for number, layout in enumerate(layouts(table, console.width, GAP)):
        title = None if number else table.title
        shown = RichTable(box=None, pad_edge=False, title=title, title_justify="left")
        add_columns(shown, table, layout)
        console.print(shown)
    console.print(table.note, style="dim", highlight=False)


class ExportLayout(StrEnum):
    """Kind of file that `export` writes."""

    PREFERENCE = "preference"
    KWISE = "kwise"
    UNPAIRED = "unpaired"
    TRANSCRIPTS = "transcripts"


FORMAT_OF_SUFFIX = {".parquet": "parquet", ".jsonl": "jsonl"}


def export(
    out: Annotated[Path, typer.Argument(help="The file: NAME.parquet or NAME.jsonl.")],
    store: Store = DEFAULT_STORE,
    layout: Annotated[
        ExportLayout,
        typer.Option(
            help="preference: prompt, chosen, rejected. kwise: all responses with their ranks. "
            "unpaired: each speech with a label, whether its side was believed. "
            "transcripts: whole debates."
        ),
    ] = ExportLayout.PREFERENCE,
    as_format: AsFormat = None,
    protocol: OnlyProtocol = None,
    dataset: OnlyDataset = None,
    run: RunNames = None,
    tag: RunTags = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Write preference rows or transcripts as Parquet or JSONL, or debates in another's format.

    Settings for --set, with their defaults: kinds=["sides", "siblings", "pairs", "principles",
    "revisions"] (and what was rated in tasks of your own, by their names), label="judge" (or
    "truth"), siblings="best_worst" (or "best_all", "all_pairs", "kwise"), min_margin=0,
    min_score_gap=0, unseen=true, raters="all" (or "persons", "models"), ties=true, weight="equal",
    margin=0, combine="mean" (or "majority", or over groups "weighted", "maximin", "nash",
    "bridging"), groups={}, min_group=1.
    Of these the layout transcripts takes two: raters, whose ratings are written, and unseen=false,
    without what people judged or rated before all the turns had been on their screen.
    """
    from oversight.aggregation import only_of
    from oversight.cli.progress import reading
    from oversight.cli.runs import chosen_by, names_of, nothing_in
    from oversight.config import assignments
    from oversight.errors import ConfigError, StoreError
    from oversight.files import check_place
    from oversight.preferences.building import export as write
    from oversight.preferences.building import preferences
    from oversight.preferences.settings import Dropped, PreferenceSettings
    from oversight.preferences.sides import labelled_speeches, without_unseen
    from oversight.store import Store as OpenStore

    if as_format is not None:
        only = {"protocol": protocol, "dataset": dataset}
        write_as(as_format, out, store, only, (run or (), tag or ()), sets, as_json=as_json)
        return
    if out.suffix not in FORMAT_OF_SUFFIX:
        raise ConfigError(f"{str(out)!r}: the name ends in .parquet or .jsonl")
    settings = PreferenceSettings.parse(assignments(sets or ()))
    check_place(out, "OUT")
    dropped = Dropped()
    with OpenStore.open(store, create=False, only_read=True) as opened:
        runs = names_of(opened, run or (), tag or ())
        chosen = chosen_by(runs=run or (), tags=tag or (), protocol=protocol, dataset=dataset)
        where: Any = {"protocol": protocol, "dataset": dataset, "runs": runs}
        num = opened.counts()["complete"]
        opened.require_debates(protocol=protocol, dataset=dataset)
        if not opened.debate_ids(complete=True, **where):
            raise StoreError(nothing_in(store, chosen, num, "to export"))
        transcripts = reading(opened.transcripts(**where), num)
        make = labelled_speeches if layout is ExportLayout.UNPAIRED else preferences
        rows: Any = (
            (
                only_of(each if settings.unseen else without_unseen(each, dropped), settings.raters)
                for each in transcripts
            )
            if layout is ExportLayout.TRANSCRIPTS
            else make(transcripts, settings, opened.prompt, dropped)
        )
        written = write(rows, out, FORMAT_OF_SUFFIX[out.suffix], layout.value)
    _tell_export(written, dropped, settings.kinds, as_json=as_json)


def _tell_export(written: Any, dropped: Any, kinds: Sequence[str], *, as_json: bool) -> None:
    """Print what was written and, sentence by sentence, why the rest was not."""
    from oversight.preferences.settings import explained
    from oversight.text.numbers import count

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
    for line in explained(dropped, kinds, is_empty=not (written.num_rows or written.num_left_out)):
        typer.echo(f"  {line}")
    if written.num_repaired:
        replaced = count(written.num_repaired, "character")
        typer.echo(f"  {replaced} replaced that no file can hold")
