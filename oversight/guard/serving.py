"""The server of a guard: the OpenAI API's chat completions, completions, models; health, metrics.

Errors have the API's shape. A client that goes, or does not take what it is sent, ends its call,
and the model's work with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path as FilePath
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from oversight import __version__
from oversight.errors import ConfigError, MissingDependencyError
from oversight.guard.calls import Call
from oversight.guard.exchanges import ModelGuard
from oversight.guard.recording import Recorder
from oversight.guard.settings import GuardFileSettings, LimitSettings
from oversight.guard.trials import check_cases
from oversight.guard.upstreams import ApiError, Json, Path, invalid
from oversight.redaction import register
from oversight.store import Store

logger = logging.getLogger(__name__)

MIN_KEY_CHARS = 16
Work = Callable[[], Awaitable[Response]]


class Meters:
    """Counts and latencies of a guard, as Prometheus reads them."""

    def __init__(self) -> None:
        try:
            import prometheus_client as prometheus
        except ImportError:
            raise MissingDependencyError(
                "a guard counts with prometheus-client: pip install 'oversight[guard]'"
            ) from None
        self._latest = prometheus.generate_latest
        self.registry = prometheus.CollectorRegistry()
        self._begun = prometheus.Counter(
            "guard_requests", "Requests to the API that came.", registry=self.registry
        )
        self._ended = prometheus.Counter(
            "guard_requests_ended", "Requests that are over.", ["outcome"], registry=self.registry
        )
        self._findings = prometheus.Counter(
            "guard_findings",
            "Findings by check, action and side.",
            ["check", "action", "side"],
            registry=self.registry,
        )
        self._seconds = prometheus.Histogram(
            "guard_request_seconds",
            "Seconds of a whole request.",
            registry=self.registry,
            buckets=(0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300),
        )
        self._own = prometheus.Histogram(
            "guard_own_seconds",
            "Seconds of a request that is not streamed, without the model's.",
            registry=self.registry,
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
        )
        self._in_flight = prometheus.Gauge(
            "guard_in_flight", "Requests under way.", registry=self.registry
        )
        self.in_flight = 0

    def begin(self) -> None:
        """Count a request that came."""
        self.in_flight += 1
        self._begun.inc()
        self._in_flight.set(self.in_flight)

    def end(self, outcome: str) -> None:
        """Count a request that is over."""
        self.in_flight -= 1
        self._ended.labels(outcome).inc()
        self._in_flight.set(self.in_flight)

    def add(self, call: Call) -> None:
        """Count what happened to a call."""
        self._seconds.observe(call.seconds)
        if call.upstream_s:
            self._own.observe(max(0.0, call.seconds - call.upstream_s))
        for finding in call.findings:
            self._findings.labels(finding.check, finding.action.value, "input").inc()
        for choice in call.choices.values():
            for finding in choice.findings:
                self._findings.labels(finding.check, finding.action.value, "output").inc()

    def text(self) -> bytes:
        """All of them in Prometheus' form."""
        return self._latest(self.registry)


class GuardServer:
    """The routes of a guard."""

    def __init__(
        self,
        guard: ModelGuard,
        limits: LimitSettings,
        keys: Sequence[str] = (),
        on_end: Sequence[Callable[[], Awaitable[None]]] = (),
    ) -> None:
        self.guard, self.limits = guard, limits
        self.meters = Meters()
        self._keys = tuple(key.encode() for key in keys)
        self._closing = on_end
        self._outcomes: dict[int, str] = {}
        guard.watch(self.meters.add)
        routes = [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/completions", self._complete, methods=["POST"]),
            Route("/v1/models", self._models, methods=["GET"]),
            Route("/v1/models/{name:path}", self._model, methods=["GET"]),
            Route("/health", self._health, methods=["GET"]),
            Route("/metrics", self._metrics, methods=["GET"]),
        ]
        self.app = Starlette(
            routes=routes,
            lifespan=self._lifespan,
            exception_handlers={404: _not_found, 405: _not_found, Exception: _broken},
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await self.guard.aclose()
        for close in self._closing:
            await close()

    # --- routes ---

    async def _chat(self, request: Request) -> Response:
        return await self._answered(request, "chat/completions")

    async def _complete(self, request: Request) -> Response:
        return await self._answered(request, "completions")

    async def _models(self, request: Request) -> Response:
        async def work() -> Response:
            names = await self.guard.models()
            return JSONResponse({"object": "list", "data": [_model_card(name) for name in names]})

        return await self._told(request, work)

    async def _model(self, request: Request) -> Response:
        async def work() -> Response:
            name = request.path_params["name"]
            if name not in await self.guard.models():
                raise ApiError(
                    f"model {name!r}: there is no such model here",
                    404,
                    "invalid_request_error",
                    "model_not_found",
                    "model",
                )
            return JSONResponse(_model_card(name))

        return await self._told(request, work)

    async def _health(self, _: Request) -> Response:
        policy = self.guard.policy
        facts = {
            "status": "ok",
            "version": __version__,
            "policy": policy.name,
            "policy_version": policy.settings.version,
            "policy_hash": policy.fingerprint[:16],
            "checks": list(policy.settings.checks),
            "window": None if policy.holds else policy.window,
            "in_flight": self.meters.in_flight,
        }
        return JSONResponse(facts)

    async def _metrics(self, _: Request) -> Response:
        return PlainTextResponse(self.meters.text(), media_type="text/plain; version=0.0.4")

    # --- one request ---

    async def _told(self, request: Request, work: Work) -> Response:
        """The answer of some work, or its error in the API's shape."""
        try:
            self._check_key(request)
            return await work()
        except ApiError as error:
            return _error(error)

    async def _answered(self, request: Request, path: Path) -> Response:
        """The answer to a call; every one that comes is counted once as it ends."""
        self.meters.begin()
        outcome = ["failed"]
        handed_over = False
        try:
            self._check_key(request)
            if self.meters.in_flight > self.limits.max_in_flight:
                raise ApiError(
                    f"there are {self.limits.max_in_flight} calls under way; come again soon",
                    429,
                    "rate_limit_error",
                    "rate_limit_exceeded",
                )
            body = await self._body(request)
            if body.get("stream"):
                events = self.guard.stream(path, body, outcome)
                response = await self._begun(request, events, outcome)
                handed_over = True
                return response
            answer = await _unless_gone(request, self.guard.whole(path, body, outcome))
            if answer is None:
                outcome[0] = "cancelled"
                return Response(status_code=499)
            return JSONResponse(answer)
        except ApiError as error:
            return _error(error)
        except ClientDisconnect:
            outcome[0] = "cancelled"
            return Response(status_code=499)
        finally:
            if not handed_over:
                self.meters.end(outcome[0])

    async def _begun(
        self, request: Request, events: AsyncIterator[Json], outcome: list[str]
    ) -> Response:
        """A stream of events whose first one is there: an error before it is a plain one."""
        first = await _unless_gone(request, _first(events))
        if first is None:
            await _close(events)
            raise ClientDisconnect
        return EventStream(
            first, events, self.limits.write_timeout_s, lambda: self.meters.end(outcome[0])
        )

    async def _body(self, request: Request) -> Json:
        """The JSON of a request.

        Raises:
            ApiError: It is too large, too slow, or no JSON object.
        """
        most = int(self.limits.max_body_mb * (1 << 20))
        content = bytearray()
        chunks = request.stream()
        while True:
            try:
                async with asyncio.timeout(self.limits.read_timeout_s):
                    content += await anext(chunks)
            except StopAsyncIteration:
                break
            except TimeoutError:
                raise invalid("the request did not come to its end in time", status=408) from None
            if len(content) > most:
                raise invalid(
                    f"the request is larger than {self.limits.max_body_mb:g} MB", status=413
                )
        try:
            found = json.loads(content, parse_constant=_no_constant)
        except RecursionError:
            raise invalid("the request is nested too deeply") from None
        except ValueError as error:
            said = str(error) if content else "it is empty"
            raise invalid(f"the request is no JSON: {said[:200]}") from None
        if not isinstance(found, dict):
            raise invalid("the request is no JSON object")
        return found

    def _check_key(self, request: Request) -> None:
        if not self._keys:
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip().encode()
        if not sum(hmac.compare_digest(given, key) for key in self._keys):
            raise ApiError(
                "the key is missing or wrong: send it as Authorization: Bearer KEY",
                401,
                "invalid_request_error",
                "invalid_api_key",
            )


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


async def _first(events: AsyncIterator[Json]) -> Json:
    return await anext(events, {})


async def _close(events: AsyncIterator[Json]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()


async def _unless_gone(request: Request, work: Any) -> Any:
    """The result of some work; None if the client went before, whereupon the work is cancelled."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, gone):
            each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events, with an end in any case: the last, an error, or the client's going."""

    def __init__(
        self,
        first: Json,
        events: AsyncIterator[Json],
        write_timeout_s: float,
        on_end: Callable[[], None],
    ) -> None:
        super().__init__(media_type="text/event-stream", headers={"cache-control": "no-cache"})
        del self.headers["content-length"]
        self._first, self._events = first, events
        self._write_timeout_s = write_timeout_s
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all events."""

        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        sending = asyncio.ensure_future(self._send(send))
        gone = asyncio.ensure_future(listen())
        try:
            await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for each in (sending, gone):
                each.cancel()
            await asyncio.gather(sending, gone, return_exceptions=True)
            await _close(self._events)
            self._on_end()

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await self._put(send, start)
        try:
            if self._first:
                await self._event(send, json.dumps(self._first))
            async for event in self._events:
                await self._event(send, json.dumps(event))
            await self._event(send, "[DONE]")
        except ApiError as error:
            await self._event(send, json.dumps(error.body()))
        except TimeoutError:
            logger.warning("a client did not take what it was sent; its call is over")
            return
        await self._put(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _event(self, send: Send, data: str) -> None:
        body = f"data: {data}\n\n".encode()
        await self._put(send, {"type": "http.response.body", "body": body, "more_body": True})

    async def _put(self, send: Send, message: Any) -> None:
        async with asyncio.timeout(self._write_timeout_s):
            await send(message)


def _model_card(name: str) -> Json:
    return {"id": name, "object": "model", "created": _STARTED, "owned_by": "oversight"}


_STARTED = int(time.time())


def _error(error: ApiError) -> Response:
    headers = {"retry-after": "1"} if error.status == 429 else None
    return JSONResponse(error.body(), error.status, headers)


async def _not_found(request: Request, error: Exception) -> Response:
    status = getattr(error, "status_code", 404)
    said = f"{request.method} {request.url.path[:100]}: there is nothing of that name here"
    return _error(ApiError(said, status, "invalid_request_error"))


async def _broken(request: Request, error: Exception) -> Response:
    return _error(ApiError("the guard itself failed; its log says more", 500, "server_error"))


def keys_from(name: str, *, is_loopback: bool) -> tuple[str, ...]:
    """The keys that clients may use.

    Raises:
        ConfigError: There are none where others than this machine can come, or one is too short.
    """
    keys = tuple(filter(None, (each.strip() for each in os.environ.get(name, "").split(","))))
    for key in keys:
        register(key)
        if len(key) < MIN_KEY_CHARS:
            raise ConfigError(f"{name}: a key has at least {MIN_KEY_CHARS} characters")
    if not keys and not is_loopback:
        raise ConfigError(
            f"others than this machine can reach the guard, and {name} holds no keys: set it to "
            "one or more, separated by commas, or take host = '127.0.0.1'"
        )
    return keys


async def open_server(
    settings: GuardFileSettings, around: FilePath | None = None, keys: Sequence[str] = ()
) -> GuardServer:
    """The server of a guard's file, its checks loaded and its policy's cases run.

    Args:
        settings: The file's.
        around: The file's folder, from which a policy is looked for as well.
        keys: That clients may use; none lets everybody in.

    Raises:
        ConfigError: Something in the file is wrong, or a case of the policy does not hold.
        StoreError: The store cannot be opened.
    """
    policy = settings.read_policy(around)
    await check_cases(policy)
    guard = ModelGuard(policy, settings.open_upstreams())
    closing: list[Callable[[], Awaitable[None]]] = []
    if settings.store:
        recorder = Recorder(Store.open(settings.store), policy, settings.sample)
        guard.watch(recorder.add)
        closing.append(recorder.aclose)
    return GuardServer(guard, settings.limits, keys, closing)


async def serve(server: GuardServer, listening: socket.socket) -> None:
    """Serve until Ctrl-C."""
    config = uvicorn.Config(
        server.app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    await uvicorn.Server(config).serve(sockets=[listening])
