"""One process of an application behind a browser: started without a shell, and surely ended."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import math
import os
import shlex
import signal
import sys
import threading
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from textual import events, messages
from textual.app import App
from textual.drivers.web_driver import WebDriver
from textual.message import Message
from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

from oversight.redaction import redacted
from oversight.text.terminal import visible

LEAVE_S = 5.0
"""Time that an application may take to leave before it is killed; its work is in the store."""

WIDTHS = (10, 500)
HEIGHTS = (4, 300)
"""Columns and rows of a terminal in a browser, least and most: each cell costs memory."""


def size_within(width: object, height: object) -> tuple[int, int] | None:
    """A size that an application can be given, the nearest one; None if these are no numbers."""
    numbers = (_number(width), _number(height))
    if numbers[0] is None or numbers[1] is None:
        return None
    (least_w, most_w), (least_h, most_h) = WIDTHS, HEIGHTS
    return max(least_w, min(most_w, numbers[0])), max(least_h, min(most_h, numbers[1]))


def _number(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, float) and math.isfinite(value) else None


class JudgeDriver(WebDriver):
    """Textual's own, but for sizes and for the end of its input.

    A server that was killed says no "quit": without this its applications would stay behind and
    hold the items that they had open.
    """

    def __init__(
        self,
        app: App[Any],
        *,
        debug: bool = False,
        mouse: bool = True,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        if self._size is not None:
            self._size = size_within(*self._size)

    def on_meta(self, packet_type: str, payload: dict[str, object]) -> None:
        """Take what the server says; a size is bounded, and one that is none is left alone."""
        if packet_type == "resize":
            size = size_within(payload.get("width"), payload.get("height"))
            if size is None:
                return
            payload = {**payload, "width": size[0], "height": size[1]}
        super().on_meta(packet_type, payload)

    def process_message(self, message: Message) -> None:
        """Pass on typed text; sizes in it, as terminals report them, are dropped."""
        if not isinstance(message, events.Resize):
            super().process_message(message)

    def run_input_thread(self) -> None:
        """Read until the input ends, and then leave, or be killed after `LEAVE_S`."""
        super().run_input_thread()
        if not self.exit_event.is_set():
            self._app.post_message(messages.ExitApp())
            end = threading.Timer(LEAVE_S, _kill_group)
            end.daemon = True
            end.start()


def _kill_group() -> None:
    """Kill this process and those that it started, if it leads a process group of its own."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


TERM_S = 1.0
"""Time that it may take after SIGTERM."""
KILL_S = 5.0
"""Time to wait after SIGKILL: a process in the middle of a call to a disk may take a while."""
POLL_S = 0.05
MAX_UNREAD_BYTES = 1 << 20
"""Input that an application has not read; more is not kept for it, as it may be hung."""
RESIZE_S = 0.1
"""Sizes are passed on no faster than this, the last one for certain: each one lays all out anew."""
MAX_ERROR_CHARS = 20_000
"""Most characters of an application's error output that are printed here."""
DRIVER = "oversight.tui.web_process:JudgeDriver"


class Application(AppService):
    """One process of the application."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        write_bytes: Callable[[bytes], Awaitable[None]],
        write_str: Callable[[str], Awaitable[None]],
        close: Callable[[], Awaitable[None]],
        download_manager: DownloadManager,
    ) -> None:
        super().__init__(
            shlex.join(argv),
            write_bytes=write_bytes,
            write_str=write_str,
            close=close,
            download_manager=download_manager,
        )
        self._argv = list(argv)
        self._sent_size: tuple[int, int] | None = None
        self._wanted_size: tuple[int, int] | None = None
        self._resizing: asyncio.Task[None] | None = None
        self.ended: asyncio.Task[None]
        """Done when the process has nothing more to say."""

    async def start(self, width: int, height: int) -> None:
        """Start the process.

        Raises:
            OSError: There is no room for one more.
        """
        self._sent_size = width, height
        await super().start(width, height)
        assert self._task is not None
        self.ended = self._task

    async def run(self) -> None:
        """Carry the process's output to the browser, until one of them has gone."""
        with contextlib.suppress(ConnectionError, RuntimeError):  # the browser has
            await super().run()

    def _build_environment(self, width: int = 80, height: int = 24) -> dict[str, str]:
        return super()._build_environment(width, height) | {"TEXTUAL_DRIVER": DRIVER}

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        """Start it without a shell, in a session of its own: it is told to leave by its input."""
        self._process = process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=self._build_environment(width=width, height=height),
            start_new_session=True,
            preexec_fn=_ending_with(os.getpid()),
        )
        self._stdin = process.stdin
        assert process.stderr is not None
        process.stderr = _Harmless(process.stderr)  # type: ignore[assignment]
        return process

    async def send_bytes(self, data: bytes) -> bool:
        """Pass on typed text; False if the process does not read or has gone."""
        return self._put(self.encode_packet(b"D", data))

    async def send_meta(self, data: dict[str, str | int | bool | None]) -> bool:
        """Tell the process something; False if it does not read or has gone."""
        return self._put(self.encode_packet(b"M", json.dumps(data).encode()))

    def _put(self, packet: bytes) -> bool:
        """Write without waiting for the reader: to wait for a hung one would be to hang as well."""
        transport = self.stdin.transport
        full = transport.get_write_buffer_size() + len(packet) > MAX_UNREAD_BYTES
        if full or transport.is_closing():
            return False
        self.stdin.write(packet)
        return True

    async def set_terminal_size(self, width: int, height: int) -> None:
        """Tell the process a new size, soon."""
        self._wanted_size = width, height
        if self._resizing is None or self._resizing.done():
            self._resizing = asyncio.create_task(self._resize())

    async def _resize(self) -> None:
        while self._wanted_size is not None and self._wanted_size != self._sent_size:
            self._sent_size = self._wanted_size
            width, height = self._sent_size
            await self.send_meta({"type": "resize", "width": width, "height": height})
            await asyncio.sleep(RESIZE_S)

    async def leave(self) -> None:
        """Ask the process to leave, and end it if it does not; returns when nothing is left of it.

        Each wait has an end of its own, and none of them waits for a task that could swallow a
        cancellation, as textual-serve's do.
        """
        process = self._process
        if process is None:
            return
        await self._download_manager.cancel_app_downloads(app_service_id=self.app_service_id)
        await self.send_meta({"type": "quit"})
        await _until_ended(process, LEAVE_S)
        for number, patience_s in ((signal.SIGTERM, TERM_S), (signal.SIGKILL, KILL_S)):
            if process.returncode is None:
                self.signal(number)
                await _until_ended(process, patience_s)
        self.signal(signal.SIGKILL)  # whomever it has left behind
        tasks = [task for task in (self._task, self._resizing) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=TERM_S)

    def signal(self, number: int) -> None:
        """Send a signal to the process and all that it started; nothing if there is none left."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


async def _until_ended(process: Process, patience_s: float) -> None:
    """Wait for the end of a process, at most so long.

    Not by `process.wait()`, which also waits for those who hold its pipes.
    """
    deadline = time.monotonic() + patience_s
    while process.returncode is None and time.monotonic() < deadline:  # noqa: ASYNC110  no event tells
        await asyncio.sleep(POLL_S)


PR_SET_PDEATHSIG = 1


def _ending_with(server_pid: int) -> Callable[[], None] | None:
    """For Linux: in the new process, be killed when the server is, even while hung or stopped.

    Elsewhere an application leaves at the end of its input (see the driver above).
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: between fork and exec little may be done

    def end_with_server() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != server_pid:  # it was killed before the line above
            os._exit(1)

    return end_with_server


class _Harmless:
    """The error output of a process, which is printed here, made short and safe to show."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._left = MAX_ERROR_CHARS

    async def read(self, n: int) -> bytes:
        while data := await self._stream.read(n):
            text = visible(redacted(data.decode("utf-8", "backslashreplace")))[: self._left]
            self._left -= len(text)
            if text:
                return text.encode()
        return b""
