"""One replica: a server, the client that asks it, and its return from the dead."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from oversight.engines.vllm.server import ServerProcess
from oversight.errors import EngineError, EngineRefusedError, EngineUnavailableError
from oversight.types import Chunk, Completion, Engine, FinishReason, Request, Usage

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
