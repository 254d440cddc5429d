"""vLLM servers as child processes: started, asked, started anew when they die, and surely ended.

A replica is a server with the client that asks it; a server is ended with all its children.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from oversight.engines.vllm import launcher as launching
from oversight.engines.vllm.settings import HOST, remedy
from oversight.errors import EngineError, EngineRefusedError, EngineUnavailableError
from oversight.types import Chunk, Completion, Engine, FinishReason, Request, Usage

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
        """Name of the log file, the cause that it gives, what helps, and its last lines."""
        lines = log_lines(self.log)
        causes = [line for line in lines if CAUSE.search(line) and not NO_CAUSE.search(line)]
        cause = f" Cause: {causes[-1]} {remedy(causes[-1])}".rstrip() if causes else ""
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


SAMPLE = re.compile(r"^([A-Za-z_:][\w:]*)(?:\{.*\})?\s+(\S+)(?:\s+\S+)?\s*$")
"""A sample line of the Prometheus text format: name, labels, value, and maybe a time stamp."""


@dataclass(frozen=True, slots=True)
class ReplicaMetrics:
    """Counters of one replica since its server (re)started; None where it does not say them."""

    replica: int
    prefix_cache_queries: int | None
    """Prompt tokens that were looked up in the prefix cache."""
    prefix_cache_hits: int | None
    """Prompt tokens that were found there."""
    num_requests_running: int | None
    num_requests_waiting: int | None
    kv_cache_usage: float | None
    """Share of the key-value cache in use, 0 to 1."""
    prompt_tokens: int | None
    generation_tokens: int | None

    @property
    def prefix_cache_hit_rate(self) -> float | None:
        """Share of the looked-up prompt tokens that were found; None before the first look-up."""
        if self.prefix_cache_hits is None or not self.prefix_cache_queries:
            return None
        return self.prefix_cache_hits / self.prefix_cache_queries


def parse_samples(text: str) -> dict[str, float]:
    """Value by metric name, summed over labels; lines that cannot be read are passed over."""
    totals: dict[str, float] = {}
    for line in text.splitlines():
        match = SAMPLE.match(line)
        if match is None:
            continue
        try:
            value = float(match[2])
        except ValueError:
            continue
        totals[match[1]] = totals.get(match[1], 0.0) + value
    return totals


def parse_metrics(text: str, replica: int) -> ReplicaMetrics:
    """The counters of a replica from the body of its `/metrics`."""
    samples = parse_samples(text)

    def count(name: str) -> int | None:
        value = samples.get(f"vllm:{name}_total", samples.get(f"vllm:{name}"))
        return round(value) if value is not None and math.isfinite(value) else None

    return ReplicaMetrics(
        replica=replica,
        prefix_cache_queries=count("prefix_cache_queries"),
        prefix_cache_hits=count("prefix_cache_hits"),
        num_requests_running=count("num_requests_running"),
        num_requests_waiting=count("num_requests_waiting"),
        kv_cache_usage=samples.get("vllm:kv_cache_usage_perc"),
        prompt_tokens=count("prompt_tokens"),
        generation_tokens=count("generation_tokens"),
    )


log = logging.getLogger(__name__)

DEATH_WITHIN_S = 15.0
"""Time that a server that answers nobody, or only 503, is given to recover or to end."""


class Replica:
    """A server that is brought back at most `restarts` times, and what was in flight sent again."""

    def __init__(
        self,
        index: int,
        server: ServerProcess,
        client: Engine,
        restarts: int,
        start_timeout_s: float,
        report: Callable[[str], None],
    ) -> None:
        self.index = index
        self.server = server
        self.num_in_flight = 0
        self.num_starts = 0
        self.failure = ""
        """The reason why it is given up, if it is."""
        self._client = client
        self._restarts = restarts
        self._start_timeout_s = start_timeout_s
        self._report = report
        self._starting: asyncio.Task[None] | None = None
        self._up = False
        self._inquest = asyncio.Lock()
        self._ids: set[str] = set()
        self._cancelled: set[str] = set()

    async def ready(self) -> int:
        """Start the server unless it is up; gives the number of its start.

        All who ask at the same time wait for one and the same start, which goes
        on if one of them is cancelled.

        Raises:
            EngineUnavailableError: It cannot be started, or was restarted often enough.
        """
        while not self._up:
            if self.failure:
                raise EngineUnavailableError(self.failure)
            if self._starting is None:
                self._starting = asyncio.create_task(self._start())
            starting = self._starting
            await asyncio.wait([starting])
            if not starting.cancelled():
                starting.result()
        return self.num_starts

    async def _start(self) -> None:
        """Bring the server up, or note why it is given up."""
        try:
            if self.num_starts > self._restarts:
                self.failure = (
                    f"{self.server.name} died and is given up after restarts = "
                    f"{self._restarts}. {self.server.log_excerpt()}"
                )
                return
            if self.num_starts:
                log.warning("%s died and is restarted; log: %s", self.server.name, self.server.log)
            await self.server.stop()
            self.num_starts += 1
            await self.server.start(self._start_timeout_s, self._report)
            self._up = True
        except EngineUnavailableError as error:
            self.failure = str(error)
        except OSError as error:
            self.failure = f"{self.server.name} cannot be started: {error}"
        finally:
            self._starting = None

    async def answer(self, request: Request) -> Completion:
        """The completion of a request, sent again if the server dies under it.

        Raises:
            EngineError: The server refused it, or cannot be brought back.
        """
        with self._flight(request):
            while True:
                start = await self.ready()
                if request.id in self._cancelled:
                    return self._nothing(request)
                try:
                    return (await self._client.generate([request]))[0]
                except EngineRefusedError:
                    raise
                except EngineError:
                    if not await self._died(start):
                        raise

    async def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """The completion piece by piece.

        It is sent again if the server dies before the first piece; after that
        it cannot be, as another try would say something else.

        Raises:
            EngineError: The server refused it, cannot be brought back, or died in the middle.
        """
        with self._flight(request):
            while True:
                start = await self.ready()
                if request.id in self._cancelled:
                    yield Chunk("", self._nothing(request))
                    return
                begun = False
                try:
                    async for chunk in self._client.stream(request):
                        begun = True
                        yield chunk
                    return
                except EngineRefusedError:
                    raise
                except EngineError as error:
                    if not await self._died(start):
                        raise
                    if begun:
                        raise EngineUnavailableError(self._died_under(request)) from error

    def _died_under(self, request: Request) -> str:
        return (
            f"{self.server.name} died when part of the answer to request {request.id!r} had been "
            f"passed on already; ask again. {self.server.log_excerpt()}"
        )

    @contextmanager
    def _flight(self, request: Request) -> Iterator[None]:
        """Counts a request as in flight, for routing and for cancelling."""
        self.num_in_flight += 1
        if request.id:
            self._ids.add(request.id)
        try:
            yield
        finally:
            self.num_in_flight -= 1
            self._ids.discard(request.id)
            self._cancelled.discard(request.id)

    async def cancel(self, request_id: str) -> None:
        """End a request in flight here, also one that waits for the server's return."""
        if request_id in self._ids:
            self._cancelled.add(request_id)
            await self._client.cancel(request_id)

    def holds(self, request_id: str) -> bool:
        """Return whether that request is in flight here."""
        return request_id in self._ids

    async def metrics(self) -> ReplicaMetrics:
        """Counters since the last start; all None if it is not up."""
        return parse_metrics(await self.server.metrics() if self._up else "", self.index)

    async def aclose(self) -> None:
        """Stop the server, also one that is starting."""
        self.failure = self.failure or f"{self.server.name} is closed"
        self._up = False
        if (starting := self._starting) is not None:
            starting.cancel()
            await asyncio.wait([starting])
        await self._client.aclose()
        await self.server.aclose()

    async def _died(self, start: int) -> bool:
        """Return whether the server of that start is gone, so that a request may be sent again."""
        async with self._inquest:
            if self._up and start == self.num_starts:
                if not await self.server.died(DEATH_WITHIN_S):
                    return False
                self._up = False
        return True

    def _nothing(self, request: Request) -> Completion:
        """Return the empty completion of a request that was cancelled before any server saw it."""
        return Completion(
            request_id=request.id,
            text="",
            prompt_ids=(),
            token_ids=(),
            finish_reason=FinishReason.CANCELLED,
            usage=Usage(),
            engine=self._client.name,
            model=self._client.model,
            seconds=0.0,
        )
