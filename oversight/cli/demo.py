"""`oversight demo`: from questions to a report, and to better models, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console


def demo(
    folder: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo"),
    questions: Annotated[
        int | None, typer.Option(min=1, help="How many.", show_default="60")
    ] = None,
    circle: Annotated[
        bool,
        typer.Option(help="Train in short forms: debaters by the judge, porter by a constitution."),
    ] = True,
) -> int:
    """Run debates, judge them, make preference data, report, and train on it: the whole circle.

    Seedling, a language model that ships with the package, plays every role, and in
    Constitutional AI its sister porter; no network is needed. Run it twice: the second time finds
    everything done.
    """
    from rich.console import Console

    from oversight.cli.running import run
    from oversight.config import RunSettings, load_recipe
    from oversight.files import check_place
    from oversight.text.numbers import count

    console = Console()
    check_place(folder, "--folder", is_folder=True)
    folder.mkdir(parents=True, exist_ok=True)
    changes: dict[str, object] = {"store": str(folder / "demo.db")}
    if questions is not None:
        changes["dataset.limit"] = questions
    settings = load_recipe(RunSettings, Path(__file__).with_name("demo.toml"), changes)

    console.rule("[bold]1. One debate, as it happens")
    one = settings.dataset.model_copy(update={"limit": 1})
    first = {"dataset": one, "protocols": ("debate_single_turn",), "sides": "drawn"}
    run(settings.model_copy(update=first), console, live=True)

    limit, names = settings.dataset.limit or 0, ", ".join(settings.protocols)
    protocols = count(len(settings.protocols), "protocol")
    console.rule(f"[bold]2. {count(limit, 'question')} by {protocols}")
    console.print(names)
    done = run(settings, console)
    progress = done.progress
    console.print(f"{count(progress.done, 'debate')} run, {progress.found:,} found complete.")

    console.rule("[bold]3. Preference data")
    _export(folder, console)

    console.rule("[bold]4. Report")
    _report(folder, console)

    if circle:
        console.rule("[bold]5. The closed circle, in its short form")
        if code := _circle(folder, console):
            return code
        console.rule("[bold]6. Constitutional AI, its first stage in its short form")
        return _constitutional(folder, console)
    return 0


def _circle(folder: Path, console: Console) -> int:
    """Train debaters and consultants four ways, and see whether the judge is more often right."""
    from rich.console import Console

    from oversight.cli.options import INTERRUPTED
    from oversight.cli.run import load_circle, print_results, run_circle
    from oversight.experiments.selfplay import RECIPE

    settings = load_circle(RECIPE, {"out": str(folder / "circle")}, [], quick=True)
    try:
        results = run_circle(settings, Console(stderr=True))
    except KeyboardInterrupt:
        return INTERRUPTED
    print_results(settings, results, console, short=True)
    return 0


def _constitutional(folder: Path, console: Console) -> int:
    """Train a model that only helps on its own revisions, and see how much harm it still does."""
    from rich.console import Console

    from oversight.cli.options import INTERRUPTED
    from oversight.cli.run import load_constitutional, print_constitutional, run_constitutional
    from oversight.experiments.constitutional import RECIPE

    changes = {"out": str(folder / "constitutional")}
    settings = load_constitutional(RECIPE, changes, quick=True)
    try:
        results, written = run_constitutional(settings, Console(stderr=True))
    except KeyboardInterrupt:
        return INTERRUPTED
    print_constitutional(results, written, console)
    return 0


def _export(folder: Path, console: Console) -> None:
    from oversight.preferences.building import preferences
    from oversight.preferences.export import export
    from oversight.preferences.settings import PreferenceSettings
    from oversight.store import Store
    from oversight.text.numbers import count

    with Store.open(str(folder / "demo.db"), create=False) as store:
        rows = preferences(store.transcripts(), PreferenceSettings(), store.prompt)
        pairs = export(rows, folder / "preferences.parquet", "parquet", "preference")
        debates = export(store.transcripts(), folder / "transcripts.jsonl", "jsonl", "transcripts")
    console.print(f"{pairs.path}: {count(pairs.num_rows, 'pair')} (prompt, chosen, rejected)")
    console.print(f"{debates.path}: {count(debates.num_rows, 'debate')}")


def _report(folder: Path, console: Console) -> None:
    from oversight.evals.page import render_html
    from oversight.evals.pictures import render_png
    from oversight.evals.report import build_report
    from oversight.evals.text import render_text
    from oversight.store import Store

    with Store.open(str(folder / "demo.db"), create=False) as store:
        report = build_report(store.transcripts())
    console.print(render_text(report))
    render_html(report, folder / "report.html")
    render_png(report, folder / "report.png")
    console.print(
        f"\nA page to look at: {folder / 'report.html'}   a picture: {folder / 'report.png'}"
    )
