"""One process of an application behind a browser: started without a shell, and surely ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Sequence

from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

from oversight.text.terminal import visible

LEAVE_S = 5.0
"""How long an application may take to leave before it is killed; its work is in the store."""
DRIVER = "oversight.tui.web_driver:JudgeDriver"


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
        self.ended: asyncio.Task[None]
        """Done when the process has nothing more to say."""

    async def start(self, width: int, height: int) -> None:
        """Start the process."""
        await super().start(width, height)
        assert self._task is not None
        self.ended = self._task

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
        )
        self._stdin = process.stdin
        assert process.stderr is not None
        process.stderr = _Harmless(process.stderr)  # type: ignore[assignment]
        return process

    async def leave(self) -> None:
        """Ask the process to leave, and make sure of it."""
        process = self._process
        if process is None:
            return
        try:
            async with asyncio.timeout(LEAVE_S):
                await self.stop()
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


class _Harmless:
    """What a process says of its errors, which is printed here, made safe to show."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream

    async def read(self, n: int) -> bytes:
        data = await self._stream.read(n)
        return visible(data.decode("utf-8", "backslashreplace")).encode()
