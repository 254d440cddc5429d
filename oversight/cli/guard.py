"""The commands `oversight guard …`: serve a model behind checks, check a policy, evaluate it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oversight.cli.options import CommandLine
from oversight.errors import ConfigError

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
    from oversight.guard.settings import GuardSettings
    from oversight.reporting.server import is_loopback, listen

    settings = GuardSettings.read(path)
    where = settings.host if host is None else host
    keys = keys_from(settings.keys_env, is_loopback=is_loopback(where))

    async def run(listening: socket.socket) -> None:
        server = await open_server(settings, path.parent, keys)
        policy = server.guard.policy
        shown = f"[{where}]" if ":" in where else where
        typer.echo(
            f"guard: policy {policy.name} ({policy.fingerprint[:16]}) at "
            f"http://{shown}:{listening.getsockname()[1]}/v1; a stream holds back {_window(policy)}"
        )
        await serve_until_stopped(server, listening)

    with listen(where, settings.port if port is None else port) as listening:
        asyncio.run(run(listening))


def _window(policy: Policy) -> str:
    return "all of an answer" if policy.holds else f"{policy.window} characters"


@guard.command()
def check(path: GuardFile) -> None:
    """Check a guard's file: all settings, all checks, and the cases of its policy."""
    from oversight.guard.policy import system_hash
    from oversight.guard.settings import GuardSettings
    from oversight.guard.trials import failed_cases

    settings = GuardSettings.read(path)
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
        f"policy {policy.name}, version {policy.settings.version}, hash {policy.fingerprint[:16]}: "
        f"{len(policy.settings.checks)} checks, {len(policy.settings.cases)} cases hold; a stream "
        f"holds back {_window(policy)}"
    )
    if policy.settings.system is not None:
        typer.echo(f"system prompt: hash {system_hash(policy.settings.system)}")
