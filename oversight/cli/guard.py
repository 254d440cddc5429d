"""The commands `oversight guard …`: serve a model behind checks, check a policy, evaluate it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oversight.cli.options import CommandLine
from oversight.errors import ConfigError
from oversight.text.terminal import visible

if TYPE_CHECKING:
    from oversight.guard.policy import Policy

guard = CommandLine(
    help="Guard a model: check what goes in and what comes out by a policy.",
    no_args_is_help=True,
)
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
    from oversight.guard.serving import keys_from, open_server
    from oversight.guard.serving import serve as serve_until_stopped
    from oversight.guard.settings import GuardFileSettings
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
    with listening, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(listening))


def _window(policy: Policy) -> str:
    return "all of an answer" if policy.holds else f"{policy.window} characters"


@guard.command()
def check(path: GuardFile) -> None:
    """Check a guard's file: all settings, all checks, and the cases of its policy."""
    from oversight.guard.policy import system_hash
    from oversight.guard.settings import GuardFileSettings
    from oversight.guard.trials import failed_cases

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
    from rich.table import Table as RichTable

    from oversight.guard.evaluating import evaluate_guard
    from oversight.guard.settings import GuardFileSettings
    from oversight.guard.showing import (
        evaluation_json,
        evaluation_table,
        sentences,
        write_trade_off,
    )
    from oversight.text.terminal import rich_text

    settings = GuardFileSettings.read(path)
    options = {"temperature": temperature, "max_tokens": max_tokens, "seed": 0}
    found = asyncio.run(
        evaluate_guard(settings, path.parent, data, model, limit, split, options, alpha)
    )
    if png is not None:
        write_trade_off(found, png)
    if as_json:
        typer.echo(json.dumps(evaluation_json(found), indent=2))
        return
    console = Console()
    table = evaluation_table(found)
    shown = RichTable(box=None, pad_edge=False, title=rich_text(table.title), title_justify="left")
    for column in table.columns:
        shown.add_column(rich_text(column, style="dim"))
    for row in table.rows:
        shown.add_row(*map(rich_text, row))
    console.print(shown)
    for sentence in sentences(found):
        console.print(rich_text(sentence))
