"""What a run of debates came to: counts, failures, accuracy, and what to do next."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console

from oversight.cli.running import Run
from oversight.evals.findings import count, to_json
from oversight.evals.report import Report, build_report
from oversight.evals.text import render_text
from oversight.graphs.running import Failure
from oversight.store import Store
from oversight.text.terminal import rich_text

NUM_LISTED = 5
"""How many failures, and how many bad rows, are listed before they are only counted."""


def report_of(run: Run) -> Report:
    """The report on the debates of a run that are complete."""
    with Store.open(run.settings.store, create=False) as store:
        failed = store.transcripts(debate_ids=run.debate_ids, complete=False)
        return build_report(store.transcripts(debate_ids=run.debate_ids), failed=failed)


def print_summary(run: Run, console: Console, *, short: bool) -> None:
    """Print what the run came to; `short` leaves out the figures, as after a single debate."""
    progress = run.progress
    if not short and progress.done + progress.found:
        console.print(render_text(report_of(run)))
    parts = [f"{progress.done:,} run", f"{progress.found:,} found complete"]
    parts += [f"{progress.elsewhere:,} run by another process"] if progress.elsewhere else []
    parts += [f"{progress.waiting:,} waiting for a person"] if progress.waiting else []
    parts += [f"{len(progress.failures):,} failed"] if progress.failures else []
    console.print(f"{count(len(run.planned), 'debate')}: {', '.join(parts)}.", highlight=False)
    _print_left_out(run, console)
    print_failures(progress.failures, console)
    console.print(rich_text(f"Recorded in {run.settings.store}.", style="dim"), soft_wrap=True)
    if progress.waiting:
        console.print(rich_text(f"Next: oversight judge --store {run.settings.store}", "dim"))
    elif not short:
        flag = "" if run.settings.store == "oversight.db" else f" --store {run.settings.store}"
        console.print(
            rich_text(
                f"Next: oversight report{flag} --html report.html, "
                f"oversight export preferences.parquet{flag}",
                style="dim",
            ),
            soft_wrap=True,
        )


def _print_left_out(run: Run, console: Console) -> None:
    bad = run.loaded.bad
    if run.loaded.shortage:
        console.print(rich_text(f"{run.loaded.shortage}.", style="yellow"), soft_wrap=True)
    if bad:
        were = "was" if len(bad) == 1 else "were"
        console.print(f"{count(len(bad), 'bad row')} {were} skipped:", style="yellow")
        for row in bad[:NUM_LISTED]:
            console.print(rich_text(f"  {row}"), soft_wrap=True)
        if len(bad) > NUM_LISTED:
            console.print(f"  … and {len(bad) - NUM_LISTED} more")
    for reason, number in run.loaded.left_out.items():
        console.print(rich_text(f"{count(number, 'row')} left out: {reason}", style="dim"))


def print_failures(failures: list[Failure], console: Console) -> None:
    """Print failures by their kinds, the commonest first, each with an example."""
    if not failures:
        return
    # One cause has many messages, as each names its request: the first of them stands for all.
    kinds = Counter(failure.cause or failure.error for failure in failures)
    example = {f.cause or f.error: f.error for f in reversed(failures)}
    console.print("Failed; the same command tries them again:", style="red")
    for kind, number in kinds.most_common(NUM_LISTED):
        named = "" if kind == example[kind] else f"{kind.replace('_', ' ')}: "
        console.print(rich_text(f"  {number} × {named}{example[kind]}"), soft_wrap=True)


def summary_json(run: Run) -> dict[str, Any]:
    """The same for machines."""
    progress = run.progress
    complete = progress.done + progress.found
    return {
        "store": run.settings.store,
        "debates": len(run.planned),
        "run": progress.done,
        "found_complete": progress.found,
        "run_elsewhere": progress.elsewhere,
        "waiting": progress.waiting,
        "failures": [
            {
                "debate_id": failure.debate_id,
                "question_id": failure.question_id,
                "protocol": failure.protocol,
                "error": failure.error,
                "cause": failure.cause,
            }
            for failure in progress.failures
        ],
        "shortage": run.loaded.shortage,
        "bad_rows": [str(row) for row in run.loaded.bad],
        "left_out": dict(run.loaded.left_out),
        "report": to_json(report_of(run)) if complete else None,
    }
