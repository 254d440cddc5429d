"""Lines in and out: read without stopping what goes on, written as words come."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Awaitable, Callable
from typing import Protocol

from oversight.errors import StoreError

LEAVE_S = 5.0
"""How long leaving waits for a store that cannot be written."""

Read = Callable[[str], str | None]
"""From a prompt to the next line, or None at the end of the input."""
Write = Callable[[str], None]
"""Takes one or more whole lines."""


async def next_line(read: Read, prompt: str) -> str | None:
    """The next line, while what is written in the background goes on.

    In a thread of its own that dies with the program: one that waits for a key would keep it.
    """
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str | None] = loop.create_future()

    def give(text: str | None, error: BaseException | None) -> None:
        if not line.done():
            line.set_exception(error) if error is not None else line.set_result(text)

    def wait() -> None:
        text, error = None, None
        try:
            text = read(prompt)
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(give, text, error)

    threading.Thread(target=wait, daemon=True).start()
    return await line


class NotKept(StoreError):
    """The store cannot be written, and a person's last acts are lost with the program."""


class Acts(Protocol):
    """What a person did at an item."""

    @property
    def num_waiting(self) -> int:
        """Acts that are not durable yet."""
        ...


async def kept(closing: Awaitable[None], acts: Acts) -> None:
    """Return when an item is left with everything written down.

    Raises:
        NotKept: The store could not be written for `LEAVE_S`; without an end to the wait, a script
            whose input has ended would stand still for good.
    """
    try:
        await asyncio.wait_for(closing, LEAVE_S)
    except TimeoutError:
        raise NotKept(
            f"the store could not be written: {acts.num_waiting} of your last acts are not kept. "
            "All before them are."
        ) from None


class Lines:
    """Words as they come, passed on by the line or sentence: what is written stays as it is."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._rest = ""

    def take(self, text: str) -> None:
        """Some more words."""
        *whole, self._rest = re.split(r"\n|(?<=[.!?]) ", self._rest + text)
        for line in filter(None, whole):
            self._write(line)

    def end(self) -> None:
        """Nothing more comes."""
        if self._rest:
            self._write(self._rest)
        self._rest = ""
