"""`oversight run` and `oversight demo`: from questions or prompts to a report, in one command.

A recipe of an experiment is run from the first debates or answers on; the demo goes to better
models as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oversight.cli.options import (
    INTERRUPTED,
    Json,
    OutFolder,
    Processes,
    Quick,
    RunName,
    Tags,
    labelled,
    places,
    set_option,
)

if TYPE_CHECKING:
    from rich.console import Console

    from oversight.experiments.constitutional.results import ConstitutionalResults
    from oversight.experiments.constitutional.settings import ConstitutionalSettings
    from oversight.experiments.feedback_loop.results import FeedbackLoopResults
    from oversight.experiments.feedback_loop.settings import FeedbackLoopSettings
    from oversight.experiments.selfplay.results import CircleResults
    from oversight.experiments.selfplay.settings import CircleSettings
    from oversight.experiments.workers import JobsProgress


CIRCLE, CONSTITUTIONAL, FEEDBACK = "closed_circle", "constitutional", "feedback_loop"
"""Experiments that a recipe names; one that names none is a circle."""
WIDE = 130
"""Columns of a terminal that intervals have room in."""


Sets = Annotated[list[str] | None, set_option("iterations=2")]


def run(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="Its TOML file: recipes/closed_circle.toml.",
            show_default=False,
            autocompletion=places(".toml"),
        ),
    ],
    out: OutFolder = None,
    quick: Quick = False,
    jobs: Processes = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model that is trained.", show_default="the recipe's"),
    ] = None,
    judge_model: Annotated[
        str | None,
        typer.Option(help="Model that judges, of self-play.", show_default="the recipe's"),
    ] = None,
    name: RunName = None,
    tag: Tags = None,
    sets: Sets = None,
    as_json: Json = False,
) -> int:
    """Run an experiment: self-play, both stages of Constitutional AI, or a feedback loop.

    Self-play (closed_circle.toml): debates train debaters, their debates are judged again, and it
    is measured.
    Constitutional AI (constitutional_sl.toml, constitutional_rl.toml): answers are criticised and
    revised by principles, or compared, and train the model; harm and help are measured.
    A feedback loop (feedback_loop.toml): a guarded model is served, and learns from what its users
    say; bad answers are counted.

    Kill it whenever you like: the same command goes on where it was, and a second run prints the
    same tables again.
    """
    from rich.console import Console

    changes: dict[str, Any] = {}
    if out is not None:
        changes["out"] = str(out)
    if jobs is not None:
        changes["jobs"] = jobs
    changes |= labelled(name, tag)
    changes |= {k: v for k, v in {"model": model, "judge": judge_model}.items() if v is not None}
    data = _data(recipe, changes, sets or [], quick=quick)
    named = data.pop("experiment", CIRCLE)
    if named == CONSTITUTIONAL:
        return _constitutional(_parsed_constitutional(recipe, data), as_json=as_json)
    if named == FEEDBACK:
        return _feedback_loop(_parsed_loop(recipe, data), as_json=as_json)
    circle = _circle(recipe, data)
    try:
        results = run_circle(circle, Console(stderr=True))
    except KeyboardInterrupt:
        return INTERRUPTED
    if as_json:
        typer.echo(json.dumps(results.to_json(), indent=2))
    else:
        print_results(circle, results, Console())
    return 0


def load_circle(
    recipe: Path, changes: dict[str, Any], sets: list[str], *, quick: bool
) -> CircleSettings:
    """The settings of a circle's recipe, in its short form if asked for; what is set by hand comes
    last.

    Raises:
        ConfigError: It cannot be read, or a setting is wrong.
    """
    return _circle(recipe, _data(recipe, changes, sets, quick=quick))


def _circle(recipe: Path, data: dict[str, Any]) -> CircleSettings:
    from oversight.errors import ConfigError
    from oversight.experiments.selfplay.settings import CircleSettings

    try:
        return CircleSettings.parse(data)
    except ConfigError as error:
        raise ConfigError(f"{recipe}: {error}") from None


def _data(recipe: Path, changes: dict[str, Any], sets: list[str], *, quick: bool) -> dict[str, Any]:
    from oversight.config import chosen, override, read_toml, short_form
    from oversight.errors import ConfigError

    data = read_toml(recipe)
    if quick:
        data = short_form(data, recipe)
    data = override(data, chosen(changes, sets))
    named = data.get("experiment", CIRCLE)
    if named not in (CIRCLE, CONSTITUTIONAL, FEEDBACK):
        raise ConfigError(
            f"{recipe}: experiment = {named!r}: expected {CIRCLE!r}, {CONSTITUTIONAL!r} or "
            f"{FEEDBACK!r}"
        )
    return dict(data)


def load_constitutional(
    recipe: Path, changes: dict[str, Any], *, quick: bool
) -> ConstitutionalSettings:
    """The settings of an experiment in Constitutional AI, in its short form if asked for.

    Raises:
        ConfigError: It cannot be read, or a setting is wrong.
    """
    return _parsed_constitutional(recipe, _data(recipe, changes, [], quick=quick))


def _parsed_constitutional(recipe: Path, data: dict[str, Any]) -> ConstitutionalSettings:
    from oversight.errors import ConfigError
    from oversight.experiments.constitutional.settings import ConstitutionalSettings

    try:
        return ConstitutionalSettings.parse(
            {name: value for name, value in data.items() if name != "experiment"}
        )
    except ConfigError as error:
        raise ConfigError(f"{recipe}: {error}") from None


def _constitutional(settings: ConstitutionalSettings, *, as_json: bool) -> int:
    from rich.console import Console

    from oversight.experiments.constitutional.results import findings

    try:
        results, written = run_constitutional(settings, Console(stderr=True))
    except KeyboardInterrupt:
        return INTERRUPTED
    if as_json:
        typer.echo(json.dumps(results.to_json() | {"findings": findings(results)}, indent=2))
    else:
        print_constitutional(results, written, Console())
    return 0


def run_constitutional(
    settings: ConstitutionalSettings, console: Console
) -> tuple[ConstitutionalResults, tuple[Path, ...]]:
    """Do what is left of an experiment in Constitutional AI; its results, and their files."""
    from oversight.experiments import workers
    from oversight.experiments.constitutional.results import gather, write_all
    from oversight.experiments.constitutional.stages import Constitutional

    with job_progress("constitutional AI", console) as report:
        done = workers.run(Constitutional(settings), report)
    results = gather(settings, done)
    return results, tuple(write_all(settings, results))


def print_constitutional(
    results: ConstitutionalResults, written: Sequence[Path], console: Console
) -> None:
    """Findings, tables, limits, and where the files are."""
    from oversight.cli.report import print_table
    from oversight.experiments.constitutional.results import LIMITS, findings, tables
    from oversight.text.terminal import rich_text

    for line in findings(results):
        console.print(rich_text(f"• {line}"))
    for table in tables(results):
        print_table(table, console)
    console.print(rich_text(LIMITS, style="dim"))
    console.print(rich_text(", ".join(str(path) for path in written)), soft_wrap=True)


def load_loop(recipe: Path, changes: dict[str, Any], *, quick: bool) -> FeedbackLoopSettings:
    """The settings of a feedback loop, in its short form if asked for.

    Raises:
        ConfigError: It cannot be read, or a setting is wrong.
    """
    data = _data(recipe, changes, [], quick=quick)
    data.pop("experiment", None)
    return _parsed_loop(recipe, data)


def _parsed_loop(recipe: Path, data: dict[str, Any]) -> FeedbackLoopSettings:
    from oversight.errors import ConfigError
    from oversight.experiments.feedback_loop.settings import FeedbackLoopSettings

    try:
        return FeedbackLoopSettings.parse(data)
    except ConfigError as error:
        raise ConfigError(f"{recipe}: {error}") from None


def run_loop(
    settings: FeedbackLoopSettings, console: Console
) -> tuple[FeedbackLoopResults, tuple[Path, ...]]:
    """Do what is left of a feedback loop; its results, and their files."""
    from oversight.experiments import workers
    from oversight.experiments.feedback_loop.results import gather, write_all
    from oversight.experiments.feedback_loop.stages import FeedbackLoop

    with job_progress("feedback loop", console) as report:
        done = workers.run(FeedbackLoop(settings), report)
    results = gather(settings, done)
    return results, tuple(write_all(settings, results))


def _feedback_loop(settings: FeedbackLoopSettings, *, as_json: bool) -> int:
    from rich.console import Console

    from oversight.cli.report import print_table
    from oversight.experiments.feedback_loop.results import LIMITS, findings, tables
    from oversight.text.terminal import rich_text

    try:
        results, written = run_loop(settings, Console(stderr=True))
    except KeyboardInterrupt:
        return INTERRUPTED
    if as_json:
        typer.echo(json.dumps(results.to_json() | {"findings": findings(results)}, indent=2))
        return 0
    console = Console()
    for line in findings(results):
        console.print(rich_text(f"• {line}"))
    for table in tables(results):
        print_table(table, console)
    console.print(rich_text(LIMITS, style="dim"))
    console.print(rich_text(", ".join(str(path) for path in written)), soft_wrap=True)
    return 0


@contextmanager
def job_progress(name: str, console: Console) -> Iterator[Callable[[JobsProgress], None]]:
    """A bar of the jobs that are done where there is a terminal, and a line for each."""
    from oversight.cli.progress import TaskProgress

    with TaskProgress(console) as shown:

        def report(at: JobsProgress) -> None:
            done, total = len(at.done), len(at.jobs)
            if console.is_terminal:
                shown(name, done, total)
            if at.finished is not None:
                job, seconds = at.finished
                line = f"{done:>3}/{total} {job}: {seconds:.0f} s"
                console.print(line, highlight=False, markup=False, soft_wrap=True)

        yield report


def run_circle(circle: CircleSettings, console: Console) -> CircleResults:
    """Do what is left of a circle, with progress, and write what there is to look at."""
    from oversight.experiments.selfplay.pictures import write_all
    from oversight.experiments.selfplay.results import gather
    from oversight.experiments.selfplay.running import run as run_jobs

    with job_progress("closed circle", console) as report:
        done = run_jobs(circle, report)
    results = gather(circle, done)
    write_all(circle, results)
    return results


def print_results(
    circle: CircleSettings, results: CircleResults, console: Console, *, short: bool = False
) -> None:
    """Findings, what to mind, tables (only the first if `short`), and where the page is."""
    from oversight.cli.report import print_table
    from oversight.experiments.selfplay import words
    from oversight.text.terminal import rich_text

    console.print(rich_text(words.extent(results), style="bold"))
    for line in words.headlines(results):
        console.print(rich_text(f"• {line}"))
    for line in results.warnings:
        console.print(rich_text(f"! {line}", style="yellow"))
    tables = words.tables(results, wide=console.width >= WIDE)
    for table in tables[:1] if short else tables:
        print_table(table, console)
    names = "report.html, accuracy.png, curve.png, baselines.png, results.json"
    console.print(rich_text(f"{circle.out}: {names}"), soft_wrap=True)


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
    from oversight.text.terminal import rich_text

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
        if code := _demo_circle(folder, console):
            return code
        console.rule("[bold]6. Constitutional AI, its first stage in its short form")
        if code := _demo_constitutional(folder, console):
            return code
    console.print(rich_text(f"\nLook at every debate and run of it: oversight view {folder}"))
    return 0


def _demo_circle(folder: Path, console: Console) -> int:
    """Train debaters and consultants four ways, and see whether the judge is more often right."""
    from rich.console import Console

    from oversight.cli.options import INTERRUPTED
    from oversight.experiments.selfplay import RECIPE

    settings = load_circle(RECIPE, {"out": str(folder / "circle")}, [], quick=True)
    try:
        results = run_circle(settings, Console(stderr=True))
    except KeyboardInterrupt:
        return INTERRUPTED
    print_results(settings, results, console, short=True)
    return 0


def _demo_constitutional(folder: Path, console: Console) -> int:
    """Train a model that only helps on its own revisions, and see how much harm it still does."""
    from rich.console import Console

    from oversight.cli.options import INTERRUPTED
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
    from oversight.preferences.building import export, preferences
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
    from oversight.evals.pictures import render_png
    from oversight.evals.rendering import render_html, render_text
    from oversight.evals.report import build_report
    from oversight.store import Store

    with Store.open(str(folder / "demo.db"), create=False) as store:
        report = build_report(store.transcripts())
    console.print(render_text(report))
    render_html(report, folder / "report.html")
    render_png(report, folder / "report.png")
    console.print(
        f"\nA page to look at: {folder / 'report.html'}   a picture: {folder / 'report.png'}"
    )
