"""Server-sent events of a guard, as the API writes them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from oversight.guard.upstreams import ApiError, Json

logger = logging.getLogger(__name__)


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
            await close_events(self._events)
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


async def close_events(events: AsyncIterator[Json]) -> None:
    """End a stream of events before its own end."""
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()
