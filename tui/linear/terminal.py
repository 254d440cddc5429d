"""Standard input and output as what a session reads and writes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Protocol

import typer

from oversight.tui.linear.lines import Read, Write


class Session(Protocol):
    """What is done line by line."""

    def __call__(self, *, read: Read, write: Write) -> Coroutine[None, None, None]:
        """Until its user or the input ends."""


def in_terminal(session: Session) -> None:
    """Run it over standard input and output; the end of the input leaves, and all is kept."""
    # What cannot be decoded or shown must not end a judge's work.
    for stream in (sys.stdin, sys.stdout):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    prompts = sys.stdin.isatty()

    def read(prompt: str) -> str | None:
        try:
            return input(prompt if prompts else "")
        except EOFError:
            return None

    def write(text: str) -> None:
        typer.echo(text)

    asyncio.run(session(read=read, write=write))
