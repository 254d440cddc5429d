"""`oversight report` and `oversight export`: what came of debates, as figures and as rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from oversight.cli.options import DEFAULT_STORE, Json, Store, set_option


def report(
    store: Store = DEFAULT_STORE,
    protocol: Annotated[
        str | None, typer.Option("--protocol", "-p", help="Only this protocol.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="Only this data set.", show_default=False)
    ] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            "--arm",
            metavar="NAME=STORE",
            help="Report on these stores in place of --store, answers to open prompts by name.",
            show_default=False,
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write one page with pictures.", show_default=False)
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Write one picture.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Show judge accuracy by protocol, with intervals clustered by question.

    Of answers to open prompts: harm, right answers and over-refusal before and after self-critique,
    where the data set decides them by rule, by arm with --arm start=a.db --arm 'after SL'=b.db.
    """
    from rich.console import Console

    from oversight.cli.progress import reading
    from oversight.errors import StoreError
    from oversight.evals.findings import to_json
    from oversight.evals.page import render_html
    from oversight.evals.pictures import render_png
    from oversight.evals.report import build_report
    from oversight.evals.text import render_text
    from oversight.files import check_place
    from oversight.store import Store as OpenStore

    named = _arms(arm or ())
    for option, place in (("--html", html), ("--png", png)):
        if place is not None:
            check_place(place, option)
    num_complete = 0
    with ExitStack() as stack:
        read: dict[str, Any] = {}
        failed: list[Any] = []
        for name, url in (named or {"": store}).items():
            opened = stack.enter_context(OpenStore.open(url, create=False, only_read=True))
            num = opened.counts()["complete"]
            num_complete += num
            found = opened.transcripts(protocol=protocol, dataset=dataset)
            read[name] = reading(found, num)
            incomplete = opened.transcripts(protocol=protocol, dataset=dataset, complete=False)
            failed = [*failed, incomplete]
        built = build_report(read.pop("", ()), failed=chain.from_iterable(failed), arms=read)
    store = ", ".join(named.values()) or store
    if not built.num_debates:
        causes = ", ".join(f"{f.num} × {f.cause.replace('_', ' ')}" for f in built.failures)
        raise StoreError(_none(store, protocol, dataset, num_complete, "to report on", causes))
    if as_json:
        typer.echo(json.dumps(to_json(built), indent=2))
    else:
        Console().print(render_text(built))
    for path, render in ((html, render_html), (png, render_png)):
        if path is not None:
            render(built, path)
            typer.echo(f"{path} written", err=True)


def _none(
    store: str,
    protocol: str | None,
    dataset: str | None,
    num_complete: int,
    purpose: str,
    causes: str = "",
) -> str:
    """The words on a store without a complete debate of the kind that is asked for."""
    from oversight.text.numbers import count

    chosen = {"--protocol": protocol, "--dataset": dataset}
    which = "".join(f" {option} {value}" for option, value in chosen.items() if value)
    advice = f"run `oversight debate --store {store}`"
    if which and num_complete:
        there = count(num_complete, "complete debate")
        advice = f"without that it has {there}: `oversight report --store {store}`"
    return (
        f"{store}: no complete debate{' with' * bool(which)}{which} {purpose}; "
        f"{f'failed: {causes}; ' * bool(causes)}{advice}"
    )


def _arms(given: Sequence[str]) -> dict[str, str]:
    """The stores of `--arm` by the names of the arms.

    Raises:
        ConfigError: One is not written as NAME=STORE, or a name stands twice.
    """
    from oversight.errors import ConfigError

    found: dict[str, str] = {}
    for each in given:
        name, equals, store = each.partition("=")
        if not (name and equals and store):
            raise ConfigError(f"--arm {each!r}: write a name and a store, as in start=start.db")
        if name in found:
            raise ConfigError(f"--arm {name!r}: named twice ({found[name]} and {store})")
        found[name] = store
    return found


Sets = Annotated[list[str] | None, set_option("min_margin=0.1", "What counts as a preference")]


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
    "revisions"] (and what was rated in tasks of your own, by their names), label="judge" (or
    "truth"), siblings="best_worst" (or "best_all", "all_pairs", "kwise"), min_margin=0,
    min_score_gap=0, unseen=true, raters="all" (or "persons", "models"), ties=true, weight="equal".
    Of these the layout transcripts takes two: raters, whose ratings are written, and unseen=false,
    without what people judged or rated before all the turns had been on their screen.
    """
    from oversight.aggregation.rulings import only_of
    from oversight.cli.progress import reading
    from oversight.config import assignments
    from oversight.errors import ConfigError, StoreError
    from oversight.files import check_place
    from oversight.preferences.building import preferences
    from oversight.preferences.export import export as write
    from oversight.preferences.settings import Dropped, PreferenceSettings, in_words
    from oversight.preferences.sides import labelled_speeches, without_unseen
    from oversight.store import Store as OpenStore
    from oversight.text.numbers import count

    if out.suffix not in FORMAT_OF_SUFFIX:
        raise ConfigError(f"{str(out)!r}: the name ends in .parquet or .jsonl")
    settings = PreferenceSettings.parse(assignments(sets or ()))
    check_place(out, "OUT")
    dropped = Dropped()
    with OpenStore.open(store, create=False, only_read=True) as opened:
        found = opened.transcripts(protocol=protocol, dataset=dataset)
        num = opened.counts()["complete"]
        if not opened.debate_ids(protocol=protocol, dataset=dataset, complete=True):
            raise StoreError(_none(store, protocol, dataset, num, "to export"))
        transcripts = reading(found, num)
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
    for number, reason in in_words(dropped.to_json().items()):
        typer.echo(f"  {number:,} dropped: {reason}")
    if written.num_repaired:
        replaced = count(written.num_repaired, "character")
        typer.echo(f"  {replaced} replaced that no file can hold")
