"""The server of a guard: the OpenAI API's chat completions, completions, models; health, metrics.

Errors have the API's shape. A client that goes, or does not take what it is sent, ends its call,
and the model's work with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from oversight import __version__
from oversight.errors import ConfigError
from oversight.guard.calls import USER
from oversight.guard.candidate import CandidateTrial, candidate_upstreams
from oversight.guard.drift import Alarm, DriftWatch, num_streams
from oversight.guard.event_stream import EventStream, close_events
from oversight.guard.exchanges import ModelGuard
from oversight.guard.feedback import FeedbackDesk
from oversight.guard.policy import Policy
from oversight.guard.preparing import GuardFileSettings, LimitSettings, check_cases
from oversight.guard.recording import AlarmTeller, Meters, Recorder
from oversight.guard.replacing import ModelReplacements, ReplaceableUpstream
from oversight.guard.telemetry import CallTracer, TokenMeters, log_call
from oversight.guard.upstreams import TRACE, ApiError, Json, Path, TraceIds, Upstream, invalid
from oversight.redaction import register
from oversight.store import Store

logger = logging.getLogger(__name__)

MIN_KEY_CHARS = 16
Work = Callable[[], Awaitable[Response]]


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
        self.desk: FeedbackDesk | None = None
        """Taker of users' words; None where no calls are kept."""
        self.is_traced = False
        """True where calls are told to a collector."""
        self.trial: CandidateTrial | None = None
        """A candidate beside the model and the policy in use."""
        self.replacements: ModelReplacements | None = None
        """Weights that are put in place of others while it serves."""
        self.meters = Meters()
        self._keys = tuple(key.encode() for key in keys)
        self._closing = on_end
        guard.watch(self.meters.add)
        routes = [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/completions", self._complete, methods=["POST"]),
            Route("/v1/models", self._models, methods=["GET"]),
            Route("/v1/models/{name:path}", self._model, methods=["GET"]),
            Route("/v1/feedback", self._feedback, methods=["POST"]),
            Route("/trial", self._compared, methods=["GET"]),
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
        following = self.replacements.follow() if self.replacements is not None else None
        task = None if following is None else asyncio.create_task(following)
        yield
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self.trial is not None:
            await self.trial.aclose()
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

    async def _feedback(self, request: Request) -> Response:
        async def work() -> Response:
            if self.desk is None:
                raise ApiError(
                    "this guard keeps no calls that feedback could be joined to; set `store`",
                    404,
                    "invalid_request_error",
                )
            key = request.headers.get("authorization", "") if self._keys else ""
            body = await self._body(request)
            return JSONResponse(await self.desk.take(body, key or _host(request)))

        response = await self._told(request, work)
        self.meters.feedback(response.status_code)
        return response

    async def _health(self, _: Request) -> Response:
        policy = self.guard.policy
        facts = {
            "status": "ok",
            "version": __version__,
            "policy": policy.name,
            "policy_version": policy.settings.version,
            "policy_hash": policy.fingerprint[:16],
            "checks": list(policy.settings.checks),
            "models": {} if self.replacements is None else self.replacements.states(),
            "serving": None if self.trial is None else self.trial.serving.value,
            "window": None if policy.holds else policy.window,
            "in_flight": self.meters.in_flight,
        }
        return JSONResponse(facts)

    async def _compared(self, request: Request) -> Response:
        async def work() -> Response:
            if self.trial is None:
                raise ApiError("no [candidate] is tried here", 404, "invalid_request_error")
            return JSONResponse(await asyncio.to_thread(self.trial.figures))

        return await self._told(request, work)

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
        if self.is_traced:
            TRACE.set(TraceIds.begun(request.headers.get("traceparent", "")))
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
            guard = self._guard_for(request, body)
            if body.get("stream"):
                events = guard.stream(path, body, outcome)
                response = await self._begun(request, events, outcome)
                handed_over = True
                return response
            answer = await _unless_gone(request, guard.whole(path, body, outcome))
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

    def _guard_for(self, request: Request, body: Json) -> ModelGuard:
        """The guard that answers a request: of a trial, the one that its user has."""
        given = body.get("user") or request.headers.get("authorization", "")
        who = given if isinstance(given, str) and given else "@" + _host(request)
        USER.set(hashlib.blake2b(who.encode("utf-8", "replace"), digest_size=8).hexdigest())
        return self.guard if self.trial is None else self.trial.guard_for(who)

    async def _begun(
        self, request: Request, events: AsyncIterator[Json], outcome: list[str]
    ) -> Response:
        """A stream of events whose first one is there: an error before it is a plain one."""
        first = await _unless_gone(request, _first(events))
        if first is None:
            await close_events(events)
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


def _host(request: Request) -> str:
    return request.client.host if request.client else ""


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


async def _first(events: AsyncIterator[Json]) -> Json:
    return await anext(events, {})


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
    upstreams = settings.open_upstreams(around)
    guard = ModelGuard(policy, upstreams)
    _hold(policy, upstreams)
    candidate: ModelGuard | None = None
    if settings.candidate is not None:
        other = settings.read_candidate(around) or policy
        await check_cases(other)
        _hold(other, upstreams)
        candidate = ModelGuard(other, candidate_upstreams(settings.candidate, upstreams))
    closing: list[Callable[[], Awaitable[None]]] = []
    server = GuardServer(guard, settings.limits, keys, closing)
    if around is not None:
        server.replacements = ModelReplacements(upstreams, around / settings.replaced)
    tokens = TokenMeters(server.meters.registry, settings.read_prices(around))
    everywhere = [tokens.add, log_call]  # told of a call, whichever model and policy answered it
    if settings.telemetry is not None:
        tracer = CallTracer(settings.telemetry, settings.upstreams)
        server.is_traced = True
        everywhere.append(tracer.add)
        closing.append(tracer.aclose)
    if settings.drift is not None:
        teller = AlarmTeller(settings.drift.webhook)
        closing.append(teller.aclose)

        def tell(alarm: Alarm) -> None:
            server.meters.alarm(alarm.stream)
            teller(alarm)

        whole = {each.name: each for each in (*policy.whole_inputs, *policy.whole_outputs)}
        watch = DriftWatch(settings.drift, num_streams(whole, settings.drift), tell)
        guard.watch(watch.add)
    if settings.store:
        store = Store.open(settings.store)
        num_kept = settings.feedback.kept_calls
        recorder = Recorder(store, policy, settings.sample, None, num_kept, settings.hide)
        everywhere.append(recorder.add)
        closing.append(recorder.aclose)
        server.desk = FeedbackDesk(recorder, policy, settings.feedback)
    for each in everywhere:
        guard.watch(each)
    if candidate is not None and settings.candidate is not None:
        for each in (server.meters.add, *everywhere):
            candidate.watch(each)
        server.trial = CandidateTrial(settings.candidate, guard, candidate, around)
    return server


def _hold(policy: Policy, upstreams: Mapping[str, Upstream]) -> None:
    """Keep the weights in place whose hidden states a check of the policy reads."""
    for rule in (*policy.whole_inputs, *policy.whole_outputs):
        found = upstreams.get(getattr(rule.check, "reads", ""))
        if isinstance(found, ReplaceableUpstream):
            found.held_by = rule.name


async def serve(server: GuardServer, listening: socket.socket) -> None:
    """Serve until Ctrl-C."""
    config = uvicorn.Config(
        server.app,
        log_level="warning",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    await uvicorn.Server(config).serve(sockets=[listening])


def fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """A way to make uvloop's event loop; None, for asyncio's own, where it is not installed."""
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return None
    make: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return make
