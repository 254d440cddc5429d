"""A server that speaks the OpenAI API as a model behind the guard."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from oversight.errors import MissingDependencyError
from oversight.guard.upstreams import (
    TRACE,
    ApiError,
    Json,
    Path,
    UpstreamSettings,
    upstream_failed,
)
from oversight.redaction import redacted, register

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

MAX_ANSWER_BYTES = 64 << 20
MAX_EVENT_BYTES = 8 << 20
"""Longest answer, and longest single event, that is read of a server."""
KEPT_S = 4.0
"""Time for which an idle connection is kept: less than the 5 s after which uvicorn closes it."""


class ServerUpstream:
    """A server that speaks the OpenAI API; fields that nobody here knows are passed on."""

    def __init__(self, name: str, settings: UpstreamSettings) -> None:
        self._name, self._settings = name, settings
        key = os.environ.get(settings.api_key_env, "") if settings.api_key_env else ""
        register(key)
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._http = _http_client()
        self._session: ClientSession | None = None
        self._base = settings.base_url.rstrip("/")

    @property
    def _client(self) -> ClientSession:
        """The connections to the server, which belong to the loop that is running."""
        if self._session is None:
            http, settings = self._http, self._settings
            self._session = http.ClientSession(
                headers=self._headers,
                timeout=http.ClientTimeout(
                    total=None,
                    sock_connect=settings.connect_timeout_s,
                    sock_read=settings.timeout_s,
                ),
                connector=http.TCPConnector(limit=0, keepalive_timeout=KEPT_S),
                cookie_jar=http.DummyCookieJar(),
                trust_env=False,
                trace_configs=[_noting_reuse(http)],
            )
        return self._session

    @asynccontextmanager
    async def _asked(self, url: str, content: bytes) -> AsyncGenerator[ClientResponse, None]:
        """The server's answer; asked once more where a kept connection was closed by then."""
        noted: dict[str, bool] = {}
        headers = {"content-type": "application/json"}
        if (trace := TRACE.get()) is not None:
            headers["traceparent"] = trace.header

        def post() -> Awaitable[ClientResponse]:
            return self._client.post(
                url,
                data=content,
                headers=headers,
                allow_redirects=False,
                trace_request_ctx=noted,
            )

        try:
            answer = await post()
        except self._http.ServerDisconnectedError:
            if not noted.get("reused"):
                raise
            answer = await post()
        async with answer:
            yield answer

    async def answer(self, path: Path, body: Json) -> Json:
        """The whole answer; raises as the protocol says."""
        async with aclosing(self._chunks(path, body, "application/json")) as chunks:
            content = b""
            async for chunk in chunks:
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise upstream_failed(
                        f"{self._name}: the answer is beyond {MAX_ANSWER_BYTES} bytes"
                    )
        return self._object(content)

    async def stream(self, path: Path, body: Json) -> AsyncGenerator[Json, None]:
        """The answer in events; raises as the protocol says."""
        rest, done = b"", False
        async with aclosing(self._chunks(path, body, "text/event-stream")) as chunks:
            async for chunk in chunks:
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_EVENT_BYTES:
                    raise upstream_failed(
                        f"{self._name}: an event is beyond {MAX_EVENT_BYTES} bytes"
                    )
                for line in lines:
                    event = line.strip().removeprefix(b"data:").strip()
                    if not line.startswith(b"data:") or not event:
                        continue
                    if event == b"[DONE]":
                        done = True
                        continue
                    found = self._object(event)
                    if "error" in found:
                        raise self._told(found["error"], 502)
                    yield found
        if not done:
            raise upstream_failed(
                f"{self._name}: the answer ended in its middle", code="upstream_closed"
            )

    async def _chunks(self, path: Path, body: Json, wanted: str) -> AsyncGenerator[bytes, None]:
        """The bytes of a good answer of the kind wanted."""
        sent = body | {"model": self._settings.model} if self._settings.model else body
        try:
            # Escaped, as halves of surrogate pairs, which a client may send, are no UTF-8.
            content = json.dumps(sent, separators=(",", ":")).encode()
            async with self._asked(f"{self._base}/{path}", content) as answer:
                kind = answer.headers.get("content-type", "").partition(";")[0].strip()
                if answer.status >= 400:
                    raise self._refused(answer.status, kind, await _beginning(answer))
                if kind != wanted or answer.status >= 300:
                    raise upstream_failed(
                        f"{self._name}: the server answered with {kind or 'no content type'} and "
                        f"not {wanted} (status {answer.status}); check base_url"
                    )
                async for chunk in answer.content.iter_any():
                    yield chunk
        except TimeoutError as error:
            raise upstream_failed(
                f"{self._name}: no answer in time ({type(error).__name__})", 504, "upstream_timeout"
            ) from error
        except self._http.ClientError as error:
            said = str(error) or type(error).__name__
            raise upstream_failed(
                f"{self._name}: the server cannot be reached, or broke off: {said}",
                502,
                "upstream_unavailable",
            ) from error

    def _refused(self, status: int, kind: str, content: bytes) -> ApiError:
        """The server's own error, where it is one of the API's."""
        if kind == "application/json":
            try:
                found = json.loads(content)
            except (ValueError, RecursionError):
                found = None
            if isinstance(found, dict) and isinstance(found.get("error"), dict):
                return self._told(found["error"], status)
        return upstream_failed(f"{self._name}: the server answered with status {status} and {kind}")

    def _told(self, error: Any, status: int) -> ApiError:
        fields = error if isinstance(error, dict) else {"message": str(error)}
        # The keys are the guard's own: what is wrong with them is none of the client's errors.
        known = status if status not in (401, 403) else 502
        return ApiError(
            redacted(str(fields.get("message", "the server failed")))[:2000],
            known,
            str(fields.get("type") or "upstream_error"),
            None if fields.get("code") is None else str(fields["code"]),
            None if fields.get("param") is None else str(fields["param"]),
        )

    def _object(self, content: bytes) -> Json:
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise upstream_failed(f"{self._name}: the server's answer is no JSON object")
        return found

    async def models(self) -> Sequence[str]:
        """The models that the server lists, or the one that is set."""
        if self._settings.model:
            return (self._name,)
        try:
            url = f"{self._base}/models"
            async with self._client.get(url, allow_redirects=False, trace_request_ctx={}) as answer:
                listed = json.loads(await _beginning(answer, MAX_EVENT_BYTES))["data"]
            return [str(each["id"]) for each in listed]
        except (self._http.ClientError, TimeoutError, ValueError, KeyError, TypeError):
            return ()

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()


async def _beginning(answer: ClientResponse, most: int = 1 << 16) -> bytes:
    content = b""
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > most:
            break
    return content


def _noting_reuse(http: Any) -> Any:
    """Tracing that writes down of a request that it went over a kept connection."""

    async def note(_: object, context: Any, __: object) -> None:
        context.trace_request_ctx["reused"] = True

    async def anew(_: object, context: Any, __: object) -> None:
        context.trace_request_ctx["reused"] = False

    found = http.TraceConfig()
    found.on_connection_reuseconn.append(note)
    found.on_connection_create_start.append(anew)
    return found


def _http_client() -> Any:
    """The module aiohttp, whose client costs a fourth of the processor time of httpx.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        import aiohttp
    except ImportError:
        raise MissingDependencyError(
            "a guard asks servers by aiohttp: pip install 'oversight[guard]'"
        ) from None
    return aiohttp
