"""One model server over HTTP: connections, retries, time, events, errors that say what to do."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import httpx

from oversight.engines.openai.failures import (
    LOOK_AT_KEY,
    AttemptError,
    broken_connection,
    refused_or_failed,
    reported,
    unreadable,
)
from oversight.engines.openai.reply import MalformedReplyError, Reply, ReportedError
from oversight.errors import EngineUnavailableError
from oversight.ids import text_id
from oversight.redaction import redacted, register

LINE_END = re.compile(rb"\r\n|\n|\r")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventDecoder:
    """Cuts a byte stream, in pieces of any size, into the data of its events.

    Lines end at CR, LF or both and nowhere else: a model's text may hold U+2028
    or U+0085 unescaped inside the JSON, and cutting there would break the event.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._at_start = True

    def feed(self, piece: bytes) -> list[bytes]:
        """Data of the events that `piece` completes."""
        self._rest += piece
        if self._at_start and len(self._rest) >= len(BYTE_ORDER_MARK):
            self._rest = self._rest.removeprefix(BYTE_ORDER_MARK)
            self._at_start = False
        # A CR at the very end may be the first half of CR LF.
        ready, held = (self._rest[:-1], b"\r") if self._rest[-1:] == b"\r" else (self._rest, b"")
        *lines, rest = LINE_END.split(ready)
        self._rest = rest + held
        return self._events(lines)

    def end(self) -> list[bytes]:
        """Data of an event that the stream's end completes, for servers that omit the last line."""
        last, self._rest = self._rest.rstrip(b"\r"), b""
        return self._events([last, b""])

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events = []
        for line in lines:
            if line:
                field, _, value = line.partition(b":")
                if field == b"data":
                    self._data.append(value.removeprefix(b" "))
            elif self._data:
                events.append(b"\n".join(self._data))
                self._data = []
        return events


POOL_SIZE = 8

KEEPALIVE_S = 4.0
"""Idle connections are closed before common servers (after 5 s) close them under a request."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(slots=True)
class Pool:
    """A client with a few connections, and how many requests it has under way."""

    client: httpx.AsyncClient
    num_in_use: int = 0


class Connections:
    """As many pools as are needed at the same time."""

    def __init__(self, base_url: str, *, key: str, connect_timeout_s: float) -> None:
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = httpx.Timeout(None, connect=connect_timeout_s)
        # A proxy named in the environment cannot reach this machine's own servers.
        self._trust_env = httpx.URL(base_url).host not in LOOPBACK
        self._tls = httpx.create_ssl_context(trust_env=self._trust_env)
        self._pools: list[Pool] = []

    @contextmanager
    def client(self) -> Iterator[httpx.AsyncClient]:
        """A client for one request: of the first pool with room, where connections are warm."""
        pool = next((pool for pool in self._pools if pool.num_in_use < POOL_SIZE), None)
        if pool is None:
            pool = Pool(self._new_client())
            self._pools.append(pool)
        pool.num_in_use += 1
        try:
            yield pool.client
        finally:
            pool.num_in_use -= 1

    async def aclose(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(pool.client.aclose() for pool in self._pools))

    def _new_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers=self._headers,
            timeout=self._timeout,
            limits=httpx.Limits(
                max_connections=None,
                max_keepalive_connections=POOL_SIZE,
                keepalive_expiry=KEEPALIVE_S,
            ),
            verify=self._tls,
            trust_env=self._trust_env,
        )


BRIEFLY_S = 5.0
"""Wait for a server that is asked something before a run."""


def briefly(base_url: str, key: str) -> httpx.Client:
    """A client for a question or two before a run, which waits for nobody long."""
    return httpx.Client(
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=BRIEFLY_S,
        trust_env=httpx.URL(base_url).host not in LOOPBACK,
    )


T = TypeVar("T")

logger = logging.getLogger("oversight.engines.openai")

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0

DRAIN_S = 1.0
"""Time that a stream may stay open after its last event, for its connection to be used again."""

DETOKENIZE_S = 10.0
"""Time limit for asking a server how a prompt ends."""

ABORTED = frozenset(
    {
        *("abort", "aborted", "cancelled", "canceled", "error", "failed", "incomplete"),
        *("interrupted", "timeout", "network_error", "insufficient_system_resource"),
    }
)
"""Finish reasons of answers that the server gave up, as it does when it shuts down."""


@dataclass(slots=True)
class Exchange:
    """One exchange with the server, and what has come of it so far."""

    name: str
    """Its name in messages."""
    path: str
    body: bytes = b""
    route: str = ""
    """Calls of one route have the beginning of their prompts in common."""
    emit: Callable[[str], None] | None = None
    """Takes text as it arrives."""
    deadline: float = float("inf")
    """On `time.monotonic`'s clock; nothing is tried again after it."""
    max_retries: int | None = None
    """Bound on further tries, where the server's own does not hold."""
    reply: Reply = field(default_factory=Reply)
    """The reply so far; a new attempt starts with a new one."""
    emitted: bool = False
    num_attempts: int = 0
    last_failure: str = ""

    def take(self, data: bytes) -> None:
        """Add a body or an event to the reply, and pass its text on."""
        try:
            text = self.reply.add(data)
        except ReportedError as error:
            raise reported(error) from None
        except MalformedReplyError as error:
            raise unreadable(str(error), data) from None
        if text and self.emit is not None:
            self.emitted = True
            self.emit(text)


class Server:
    """A model server at one address."""

    def __init__(
        self,
        base_url: str,
        *,
        key: str,
        connect_timeout_s: float,
        max_retries: int,
        key_variable: str = "",
    ) -> None:
        self.base_url = base_url
        self.num_in_flight = 0
        """Calls that it has been given and that have not ended."""
        self.rests_until = 0.0
        """On `time.monotonic`'s clock; it did not answer, and others are asked before it."""
        self.num_rests = 0
        """Rests since it answered last."""
        register(key)
        self._key_variable, self._has_key = key_variable, bool(key)
        self._max_retries = max_retries
        self._connections = Connections(base_url, key=key, connect_timeout_s=connect_timeout_s)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._connections.aclose()

    async def ask(self, call: Exchange) -> None:
        """Fill `call.reply` with the whole answer, asking again where that may help.

        Raises:
            EngineRefusedError: The server says no.
            EngineUnavailableError: Nobody answers, or the connection breaks each time.
            EngineError: The reply is no answer.
        """
        await self._persist(call, self._post)

    async def get(self, call: Exchange) -> bytes:
        """The body that a GET of `call.path` answers with; raises as `ask` does."""
        return await self._persist(call, self._get)

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Counts a call as in flight."""
        self.num_in_flight += 1
        try:
            yield
        finally:
            self.num_in_flight -= 1

    async def detokenize(self, model: str, token_ids: Sequence[int]) -> str | None:
        """The text of token ids as a vLLM server reads them; None if it does not say."""
        url = self.base_url.removesuffix("/v1") + "/detokenize"
        try:
            with self._connections.client() as client:
                asked = {"model": model, "tokens": list(token_ids)}
                response = await client.post(url, json=asked, timeout=DETOKENIZE_S)
            text = response.json()["prompt"] if response.is_success else None
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return None
        return text if isinstance(text, str) else None

    def message(self, name: str, reason: str, advice: str) -> str:
        """An error's message: server, request, reason, and what to do; never the key."""
        return redacted(f"{self.base_url}: {name}: {reason}; {advice}")

    async def _persist(self, call: Exchange, attempt: Callable[[Exchange], Awaitable[T]]) -> T:
        while True:
            call.num_attempts += 1
            try:
                return await attempt(call)
            except AttemptError as failure:
                await self._wait_or_raise(call, failure)
            except httpx.HTTPError as error:
                await self._wait_or_raise(call, broken_connection(error))

    async def _wait_or_raise(self, call: Exchange, failure: AttemptError) -> None:
        call.last_failure = failure.reason
        bound_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(call.num_attempts - 1, 16))
        wait_s = max(failure.after_s, random.uniform(0.0, bound_s))
        late = time.monotonic() + wait_s > call.deadline
        most = self._max_retries if call.max_retries is None else call.max_retries
        if not failure.retry or call.emitted or late or call.num_attempts > most:
            self._give_up(call, failure, late=late and failure.retry)
        logger.info("%s", self.message(call.name, failure.reason, f"again in {wait_s:.1f} s"))
        await asyncio.sleep(wait_s)

    def _give_up(self, call: Exchange, failure: AttemptError, *, late: bool) -> NoReturn:
        reason = failure.reason
        if call.emitted:
            reason += " when part of the answer had already been passed on"
        if call.num_attempts > 1:
            reason += f" (try {call.num_attempts})"
        if late:
            reason += "; the wait before another try would exceed timeout_s"
        advice = failure.advice
        if advice == LOOK_AT_KEY and self._key_variable:
            given = "" if self._has_key else ", which is not set"
            advice = f"put a valid key into {self._key_variable}{given} (api_key_env names it)"
        raise failure.kind(self.message(call.name, reason, advice)) from failure

    async def _get(self, call: Exchange) -> bytes:
        with self._connections.client() as client:
            response = await client.get(self.base_url + call.path)
        if not response.is_success:
            raise refused_or_failed(response)
        return response.content

    async def _post(self, call: Exchange) -> None:
        call.reply = Reply()
        with self._connections.client() as client:
            await self._exchange(call, client)
        if (call.reply.finish or "").lower() in ABORTED:
            reason = f"gave the answer up before its end ({call.reply.finish})"
            raise AttemptError(EngineUnavailableError, reason)

    async def _exchange(self, call: Exchange, client: httpx.AsyncClient) -> None:
        url, headers = self.base_url + call.path, {"Content-Type": "application/json"}
        async with client.stream("POST", url, content=call.body, headers=headers) as response:
            if not response.is_success:
                await response.aread()
                raise refused_or_failed(response)
            if "text/event-stream" in response.headers.get("content-type", ""):
                await _read_events(call, response.aiter_bytes())
            else:
                _read_body(call, await response.aread())


FIRST_REST_S, REST_S = 1.0, 30.0
"""Time for which a server that does not answer is asked last: the first time, and at most; each
further time twice as long. So one that had too much to do for a moment is soon asked again."""
SHARE = 1.25
"""Calls that a server may have in flight, as a multiple of the mean of all."""


class ServerGroup:
    """Several servers of one model, asked as if they were one.

    Calls of one route go to the same server, where their prompts' beginnings are cached, for as
    long as it has no more in flight than `SHARE` times the mean of all: then to the next in the
    route's own order (consistent hashing with bounded loads, Mirrokni et al. 2018). So a slow
    server is given less, and keeps nobody waiting who could be answered elsewhere. What a server
    does not answer goes to the next one.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = tuple(servers)
        self.base_url = ", ".join(each.base_url for each in servers)

    async def aclose(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(each.aclose() for each in self._servers))

    async def ask(self, call: Exchange) -> None:
        """As `Server.ask`, of a server that has room, and of others where nobody answers there."""
        await self._from_one(call, lambda server: server.ask(call))

    async def get(self, call: Exchange) -> bytes:
        """As `Server.get`, of the first server that answers."""
        return await self._from_one(call, lambda server: server.get(call))

    async def detokenize(self, model: str, token_ids: Sequence[int]) -> str | None:
        """As `Server.detokenize`."""
        return await min(self._servers, key=_rest).detokenize(model, token_ids)

    def message(self, name: str, reason: str, advice: str) -> str:
        """As `Server.message`."""
        return redacted(f"{self.base_url}: {name}: {reason}; {advice}")

    async def _from_one(self, call: Exchange, ask: Callable[[Server], Awaitable[T]]) -> T:
        *others, last = self._in_order(call.route)
        for server in others:
            call.num_attempts, call.max_retries = 0, 1
            try:
                with server.asked():
                    found = await ask(server)
            except EngineUnavailableError as error:
                _send_to_rest(server, error)
                if call.emitted:
                    raise
            else:
                server.num_rests = 0
                return found
        call.num_attempts, call.max_retries = 0, None
        with last.asked():
            return await ask(last)

    def _in_order(self, route: str) -> list[Server]:
        """All servers: first those that answer and have room, each in the route's own order."""
        num_calls = sum(each.num_in_flight for each in self._servers) + 1
        most = math.ceil(SHARE * num_calls / len(self._servers))
        return sorted(
            self._servers,
            key=lambda each: (
                _rest(each) > 0.0,
                each.num_in_flight >= most,
                text_id(route, each.base_url),
            ),
        )


def _send_to_rest(server: Server, error: EngineUnavailableError) -> None:
    """Have others asked before a server that did not answer, for as long as it says at least."""
    if _rest(server):
        return  # calls that were in flight together fail together
    cause = error.__cause__
    told_s = cause.after_s if isinstance(cause, AttemptError) else 0.0
    rest_s = min(REST_S, FIRST_REST_S * 2 ** min(server.num_rests, 16))
    server.num_rests += 1
    server.rests_until = time.monotonic() + max(told_s, rest_s)


def _rest(server: Server) -> float:
    """Seconds for which a server is still asked last."""
    return max(0.0, server.rests_until - time.monotonic())


def _read_body(call: Exchange, body: bytes) -> None:
    call.take(body)
    if not call.reply.begun:
        raise unreadable("it holds no choice", body)
    _check_ended(call, "sent an answer that has not ended")


def _check_ended(call: Exchange, otherwise: str) -> None:
    """Refuse an answer that nothing says is whole: a proxy or a server gave it up."""
    if call.reply.finish is None:
        reason = f"{otherwise} (it gave no finish_reason)"
        raise AttemptError(EngineUnavailableError, reason)


async def _read_events(call: Exchange, pieces: AsyncIterator[bytes]) -> None:
    decoder = EventDecoder()
    async for piece in pieces:
        if _take_events(call, decoder.feed(piece)):
            await _drain(pieces)
            break
    else:
        _take_events(call, decoder.end())
    # A proxy that loses its server may close the stream in good order.
    _check_ended(call, "ended the stream before the answer's end")


def _take_events(call: Exchange, events: list[bytes]) -> bool:
    """Add the events to the reply; True at the one that closes the stream."""
    for data in events:
        if data.strip() == b"[DONE]":
            if not call.reply.begun:
                raise unreadable("the stream holds no choice", data)
            return True
        call.take(data)
    return False


async def _drain(pieces: AsyncIterator[bytes]) -> None:
    """Read to the end of the body: a connection closed before it cannot be used again."""
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(DRAIN_S):
            async for _ in pieces:
                pass
