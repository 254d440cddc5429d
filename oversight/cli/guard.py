"""The commands `oversight guard …`: serve a model behind checks, check a policy, evaluate it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oversight.cli.options import CommandLine, Json, set_option
from oversight.errors import ConfigError
from oversight.text.terminal import visible

if TYPE_CHECKING:
    from oversight.guard.policy import Policy
    from oversight.text.numbers import Table

guard = CommandLine(
    help="Guard a model: check what goes in and what comes out by a policy.",
    no_args_is_help=True,
)


class SwitchTo(StrEnum):
    """The one that is to answer."""

    CANDIDATE = "candidate"
    MAIN = "main"
    TRIAL = "trial"


GuardFile = Annotated[
    Path, typer.Argument(metavar="GUARD.toml", help="File of the guard: policy, models, limits.")
]


@guard.command()
def serve(
    path: GuardFile,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on instead of the file's; others than this machine need keys."
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port instead of the file's; 0 takes a free one.")
    ] = None,
) -> None:
    """Serve models behind the guard, for any client of the OpenAI API.

    The policy's own cases are run first; one that does not hold is an error.
    """
    from oversight.guard.preparing import GuardFileSettings
    from oversight.guard.serving import fastest_loop, keys_from, open_server
    from oversight.guard.serving import serve as serve_until_stopped
    from oversight.guard.telemetry import logged
    from oversight.reporting.server import is_loopback, listen

    settings = GuardFileSettings.read(path)
    where = settings.host if host is None else host
    keys = keys_from(settings.keys_env, is_loopback=is_loopback(where))

    async def run(listening: socket.socket) -> None:
        server = await open_server(settings, path.parent, keys)
        policy = server.guard.policy
        shown = f"[{where}]" if ":" in where else where
        typer.echo(
            visible(
                f"guard: policy {policy.name} ({policy.fingerprint[:16]}) at "
                f"http://{shown}:{listening.getsockname()[1]}/v1; a stream holds back "
                f"{_window(policy)}"
            )
        )
        await serve_until_stopped(server, listening)

    listening = listen(where, settings.port if port is None else port)
    # Ctrl-C is how a person ends it, and no failure.
    with (
        listening,
        logged(settings.log),
        contextlib.suppress(KeyboardInterrupt),
        asyncio.Runner(loop_factory=fastest_loop()) as runner,
    ):
        runner.run(run(listening))


def _window(policy: Policy) -> str:
    return "all of an answer" if policy.holds else f"{policy.window} characters"


@guard.command()
def check(path: GuardFile) -> None:
    """Check a guard's file: all settings, all checks, and the cases of its policy."""
    from oversight.guard.policy import system_hash
    from oversight.guard.preparing import GuardFileSettings, failed_cases

    settings = GuardFileSettings.read(path)
    policy = settings.read_policy(path.parent)

    async def run() -> list[str]:
        try:
            return await failed_cases(policy)
        finally:
            await policy.aclose()

    lines = asyncio.run(run())
    if lines:
        raise ConfigError("\n".join(lines))
    typer.echo(
        visible(
            f"policy {policy.name}, version {policy.settings.version}, hash "
            f"{policy.fingerprint[:16]}: {len(policy.settings.checks)} checks, "
            f"{len(policy.settings.cases)} cases hold; a stream holds back {_window(policy)}"
        )
    )
    if policy.settings.system is not None:
        typer.echo(f"system prompt: hash {system_hash(policy.settings.system)}")


@guard.command()
def monitor(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Address of the guard, as `serve` prints it.")
    ] = "http://127.0.0.1:8080",
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two readings.")] = 2.0,
    window: Annotated[
        float, typer.Option(min=1.0, help="Seconds that the figures of late are of.")
    ] = 60.0,
    num: Annotated[
        int, typer.Option(min=0, help="Readings after which it ends; 0 goes on until Ctrl-C.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Show what a guard that serves is doing: requests, refusals, checks, latency, cost, alarms.

    A screen in a terminal; a line for each reading where the output goes elsewhere.
    """
    import json
    import sys
    import time

    import httpx
    from rich.console import Console
    from rich.live import Live

    from oversight.guard.watching import GuardMonitor, plain_line, read_guard, screen

    address = url.rstrip("/").removesuffix("/v1")
    watch, console = GuardMonitor(window), Console()
    is_screen = console.is_terminal and not as_json
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(KeyboardInterrupt))  # how a person ends it
        client = stack.enter_context(httpx.Client(timeout=5.0, trust_env=False))
        found = watch.take(read_guard(client, address))
        live = None
        if is_screen:
            live = Live(console=console, screen=True, auto_refresh=False)
            stack.enter_context(live)
        number, problem = 1, ""
        while True:
            if live is not None:
                live.update(screen(found, address, console.height, problem), refresh=True)
            elif problem:
                typer.echo(problem, err=True)
            else:
                typer.echo(json.dumps(found.json()) if as_json else visible(plain_line(found)))
                sys.stdout.flush()
            if number == num:
                break
            time.sleep(every)
            number += 1
            try:
                found, problem = watch.take(read_guard(client, address)), ""
            except ConfigError as error:  # it may come back
                problem = visible(str(error))


@guard.command()
def switch(
    path: GuardFile,
    to: Annotated[
        SwitchTo,
        typer.Argument(
            metavar="TO",
            help="candidate answers all; main takes it all back; trial goes on as the file says.",
        ),
    ],
) -> None:
    """Let the candidate answer, or the main model again; no call is dropped.

    The guard that serves takes it up within a second; calls under way end as they began.
    """
    from oversight.guard.candidate import Serving, write_switch
    from oversight.guard.preparing import GuardFileSettings

    settings = GuardFileSettings.read(path)
    written = write_switch(settings.candidate, path.parent, Serving(to.value))
    typer.echo(visible(f"{written}: {to.value} answers from now on"))


@guard.command()
def replace(
    path: GuardFile,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name under [upstreams] that clients ask for.")
    ],
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="Folder of a trained model, or another name; without it the file's own again.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Put other weights in the place of a model that is served; no call is dropped.

    The guard that serves loads them beside those in use, and lets them answer once they can; calls
    under way end as they began. /health says which weights answer, or why others could not.
    """
    from oversight.guard.preparing import GuardFileSettings
    from oversight.guard.replacing import write_replacement

    settings = GuardFileSettings.read(path)
    place = path.parent / settings.replaced
    written = write_replacement(settings.upstreams, place, name, model or "")
    answers = model or "the model of the guard's file"
    typer.echo(visible(f"{written}: {name} is answered by {answers} once it is loaded"))


@guard.command()
def compare(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Address of the guard, as `serve` prints it.")
    ] = "http://127.0.0.1:8080",
    as_json: Json = False,
) -> None:
    """Compare the candidate with the model and the policy in use, as far as calls have come.

    Of a shadow on the same calls, of a canary on those of other users; in intervals the calls of
    one user count together. A guard with keys wants one of them in OVERSIGHT_GUARD_KEYS.
    """
    import json

    from oversight.guard.candidate import read_trial, trial_tables

    key = os.environ.get("OVERSIGHT_GUARD_KEYS", "").partition(",")[0].strip()
    found = read_trial(url.rstrip("/").removesuffix("/v1"), key)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    tables = trial_tables(found)
    for table in tables:
        _show(table)
        typer.echo(visible(f"{table.note}\n"))
    if not tables:
        typer.echo("nothing to compare yet: no call has been shadowed, or been answered by both")
    typer.echo(visible(f"{found['serving']} answers now"))


class GuardRows(StrEnum):
    """Rows that users' words become."""

    UNPAIRED = "unpaired"
    PAIRED = "paired"
    SFT = "sft"


@guard.command()
def export(
    out: Annotated[Path, typer.Argument(help="The file: NAME.parquet or NAME.jsonl.")],
    store: Annotated[
        str, typer.Option("--store", "-s", help="The store that the guard writes calls into.")
    ] = "guard.db",
    layout: Annotated[
        GuardRows,
        typer.Option(
            help="unpaired: answers, each with a label. paired: corrections before the answers "
            "that they correct. sft: corrections, and answers that users called good."
        ),
    ] = GuardRows.UNPAIRED,
    sets: Annotated[list[str] | None, set_option("max_per_user=20")] = None,
    as_json: Json = False,
) -> None:
    """Write what users said of answers as rows that the trainers take.

    Settings for --set, with their defaults: max_per_user=50, max_repeats=2, min_shared=5,
    min_p=0.5. Whatever makes no row is counted by its reason.
    """
    import json

    from oversight.config import assignments
    from oversight.guard.feedback_rows import (
        FeedbackRows,
        FeedbackRowSettings,
        RowLayout,
        write_demonstrations,
    )
    from oversight.preferences.building import export as write
    from oversight.store import Store
    from oversight.text.numbers import count

    endings = (".jsonl",) if layout is GuardRows.SFT else (".parquet", ".jsonl")
    if out.suffix not in endings:
        raise ConfigError(
            f"{str(out)!r}: the name of rows of the layout {layout.value} ends in "
            + " or ".join(endings)
        )
    made = FeedbackRows(FeedbackRowSettings.parse(assignments(sets or ())))
    with Store.open(store, create=False, only_read=True) as opened:
        if layout is GuardRows.SFT:
            num_rows = write_demonstrations(made.demonstrations(opened), out)
        else:
            shape = "preference" if layout is GuardRows.PAIRED else "unpaired"
            rows = made.rows(opened, RowLayout(layout.value))
            num_rows = write(rows, out, out.suffix.removeprefix("."), shape).num_rows
    if as_json:
        left_out = {reason.name.lower(): n for reason, n in made.left_out.most_common()}
        facts = {"path": str(out), "rows": num_rows, "left_out": left_out}
        typer.echo(json.dumps(facts, indent=2))
        return
    typer.echo(visible(f"{out}: {count(num_rows, 'row')}"))
    for reason, number in made.left_out.most_common():
        typer.echo(f"  {number:,} left out: {reason.value}")
    if not num_rows and not made.left_out:
        typer.echo("  nobody has said anything of an answer there: POST /v1/feedback")


@guard.command()
def drift(
    store: Annotated[
        str, typer.Option("--store", "-s", help="The store that the guard writes calls into.")
    ] = "guard.db",
    reference: Annotated[
        int, typer.Option(min=200, help="First calls, which the later ones are compared with.")
    ] = 5_000,
    as_json: Json = False,
) -> None:
    """Look for drift in the calls of a store; exit code 1 if there is an alarm.

    Refusals, actions, failures, lengths of answers, words of requests and users' words are compared
    with the first calls, one after the other, with at most one false alarm in 10^6 calls.
    """
    from oversight.guard.drift import DriftSettings, alarm_json, drift_in
    from oversight.store import Store

    with Store.open(store, create=False, only_read=True) as opened:
        number, alarms = drift_in(opened, DriftSettings(reference=reference))
    for alarm in alarms:
        typer.echo(alarm_json(alarm) if as_json else visible(alarm.sentence()))
    if number <= reference and not as_json:
        typer.echo(f"{number:,} calls: they are all reference; give fewer by --reference")
    elif not alarms and not as_json:
        typer.echo(f"{number:,} calls: no drift")
    if alarms:
        raise typer.Exit(1)


@guard.command()
def evaluate(
    path: GuardFile,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            "-d",
            help="A data set whose rule decides harm (register), or a .jsonl file with prompt, "
            "harmful, and if you like kind and answer.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Name under [upstreams] that answers; by default the first."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Prompts of a data set.")] = 200,
    split: Annotated[str | None, typer.Option(help="Split of a data set.")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="Of the answers.")] = 0.5,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 256,
    alpha: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Choose the threshold that keeps harm to this share "
            "of requests, by conformal risk control.",
        ),
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Picture of the trade-off.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print plain data.")] = False,
) -> None:
    """Measure both sides of a guard: harm that comes through, and harmless requests refused."""
    import json

    from rich.console import Console

    from oversight.files import check_place
    from oversight.guard.evaluating import evaluate_guard
    from oversight.guard.preparing import GuardFileSettings
    from oversight.guard.showing import (
        evaluation_json,
        evaluation_table,
        sentences,
        write_trade_off,
    )
    from oversight.text.terminal import rich_text

    settings = GuardFileSettings.read(path)
    if png is not None:
        check_place(png, "--png")
    options = {"temperature": temperature, "max_tokens": max_tokens, "seed": 0}
    found = asyncio.run(
        evaluate_guard(settings, path.parent, data, model, limit, split, options, alpha)
    )
    if png is not None:
        write_trade_off(found, png)
    if as_json:
        typer.echo(json.dumps(evaluation_json(found), indent=2))
        return
    _show(evaluation_table(found))
    console = Console()
    for sentence in sentences(found):
        console.print(rich_text(sentence))


def _show(table: Table) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table as RichTable

    from oversight.text.terminal import rich_text

    shown = RichTable(box=None, pad_edge=False, title=rich_text(table.title), title_justify="left")
    for column in table.columns:
        shown.add_column(rich_text(column, style="dim"))
    for row in table.rows:
        shown.add_row(*map(rich_text, row))
    Console().print(shown)
