"""`oversight audit`: measures of a judge before it is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oversight.cli.debate import (
    BaseUrls,
    Concurrency,
    Debater,
    DebaterEngine,
    DebaterModel,
    EngineName,
    Judge,
    JudgeEngine,
    JudgeModel,
    ModelName,
)
from oversight.cli.options import (
    CommandLine,
    Completed,
    Json,
    MaxCost,
    MaxTokens,
    Prices,
    Recipe,
    RunName,
    Tags,
    bounded,
    labelled,
    places,
    registered,
    set_option,
)
from oversight.cli.persons import addresses

if TYPE_CHECKING:
    from rich.console import Console

    from oversight.audits.measures import JudgeAudit
    from oversight.audits.preparing import AuditWork, JudgeAuditSettings

audit = CommandLine(help="Measure a judge before it is used.", no_args_is_help=True)


def _interventions(incomplete: str) -> Completed:
    from oversight.audits.interventions import BUILT_IN

    own = [(each.name, each.about) for each in BUILT_IN.values()]
    return [each for each in own if each[0].startswith(incomplete)] or places(".py")(incomplete)


Audited = Annotated[
    str | None,
    typer.Option(
        help="Store whose debates are audited; nothing is written to it.",
        show_default="debates are held over --dataset",
    ),
]
FromRuns = Annotated[
    list[str] | None,
    typer.Option(
        "--from-run",
        metavar="NAME",
        help="Only debates of this run. May be repeated.",
        show_default=False,
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        "-d",
        help="Data set to hold debates over; with --store, only debates of it.",
        show_default=False,
        autocompletion=registered("datasets"),
    ),
]
OfProtocols = Annotated[
    list[str] | None,
    typer.Option(
        "--protocol",
        "-p",
        help="Protocol to hold debates by; with --store, only debates of it. May be repeated.",
        show_default="debate; with --store all",
        autocompletion=registered("protocols"),
    ),
]
Limit = Annotated[
    int | None, typer.Option(min=2, help="At most so many transcripts.", show_default="100")
]
Interventions = Annotated[
    list[str] | None,
    typer.Option(
        "--intervention",
        "-i",
        help="Intervention by name or as file.py:name, with its control. May be repeated.",
        show_default="all",
        autocompletion=_interventions,
    ),
]
Into = Annotated[
    str | None,
    typer.Option(help="Store of the audit's own records.", show_default="judge_audit.db"),
]
DrawSeed = Annotated[int | None, typer.Option(help="Seed of every random draw.", show_default="0")]


@audit.command("judge")
def judge_(
    recipe: Recipe = None,
    store: Audited = None,
    from_run: FromRuns = None,
    dataset: Dataset = None,
    protocol: OfProtocols = None,
    limit: Limit = None,
    intervention: Interventions = None,
    into: Into = None,
    concurrency: Concurrency = None,
    seed: DrawSeed = None,
    debater: Debater = None,
    judge: Judge = None,
    engine: EngineName = None,
    model: ModelName = None,
    debater_model: DebaterModel = None,
    judge_model: JudgeModel = None,
    debater_engine: DebaterEngine = None,
    judge_engine: JudgeEngine = None,
    base_url: BaseUrls = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    prices: Prices = None,
    run: RunName = None,
    tag: Tags = None,
    html: Annotated[Path | None, typer.Option(help="Write one page.", show_default=False)] = None,
    png: Annotated[Path | None, typer.Option(help="Write one picture.", show_default=False)] = None,
    sets: Annotated[list[str] | None, set_option("judge.sharpness=2")] = None,
    as_json: Json = False,
) -> None:
    """Audit a judge: oversight audit judge --store debates.db --judge-model MODEL --html audit.html

    Transcripts are judged as they are, in both orders, and again with one thing changed in one
    side's words: more words, authority, certainty, made-up quotes, quotes of the other side, turns
    about nothing, flattery, orders to the judge, a claim that the other side agrees. Each effect
    stands beside its control with an interval, corrected for the number of them. The judge, and
    with --debater-model whoever speaks, is asked the same questions without a debate too.

    The same command goes on where it was stopped; run again, it finds everything done.
    """
    from oversight.audits.preparing import JudgeAuditSettings
    from oversight.config import assignments, chosen, read_toml
    from oversight.files import check_place
    from oversight.graphs.planning import ModelOptions, casting

    for option, place in (("--html", html), ("--png", png)):
        if place is not None:
            check_place(place, option)
    flags: dict[str, Any] = {
        "transcripts": store,
        "from_run": from_run or None,
        "dataset.dataset": dataset,
        "protocols": protocol or None,
        "limit": limit,
        "interventions": intervention or None,
        "store": into,
        "concurrency": concurrency,
        "seed": seed,
    }
    flags |= labelled(run, tag) | bounded(max_tokens, max_cost, prices)
    models = ModelOptions(
        model=model,
        engine=engine,
        debater_model=debater_model,
        judge_model=judge_model,
        debater_engine=debater_engine,
        judge_engine=judge_engine,
        base_url=addresses(base_url),
    )
    cast_as = casting(debater=debater, judge=judge, models=models)
    if (speaking := models.of("debater")) is not None:
        cast_as |= {"expert.agent": "judge", "expert.engine": speaking[0]}
    models.refuse_contradictions(cast_as, assignments(sets or ()))
    base = read_toml(recipe) if recipe else {}
    changes = cast_as | chosen(flags, sets or ())
    settings = JudgeAuditSettings.changed(base, changes, where=recipe.name if recipe else "")
    _run(settings, recipe, html, png, as_json=as_json)


def _run(
    settings: JudgeAuditSettings,
    recipe: Path | None,
    html: Path | None,
    png: Path | None,
    *,
    as_json: bool,
) -> None:
    """Make what is missing, measure, and show it."""
    from rich.console import Console

    from oversight.audits.page import audit_json, write_audit_page
    from oversight.audits.picture import write_audit_picture
    from oversight.audits.preparing import prepare_audit
    from oversight.audits.running import measure_audit, run_audit
    from oversight.cli.ending import INTERRUPTS
    from oversight.cli.progress import TaskProgress
    from oversight.store import Store
    from oversight.store.runs import start_of

    work = prepare_audit(settings)
    with Store.open(settings.store, transactions=settings.transactions) as opened:
        start = opened.begin_run(start_of(settings, "audit", recipe))
        with TaskProgress(Console(stderr=True)) as shown:
            INTERRUPTS.run(run_audit(work, opened, shown))
        found = measure_audit(work, opened, start.run)
    if as_json:
        typer.echo(json.dumps(audit_json(found), indent=2))
    else:
        _print(found, work, Console(highlight=False))
    for path, write in ((html, write_audit_page), (png, write_audit_picture)):
        if path is not None:
            write(found, path)
            typer.echo(f"{path} written", err=True)
    if work.failures:
        raise typer.Exit(1)


def _print(found: JudgeAudit, work: AuditWork, console: Console) -> None:
    from oversight.audits.claims import claims, extent, notes
    from oversight.audits.page import audit_tables
    from oversight.cli.report import print_table
    from oversight.cli.running import print_failures
    from oversight.text.terminal import rich_text

    console.print(rich_text("Audit of a judge", style="bold"))
    console.print(rich_text(extent(found), style="dim"))
    for each in claims(found):
        console.print(rich_text(f"{'!' if each.warns else '•'} {each.says}"))
        console.print(rich_text(f"  control: {each.control}", style="dim"))
        console.print(rich_text(f"  {each.limit}", style="dim"))
    for line in notes(found):
        console.print(rich_text(f"! {line}", style="yellow"))
    for table in audit_tables(found):
        print_table(table, console)
    console.print(
        f"{work.num_done:,} answered, {work.num_found:,} found answered.", highlight=False
    )
    print_failures(work.failures, console)
    told = f"Recorded in {found.store} as run {found.run}."
    console.print(rich_text(told, style="dim"), soft_wrap=True)
