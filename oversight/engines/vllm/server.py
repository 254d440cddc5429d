"""One vLLM server as a child process: started, waited for, and ended with all its children."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx

from oversight.engines.vllm import launcher as launching
from oversight.engines.vllm.settings import HOST
from oversight.errors import EngineUnavailableError

POLL_S = 0.2
REPORT_EVERY_S = 5.0
HEALTH_TIMEOUT_S = 5.0
NUM_LOG_LINES = 12
LAUNCHER_GRACE_S = launching.ORPHANS_GRACE_S + launching.TRACKERS_GRACE_S + 2.0
"""For the launcher to notice, over what it gives the server."""
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
CAUSE = re.compile(r"\b\w*(?:Error|Exception|error):\s")
NO_CAUSE = re.compile(r"See (?:root cause above|stack trace for root cause)")


def reserve_port() -> socket.socket:
    """A socket that is bound to a free loopback port and never listens.

    As long as it is open, nobody but a server that sets SO_REUSEADDR, as vLLM
    does, and asks for this very port can have it: the kernel gives it to no one else.
    """
    reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind((HOST, 0))
    return reservation


class ServerProcess:
    """The process of one server; it can be started again after it has ended."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        url: str,
        log: Path,
        stop_timeout_s: float,
    ) -> None:
        self.name = name
        self.url = url
        """Address without `/v1`."""
        self.log = log
        self._command = list(command)
        self._environment = dict(environment)
        self._stop_timeout_s = stop_timeout_s
        self._launcher: subprocess.Popen[bytes] | None = None
        # Proxies of the environment are not for a loopback address.
        self._client = httpx.AsyncClient(base_url=url, trust_env=False, timeout=HEALTH_TIMEOUT_S)

    @property
    def running(self) -> bool:
        """True while the process lives; it may still be starting."""
        return self._launcher is not None and self._launcher.poll() is None

    async def start(self, timeout_s: float, report: Callable[[str], None]) -> None:
        """Start the process and wait until it is healthy; `report` is told how far it is.

        Raises:
            EngineUnavailableError: It ended, or was not healthy in time; with the last lines
                of its log.
        """
        self._spawn()
        begun = reported = time.monotonic()
        while not await self.healthy():
            now = time.monotonic()
            if not self.running:
                raise EngineUnavailableError(self._failure("ended while it started"))
            if now - begun > timeout_s:
                await self.stop()
                raise EngineUnavailableError(
                    self._failure(f"was not healthy after start_timeout_s = {timeout_s:g}")
                )
            if now - reported >= REPORT_EVERY_S:
                reported = now
                report(f"{self.name} starting, {now - begun:.0f} s: {self._last_line()}")
            await asyncio.sleep(POLL_S)
        report(f"{self.name} ready after {time.monotonic() - begun:.0f} s at {self.url}")

    def _spawn(self) -> None:
        """Through a launcher that leads a process group of its own, and ends with us."""
        launcher = [sys.executable, "-I", "-S", launching.__file__]
        arguments = [str(os.getpid()), str(self._stop_timeout_s), *self._command]
        with self.log.open("ab") as log:
            self._launcher = subprocess.Popen(
                [*launcher, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    async def healthy(self) -> bool:
        """Return whether the server reports itself healthy now."""
        return await self._health() == httpx.codes.OK

    async def _health(self) -> int | None:
        """Status of `/health`; None if nobody answers, 0 if the answer takes too long."""
        if not self.running:
            return None
        try:
            return (await self._client.get("/health")).status_code
        except httpx.TimeoutException:
            return 0
        except httpx.TransportError:
            return None

    async def died(self, within_s: float) -> bool:
        """Wait until it is healthy, has ended or the time is up; return whether it has ended.

        A server whose engine process was killed says 503, and ends a little later.
        One that is too busy to answer has not died.
        """
        deadline = time.monotonic() + within_s
        while self.running:
            status = await self._health()
            if status in (httpx.codes.OK, 0):
                return False
            if time.monotonic() > deadline:
                return True
            await asyncio.sleep(POLL_S)
        return True

    async def metrics(self) -> str:
        """The body of `/metrics`; empty if it does not answer."""
        try:
            response = await self._client.get("/metrics")
        except httpx.TransportError:
            return ""
        return response.text if response.is_success else ""

    async def stop(self) -> None:
        """End the process and its children; nothing of it is left afterwards."""
        launcher = self._launcher
        if launcher is None:
            return
        try:
            launcher.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(launcher.wait, self._stop_timeout_s + LAUNCHER_GRACE_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the whole group, at once."""
        launcher, self._launcher = self._launcher, None
        if launcher is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left
                os.killpg(launcher.pid, signal.SIGKILL)
            launcher.wait()

    async def aclose(self) -> None:
        """Stop, and close the connections as well."""
        await self.stop()
        await self._client.aclose()

    def _last_line(self) -> str:
        lines = log_lines(self.log)
        return lines[-1] if lines else "no word yet"

    def _failure(self, what: str) -> str:
        return f"{self.name} {what}. {self.log_excerpt()}"

    def log_excerpt(self) -> str:
        """Name of the log file, what it gives as the cause, and its last lines."""
        lines = log_lines(self.log)
        causes = [line for line in lines if CAUSE.search(line) and not NO_CAUSE.search(line)]
        cause = f" Cause: {causes[-1]}" if causes else ""
        tail = "\n".join(f"  {line}" for line in lines[-NUM_LOG_LINES:])
        return f"Log: {self.log}.{cause} Last lines:\n{tail or '  (none)'}"


def log_lines(log: Path, num_bytes: int = 32_768) -> list[str]:
    """The lines at the end of a log, without colours and empty lines."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - num_bytes))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return [line.rstrip() for line in ESCAPES.sub("", text).splitlines() if line.strip()]
