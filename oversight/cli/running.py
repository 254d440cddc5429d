"""Debates run for a command: progress on the way, and at the end counts, failures and accuracy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from oversight.api import Planned, prepare
from oversight.cli.ending import INTERRUPTS
from oversight.cli.progress import RunProgress
from oversight.config import RunSettings
from oversight.datasets.base import LoadedQuestions, load_questions
from oversight.errors import ConfigError
from oversight.evals.findings import to_json
from oversight.evals.rendering import render_text
from oversight.evals.report import Report, build_report
from oversight.graphs.planning import Cast, check_engines
from oversight.graphs.running import DebateProgress, Failure, as_begun, run_debates
from oversight.graphs.runtime import Listener, Runtime
from oversight.redaction import without_password
from oversight.store import Store
from oversight.text.numbers import count
from oversight.text.terminal import rich_text
from oversight.types import Debate, JudgeKind, Question, RunStart


@dataclass(frozen=True)
class Run:
    """A run that has ended, with its settings, questions and debates."""

    settings: RunSettings
    loaded: LoadedQuestions
    planned: list[tuple[Debate, Question]]
    progress: DebateProgress
    start: RunStart | None = None

    @property
    def debate_ids(self) -> list[str]:
        """Ids of all debates of the run, complete or not."""
        return [debate.id for debate, _ in self.planned]


def run(
    settings: RunSettings, console: Console, start: RunStart | None = None, *, live: bool = False
) -> Run:
    """Check everything, then run what is not complete yet.

    Args:
        settings: The run.
        console: Where progress goes, and the debates themselves if `live`.
        start: What the debates belong to; to no run if there is none.
        live: Show each debate as it happens, one after the other.
    """
    loaded, actors, planned = _prepared(settings)
    check_engines(settings.cast(), settings.engines)
    with Store.open(settings.store, transactions=settings.transactions) as store:
        if start is not None:
            store.begin_run(start)
        planned = as_begun(planned, store, actors)
        go = _show_live if live else _run_batch
        progress = INTERRUPTS.run(go(settings, store, actors, planned, console))
        return Run(settings, loaded, planned, progress, store.run)


def put_in_queue(settings: RunSettings, start: RunStart) -> Run:
    """Check everything, then leave the debates to those who judge them live.

    Raises:
        ConfigError: There is a debate in which no person takes part, or an open prompt.
    """
    loaded, actors, planned = _prepared(settings)
    for debate, _ in planned:
        if debate.protocol.is_open:
            raise ConfigError(
                f"--queue leaves debates to people, and protocol {debate.protocol.name!r} answers "
                "open prompts without any: run it without --queue, then rate what was said "
                "(oversight rate revisions, or pairs)"
            )
        if all(spec.agent != JudgeKind.HUMAN.value for spec in debate.agents.values()):
            raise ConfigError(
                "--queue leaves debates to people, and in these no person takes part: add "
                "--judge human (or --debater human)"
            )
    with Store.open(settings.store) as store:
        store.begin_run(start)
        planned = as_begun(planned, store, actors)
        store.add(*(record for debate, question in planned for record in (question, debate)))
        written = store.run
        complete = store.completed(debate.id for debate, _ in planned)
    progress = DebateProgress(total=len(planned), found=len(complete))
    progress.waiting = len(planned) - len(complete)
    return Run(settings, loaded, planned, progress, written)


def _prepared(settings: RunSettings) -> tuple[LoadedQuestions, Cast, Planned]:
    """The questions, the agents, and every debate of the run."""
    loaded = load_questions(settings.dataset, seed=settings.seed)
    return (loaded, *prepare(settings, loaded.questions))


async def _run_batch(
    settings: RunSettings, store: Store, actors: Cast, planned: Planned, console: Console
) -> DebateProgress:
    async with actors:
        with RunProgress(len(planned), console) as shown:
            return await run_debates(
                planned,
                Runtime(store, actors),
                concurrency=settings.concurrency,
                on_progress=shown,
                total=len(planned),
            )


async def _show_live(
    settings: RunSettings, store: Store, actors: Cast, planned: Planned, console: Console
) -> DebateProgress:
    from oversight.tui.live import DebateView, replay

    whole = DebateProgress(total=len(planned))
    async with actors:
        for debate, question in planned:
            with DebateView(console, debate, question) as listener:
                if store.completed([debate.id]):
                    replay(store.transcript(debate.id), listener)
                one = await run_debates(
                    [(debate, question)], _stage(store, actors, listener), concurrency=1
                )
            whole.done += one.done
            whole.found += one.found
            whole.elsewhere += one.elsewhere
            whole.waiting += one.waiting
            whole.failures += one.failures
    return whole


def _stage(store: Store, actors: Cast, listener: Listener) -> Runtime:
    return Runtime(store, actors, listener, live=True)


NUM_LISTED = 5
"""Number of failures, and of bad rows, that are listed; the rest are only counted."""


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
    of = f" as run {run.start.run}" if run.start is not None else ""
    store = without_password(run.settings.store)
    said = f"Recorded in {store}{of}."
    console.print(rich_text(said, style="dim"), soft_wrap=True)
    if progress.waiting:
        console.print(rich_text(f"Next: oversight judge --store {store}", "dim"))
    elif not short and progress.done + progress.found:
        flag = "" if store == "oversight.db" else f" --store {store}"
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
        of = [f.question_id for f in failures if f.question_id and kind in (f.cause, f.error)]
        if of:
            more = f" and {len(of) - NUM_LISTED:,} more" if len(of) > NUM_LISTED else ""
            console.print(
                rich_text(f"    of {', '.join(of[:NUM_LISTED])}{more}", style="dim"), soft_wrap=True
            )


def summary_json(run: Run) -> dict[str, Any]:
    """The same for machines."""
    progress = run.progress
    complete = progress.done + progress.found
    return {
        "store": without_password(run.settings.store),
        "run_name": None if run.start is None else run.start.run,
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
