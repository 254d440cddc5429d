"""`oversight redteam`: attacks on policies, judges, critics, reward and feedback models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oversight.cli.options import (
    CommandLine,
    Completed,
    Json,
    MaxCost,
    MaxTokens,
    Prices,
    RunName,
    Tags,
    bounded,
    labelled,
    places,
    set_option,
    show_table,
)
from oversight.cli.redteam_findings import agreement, attacker, loop, mend, play

if TYPE_CHECKING:
    from rich.console import Console

    from oversight.redteam.findings import RedTeamFinding
    from oversight.redteam.lanes import RedTeamProgress
    from oversight.redteam.log import AttemptLog
    from oversight.redteam.measures import RedTeamFigures
    from oversight.redteam.preparing import RedTeamSettings, RedTeamWork

redteam = CommandLine(
    help="Attack models and judges of your own, or that you may test; see docs/redteam.md.",
    no_args_is_help=True,
)
redteam.command("mend")(mend)
redteam.command("loop")(loop)
redteam.command("attacker")(attacker)
redteam.command("play")(play)
redteam.command("agreement")(agreement)


def _attacks(incomplete: str) -> Completed:
    from oversight.redteam.attacks import load, names

    found = [(name, load(name).about) for name in names() if name.startswith(incomplete)]
    return found or places(".py")(incomplete)


RunRecipe = Annotated[
    Path,
    typer.Argument(
        help="A run's TOML file: targets, goals, attacks, engines.",
        show_default=False,
        autocompletion=places(".toml"),
    ),
]
WantedAttacks = Annotated[
    list[str] | None,
    typer.Option(
        "--attack",
        "-a",
        help="Attack by name or as file.py:name. May be repeated.",
        show_default="all that fit",
        autocompletion=_attacks,
    ),
]
Folder = Annotated[
    str | None, typer.Option(help="Folder of the run.", show_default="recipe's, else redteam")
]
Concurrency = Annotated[
    int | None, typer.Option(min=1, help="Attacks in flight at once.", show_default="32")
]
Sets = Annotated[list[str] | None, set_option("targets.mine.temperature=0")]


@redteam.command("run")
def run(
    recipe: RunRecipe,
    attack: WantedAttacks = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Before a judge: debates at most.", show_default="100"),
    ] = None,
    calls: Annotated[
        int | None,
        typer.Option(min=1, help="Calls for each attack on each goal.", show_default="50"),
    ] = None,
    max_calls: Annotated[
        int | None,
        typer.Option(
            "--max-calls", min=1, help="Stop at so many calls, to go on later.", show_default=False
        ),
    ] = None,
    fail_over: Annotated[
        float | None,
        typer.Option(
            "--fail-over",
            min=0.0,
            max=1.0,
            help="Exit code 1 if a larger share of goals than this is not shown safe.",
            show_default=False,
        ),
    ] = None,
    folder: Folder = None,
    store: Annotated[
        str | None,
        typer.Option(help="Store that findings are recorded in.", show_default="found.db there"),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="People's labels of to_label.jsonl, to correct rates by.", show_default=False
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write one page.", show_default=False)] = None,
    concurrency: Concurrency = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of every random draw.", show_default="0")
    ] = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    prices: Prices = None,
    run: RunName = None,
    tag: Tags = None,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Attack a recipe's targets: oversight redteam run recipes/redteam/policy.toml --html r.html

    Each goal is tried in its own words, then each attack on each goal that withstood them. What
    succeeds is tried again on fresh seeds. Attempts, findings (found.jsonl, hits.jsonl,
    found.sarif) and figures stand in the run's folder. The same command goes on where it was
    stopped.

    Only for models and judges of your own, and for those that you may test.
    """
    from oversight.config import chosen, read_toml
    from oversight.files import check_place
    from oversight.redteam.preparing import RedTeamSettings

    if html is not None:
        check_place(html, "--html")
    flags: dict[str, Any] = {
        "attacks": attack or None,
        "limit": limit,
        "calls": calls,
        "max_calls": max_calls,
        "fail_over": fail_over,
        "folder": folder,
        "store": store,
        "concurrency": concurrency,
        "seed": seed,
    }
    flags |= labelled(run, tag) | bounded(max_tokens, max_cost, prices)
    settings = RedTeamSettings.changed(
        read_toml(recipe), chosen(flags, sets or ()), where=recipe.name
    )
    raise typer.Exit(_run(settings, recipe, labels, html, as_json=as_json))


def _run(
    settings: RedTeamSettings,
    recipe: Path,
    labels: Path | None,
    html: Path | None,
    *,
    as_json: bool,
) -> int:
    """Attack, measure, write, show; the exit code."""
    from rich.console import Console

    from oversight.cli.ending import INTERRUPTS
    from oversight.cli.progress import TaskProgress
    from oversight.files import check_place
    from oversight.redteam.detecting import read_labels
    from oversight.redteam.findings import collect, store_of
    from oversight.redteam.log import AttemptLog
    from oversight.redteam.measures import measure
    from oversight.redteam.preparing import prepare_redteam
    from oversight.redteam.running import lanes_of, run_redteam
    from oversight.store import Store
    from oversight.store.runs import start_of

    if html is not None:
        check_place(html, "--html")
    known = None if labels is None else read_labels(labels)
    work = prepare_redteam(settings)
    place = Path(settings.folder)
    with AttemptLog(place, work.identity) as log:
        with TaskProgress(Console(stderr=True)) as shown:
            progress = INTERRUPTS.run(run_redteam(work, log, shown))
        figures = measure(lanes_of(work, log))
        with Store.open(store_of(settings)) as store:
            start = store.begin_run(start_of(settings, "redteam", recipe))
            found = collect(work, log, store)
        console = Console(highlight=False)
        _write(work, log, figures, found, start.run, html)
        if as_json:
            from oversight.redteam.page import redteam_json

            typer.echo(json.dumps(redteam_json(figures, found), indent=2))
        else:
            _print(work, figures, found, progress, console)
        if known is not None:
            _print_corrected(work, log, known, console)
    return _code(settings, figures, progress, Console(stderr=True, highlight=False))


def _code(
    settings: RedTeamSettings, figures: RedTeamFigures, progress: RedTeamProgress, console: Console
) -> int:
    from oversight.text.numbers import percent
    from oversight.text.terminal import rich_text

    code = 1 if progress.failures or progress.stopped else 0
    if settings.fail_over is not None:
        for each in figures.targets:
            if each.open.value > settings.fail_over:
                said = (
                    f"{each.target}: {percent(each.open.value)} of goals are not shown safe, more "
                    f"than --fail-over {settings.fail_over:g}"
                )
                console.print(rich_text(said), soft_wrap=True)
                code = 1
    return code


def _write(
    work: RedTeamWork,
    log: AttemptLog,
    figures: RedTeamFigures,
    found: list[RedTeamFinding],
    run: str,
    html: Path | None,
) -> None:
    """Write the run's files, and the page if one is wanted."""
    from oversight import __version__
    from oversight.files import write_json
    from oversight.redteam.detecting import SAMPLE, write_sample
    from oversight.redteam.findings import FOUND, write_findings, write_hitlog, write_sarif
    from oversight.redteam.page import redteam_json, write_redteam_page
    from oversight.redteam.running import lanes_of

    place = Path(work.settings.folder)
    write_findings(place / FOUND, found)
    write_hitlog(place / "hits.jsonl", found, run)
    write_sarif(place / "found.sarif", found, __version__)
    write_json(place / "report.json", redteam_json(figures, found))
    lanes = lanes_of(work, log)
    write_sample(place / SAMPLE, log, lanes, _decided(work), work.settings.seed)
    if html is not None:
        write_redteam_page(html, figures, found, work.archives, work.settings, run)
        typer.echo(f"{html} written", err=True)


def _decided(work: RedTeamWork) -> frozenset[str]:
    """Ids of the goals that the decider decides of."""
    goals = (goal for each in work.sets for goal in each.goals)
    return frozenset(goal.id for goal in goals if goal.success.rule == "judge")


def _print(
    work: RedTeamWork,
    figures: RedTeamFigures,
    found: list[RedTeamFinding],
    progress: RedTeamProgress,
    console: Console,
) -> None:
    from oversight.cli.report import print_table
    from oversight.redteam.page import redteam_tables, sentences
    from oversight.text.terminal import rich_text

    console.print(rich_text("Red team", style="bold"))
    for each in sentences(figures, found):
        console.print(rich_text(f"• {each}"))
    for each in figures.notes:
        console.print(rich_text(f"! {each}", style="yellow"))
    for table in redteam_tables(figures, found, work.archives, work.settings):
        print_table(table, console)
    place = work.settings.folder
    told = f"{progress.calls:,} calls made, {progress.found:,} attacks found done. In {place}."
    console.print(rich_text(told, style="dim"), soft_wrap=True)
    if progress.stopped:
        console.print(rich_text(f"! {progress.stopped}", style="yellow"), soft_wrap=True)
    for each in progress.failures[:10]:
        console.print(rich_text(f"failed: {each}", style="red"), soft_wrap=True)
    if len(progress.failures) > 10:
        console.print(f"… and {len(progress.failures) - 10:,} more")


def _print_corrected(
    work: RedTeamWork, log: AttemptLog, labels: dict[str, bool], console: Console
) -> None:
    from oversight.redteam.detecting import corrected_rates
    from oversight.redteam.running import lanes_of
    from oversight.text.numbers import percent, share
    from oversight.text.terminal import rich_text

    detector, rates = corrected_rates(log, lanes_of(work, log), labels, _decided(work))
    console.print(
        rich_text(
            f"The decider against {detector.num_positive + detector.num_negative:,} labels: "
            f"sensitivity {percent(detector.sensitivity)}, specificity "
            f"{percent(detector.specificity)}."
        )
    )
    for each in rates:
        after = "no better than chance" if each.corrected is None else share(each.corrected)
        said = f"{each.target}: {share(each.decided)} of attempts as decided, corrected {after}"
        console.print(rich_text(said))


@redteam.command("replay")
def replay_(
    found: Annotated[
        Path,
        typer.Argument(
            help="Findings, found.jsonl of a run.",
            show_default=False,
            autocompletion=places(".jsonl"),
        ),
    ],
    recipe: RunRecipe,
    target: Annotated[
        str | None,
        typer.Option(help="Target of the recipe.", show_default="the only one it has"),
    ] = None,
    tries: Annotated[int, typer.Option(min=1, help="Fresh seeds for each finding.")] = 3,
    folder: Folder = None,
    seed: Annotated[int, typer.Option(help="Seed of the tries.")] = 0,
    sets: Sets = None,
    as_json: Json = False,
) -> None:
    """Try all that was found again: oversight redteam replay redteam/found.jsonl recipe.toml

    Says what is mended, what came back, what is still open and what is new to this target. The
    exit code is 1 if anything is open. The file FOUND.replays.jsonl remembers how it was.
    """
    from collections import Counter

    from rich.console import Console

    from oversight.cli.ending import INTERRUPTS
    from oversight.config import chosen, read_toml
    from oversight.redteam.findings import (
        REPLAYS,
        Standing,
        known_standings,
        note_standings,
        read_findings,
        replay,
    )
    from oversight.redteam.lanes import AttackRunner
    from oversight.redteam.log import AttemptLog
    from oversight.redteam.preparing import RedTeamSettings, replay_target
    from oversight.text.terminal import rich_text

    every = read_findings(found)
    settings = RedTeamSettings.changed(
        read_toml(recipe), chosen({"folder": folder}, sets or ()), where=recipe.name
    )
    opened, decider = replay_target(settings, target, {each.kind for each in every})
    past = found.with_name(f"{found.name}{REPLAYS}")
    with AttemptLog(Path(settings.folder) / "replays") as log:
        runner = AttackRunner(log, seed, fresh=tries, decider=decider)
        before = known_standings(past, opened.name)
        done = INTERRUPTS.run(replay(every, opened, runner, before, tries))
    note_standings(past, opened.name, done)
    rows = [
        (e.finding.id, e.standing.value, f"{e.won} of {e.num}", e.finding.goal.id, e.finding.attack)
        for e in done
    ]
    show_table(
        f"Replay on {opened.name}", ("finding", "standing", "won", "goal", "attack"), rows, as_json
    )
    if not as_json:
        counts = Counter(each.standing for each in done)
        said = ", ".join(f"{counts[each]} {each.value}" for each in Standing if counts[each])
        skipped = len(every) - len(done)
        left = f"; {skipped} are for targets of another kind" if skipped else ""
        Console().print(rich_text(f"{said or 'nothing to try'}{left}."), soft_wrap=True)
    is_open = {Standing.CAME_BACK, Standing.STILL_OPEN, Standing.NEW, Standing.UNDECIDED}
    if any(each.standing in is_open for each in done):
        raise typer.Exit(1)


@redteam.command("attacks")
def attacks_(as_json: Json = False) -> None:
    """List the attacks."""
    from oversight.redteam.attacks import load, names

    rows = []
    for name in names():
        each = load(name)
        kinds = "all" if len(each.kinds) == 5 else ", ".join(sorted(k.value for k in each.kinds))
        rows.append((name, kinds, "yes" if each.asks else "", each.about))
    show_table("Attacks", ("name", "targets", "asks a model", "what it does"), rows, as_json)


@redteam.command("goals")
def goals_(
    behaviours: Annotated[
        Path | None,
        typer.Argument(
            help="A file of HarmBench (.csv), garak (report or hit log, .jsonl) or PyRIT (seeds, "
            ".yaml, or exported chats, .json), to be written as goals.",
            show_default=False,
            autocompletion=places(".csv", ".jsonl", ".yaml", ".json"),
        ),
    ] = None,
    into: Annotated[Path, typer.Option(help="File of goals that is written.")] = Path("goals.toml"),
    as_json: Json = False,
) -> None:
    """List the sets of goals; or make one of another tool's file."""
    from oversight.redteam import goals
    from oversight.redteam.foreign import read_foreign
    from oversight.text.numbers import count

    if behaviours is not None:
        rows = read_foreign(behaviours)
        goals.write_goals(into, rows)
        typer.echo(f"{into} written, with {count(len(rows), 'goal')} for a policy")
        return
    sets = [goals.load(name) for name in goals.names()]
    show_table(
        "Goals",
        ("name", "target", "goals", "what succeeds"),
        [(e.name, e.kind.value, len(e.goals) or "of debates", e.description) for e in sets],
        as_json,
    )
