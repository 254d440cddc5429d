"""A server on 127.0.0.1 that speaks both OpenAI APIs as a test scripts it, faults included."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from oversight.engines.openai import Config, OpenAIEngine, build
from oversight.engines.openai import server as retrying
from oversight.types import Message, Prompt, Request, Sampling


@dataclass
class Exchange:
    """One HTTP request as the server sees it, and the ways to answer it."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    writer: asyncio.StreamWriter

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def send(
        self, data: bytes, status: int = 200, kind: str = "application/json", **headers: str
    ) -> None:
        lines = [f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.raw("\r\n".join([*lines, "", ""]).encode() + data)

    async def json(self, value: Any, status: int = 200, **headers: str) -> None:
        await self.send(json.dumps(value).encode(), status, **headers)

    async def open_events(self) -> None:
        await self.raw(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )

    async def piece(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def events(self, events: Iterable[Any], *, done: bool = True) -> None:
        """Open a stream, send the events and, if `done`, its end."""
        await self.open_events()
        for event in events:
            await self.piece(b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n")
        if done:
            await self.piece(b"data: [DONE]\n\n")
            await self.raw(b"0\r\n\r\n")

    def hang_up(self) -> None:
        """Close the connection; what was sent still arrives."""
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()


Step = Callable[[Exchange], Awaitable[None]]


@dataclass
class ModelServer:
    """Answers with the next step of its script, and by `default` when there is none left."""

    script: deque[Step] = field(default_factory=deque)
    default: Step | None = None
    seen: list[Exchange] = field(default_factory=list)
    num_open: int = 0
    most_open: int = 0
    num_left: int = 0
    """Requests whose client went away before the answer's end."""
    num_connections: int = 0
    base_url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            while True:
                exchange = await _read(reader, writer)
                self.seen.append(exchange)
                self.num_open += 1
                self.most_open = max(self.most_open, self.num_open)
                try:
                    await self._answer(exchange, reader)
                finally:
                    self.num_open -= 1
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, exchange: Exchange, reader: asyncio.StreamReader) -> None:
        step = self.script.popleft() if self.script else self.default
        assert step is not None, f"no step left for {exchange.path}"
        answering = asyncio.ensure_future(step(exchange))
        leaving = asyncio.ensure_future(_end_of_input(reader))
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if leaving.done() and not answering.done():
            self.num_left += 1
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)
            raise ConnectionResetError
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        try:
            await answering
        except ConnectionError:  # a write met the client's leaving before the read did
            self.num_left += 1
            raise


async def _end_of_input(reader: asyncio.StreamReader) -> None:
    while not reader.at_eof():  # noqa: ASYNC110  # a StreamReader has no event for its end
        await asyncio.sleep(0.002)


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = head[0].split(" ")
    headers = {
        name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])
    }
    data = await reader.readexactly(int(headers.get("content-length", "0")))
    return Exchange(method, path, headers, json.loads(data) if data else None, writer)


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    """A scriptable server, listening."""
    model_server = ModelServer()
    listener = await asyncio.start_server(model_server.serve, "127.0.0.1", 0, limit=2**24)
    host, port = listener.sockets[0].getsockname()
    model_server.base_url = f"http://{host}:{port}/v1"
    yield model_server
    listener.close()


Open = Callable[..., OpenAIEngine]


@pytest.fixture
async def open_engine(server: ModelServer) -> AsyncIterator[Open]:
    """Opens engines on the server, with the settings given, and closes them afterwards."""
    engines = []

    def open_one(**settings: Any) -> OpenAIEngine:
        given = {"base_url": server.base_url, "model": "m", "api_key_env": ""} | settings
        engines.append(build(Config.parse(given)))
        return engines[-1]

    yield open_one
    for engine in engines:
        await engine.aclose()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back off for milliseconds."""
    monkeypatch.setattr(retrying, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(retrying, "LONGEST_BACKOFF_S", 0.05)


def chat(text: str | None = "Hello.", **choice: Any) -> dict[str, Any]:
    """The body of a chat answer."""
    return {
        "model": "m-2",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
                **choice,
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def delta(text: str | None = None, **choice: Any) -> dict[str, Any]:
    """An event of a chat stream."""
    return {"model": "m-2", "choices": [{"index": 0, "delta": {"content": text}, **choice}]}


def ask(text: str = "Hi", id: str = "r1", **sampling: Any) -> Request:
    """A request of one user message."""
    prompt = Prompt(messages=(Message(role="user", parts=(text,)),))
    return Request(prompt, Sampling(**sampling), id=id)


def says(value: Any, status: int = 200, **headers: str) -> Step:
    """The step that answers with JSON."""

    async def step(exchange: Exchange) -> None:
        await exchange.json(value, status, **headers)

    return step


def streams(*events: Any) -> Step:
    """The step that streams events to their proper end."""

    async def step(exchange: Exchange) -> None:
        await exchange.events(events)

    return step


async def until(true: Callable[[], bool]) -> None:
    """Wait until `true()`; fails after half a minute."""
    async with asyncio.timeout(30.0):
        while not true():  # noqa: ASYNC110  # any condition will do, not only ones with an event
            await asyncio.sleep(0.002)


@pytest.fixture
def wire() -> Any:
    """The functions above, for test modules, which cannot import one another."""
    from types import SimpleNamespace

    return SimpleNamespace(chat=chat, delta=delta, ask=ask, says=says, streams=streams, until=until)
