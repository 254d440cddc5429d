"""`oversight audit`: measures of a judge before it is used."""

from __future__ import annotations

import json
import re
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
    from oversight.reporting.static import Cell
    from oversight.text.numbers import Table

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
Html = Annotated[
    Path | None,
    typer.Option(
        metavar="NAME.html or FOLDER",
        help="Write one page; or a folder in which each number leads to the transcripts behind it.",
        show_default=False,
    ),
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
    html: Html = None,
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
            check_place(place, option, is_folder=option == "--html" and not _is_page(place))
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
    if html is not None and not _is_page(html):
        _write_folder(found, settings.store, html)
        html = None
    for path, write in ((html, write_audit_page), (png, write_audit_picture)):
        if path is not None:
            write(found, path)
            typer.echo(f"{path} written", err=True)
    if work.failures:
        raise typer.Exit(1)


def _is_page(path: Path) -> bool:
    from oversight.cli.report import PAGE_SUFFIXES

    return path.suffix.lower() in PAGE_SUFFIXES


def _write_folder(found: JudgeAudit, store: str, folder: Path) -> None:
    """Write the audit with the transcripts behind its numbers."""
    from oversight.audits.page import audit_page
    from oversight.reporting.static import write_page_folder
    from oversight.store import Store
    from oversight.text.numbers import count

    only = (("run", found.run),)
    with Store.open(store, create=False, only_read=True) as opened:
        behind = AuditBehind(found, only)
        written = write_page_folder(audit_page(found), lambda _: behind, [opened], folder, only)
    said = count(written.num_transcripts, "transcript")
    typer.echo(f"{written.path} written, with {said} behind its numbers", err=True)


CLAUSE = re.compile(r"(?<=[.;] )|(?<=, )(?=and a made-up|the judge alone)")
"""Places at which a sentence on one thing goes on with another."""
MAX_NUMBER = 40
"""Characters up to which a cell with a digit in it is a number, and no sentence."""


class AuditBehind:
    """Finds the transcripts behind the numbers of an audit's page.

    Args:
        audit: The audit.
        only: Filters of all its debates.
    """

    def __init__(self, audit: JudgeAudit, only: tuple[tuple[str, str], ...]) -> None:
        from oversight.audits.claims import extent

        self._extent = extent(audit)
        asked = "expert" if audit.direct.expert_reads_source else "naive"
        self._by_name = {each.name: (("agent", each.name), *only) for each in audit.effects}
        self._by_name |= {
            "the judge alone": (("protocol", "naive"), ("agent", audit.agent), *only),
            "those who speak, asked directly": (("protocol", asked), *only),
        }
        self._phrases = {
            "With nothing changed": "unchanged",
            "Asked again": "unchanged",
            "the program’s mark from": "marks_removed",
            "a made-up quote": "fabricated_quotes",
            "Alone, with": "the judge alone",
            "the judge alone": "the judge alone",
            "asked directly": "those who speak, asked directly",
        }
        self._rest = (*(("agent", name) for name in audit.speakers), *only)

    def table(self, table: Table) -> list[list[Cell]]:
        """The rows of a table, each cell with a number with what is behind its row."""
        from oversight.reporting.static import Cell

        def cell(text: str, name: str) -> Cell:
            is_number = any(char.isdigit() for char in text) and len(text) <= MAX_NUMBER
            return Cell(text, self._by_name.get(name, self._rest) if is_number else None)

        return [[Cell(row[0]), *(cell(text, row[0]) for text in row[1:])] for row in table.rows]

    def sentence(self, text: str) -> list[Cell]:
        """A sentence in pieces, its numbers with the transcripts of what its clauses name; where
        one names nothing, of what the sentence begins with."""
        from oversight.reporting.static import Cell, pieces

        if text == self._extent:
            judge, rest = text.partition(" · ")[0], text.partition(" · ")[1:]
            return [Cell(judge), *pieces("".join(rest), self._rest)]
        subject = self._by_name.get(text.partition(":")[0], self._rest)
        clauses = CLAUSE.split(text)
        return [cell for each in clauses for cell in pieces(each, self._named(each) or subject)]

    def _named(self, clause: str) -> tuple[tuple[str, str], ...] | None:
        for phrase, name in self._phrases.items():
            if phrase in clause:
                return self._by_name.get(name)
        words = clause.removeprefix("Control: ").split()
        return self._by_name.get(words[0].rstrip(":")) if words else None


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
