"""A server that answers as a test wants it, and a guard in front of it, both over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from oversight.guard.calls import Call
from oversight.guard.preparing import GuardFileSettings
from oversight.guard.serving import GuardServer, open_server

Json = dict[str, Any]

REFUSING = """
[checks.bad]
check = "words"
on = "input"
action = "refuse"
settings = { words = ["forbidden"] }
"""
REPLACING = f"""
version = "7"

[checks.key]
check = "secrets"
action = "replace"
replacement = "[a key]"
{REFUSING}"""


class Running:
    """A server on loopback in this event loop."""

    def __init__(self, app: Any) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[method-assign]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Running:
        self._task = asyncio.create_task(self._serve())
        while not self._server.started:  # noqa: ASYNC110 - uvicorn tells it so
            await asyncio.sleep(0.005)
        return self

    async def _serve(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await self._server._serve([self._listening])

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        await asyncio.wait_for(self._task, 20)
        self._listening.close()


class Simulated:
    """A server of the OpenAI API that says what it is told to, in pieces, and remembers."""

    def __init__(self) -> None:
        self.words: list[str] = ["Hello ", "there."]
        self.bodies: list[Json] = []
        self.headers: list[dict[str, str]] = []
        self.choices: Callable[[Json], list[Json]] | None = None
        self.events: list[Json] | None = None
        self.pause_s = 0.0
        self.breaks_after: int | None = None
        self.answer: Response | None = None
        self.num_open = 0
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/completions", self._complete, methods=["POST"]),
                Route("/v1/models", self._models),
            ]
        )

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": "sim", "object": "model"}]})

    async def _complete(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.bodies.append(body)
        head = {"id": "cmpl-up", "object": "text_completion", "created": 1, "model": "sim"}
        if not body.get("stream"):
            text = "".join(self.words)
            choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
            return JSONResponse(head | {"choices": [choice]})
        return StreamingResponse(
            self._sent(
                head | {"choices": [{"index": 0, "text": word, "finish_reason": None}]}
                for word in self.words
            ),
            media_type="text/event-stream",
        )

    async def _chat(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.headers.append(dict(request.headers))
        self.bodies.append(body)
        if self.answer is not None:
            return self.answer
        head = {"id": "up", "created": 1, "model": "sim", "object": "chat.completion"}
        number = body.get("n") or 1
        if not body.get("stream"):
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
            message = {"role": "assistant", "content": "".join(self.words)}
            choices = [
                {"index": n, "message": message, "finish_reason": "stop", "logprobs": None}
                for n in range(number)
            ]
            if self.choices is not None:
                choices = self.choices(body)
            usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
            return JSONResponse(head | {"choices": choices, "usage": usage})
        head["object"] = "chat.completion.chunk"
        events = self.events
        if events is None:
            events = [
                {"index": n, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
                for n in range(number)
            ]
            events += [
                {"index": n, "delta": {"content": word}, "finish_reason": None}
                for word in self.words
                for n in range(number)
            ]
            events += [{"index": n, "delta": {}, "finish_reason": "stop"} for n in range(number)]
        return StreamingResponse(
            self._sent(head | {"choices": [each]} for each in events),
            media_type="text/event-stream",
        )

    async def _sent(self, events: Any) -> AsyncIterator[bytes]:
        self.num_open += 1
        try:
            for number, event in enumerate(events):
                if self.breaks_after == number:
                    return
                yield f"data: {json.dumps(event)}\n\n".encode()
                await asyncio.sleep(self.pause_s)
            yield b"data: [DONE]\n\n"
        finally:
            self.num_open -= 1


class Guarded:
    """A guard in front of a simulated server, and its calls."""

    def __init__(self, running: Running, server: GuardServer, upstream: Simulated) -> None:
        self.url, self.server, self.upstream = running.url, server, upstream
        self.calls: list[Call] = []
        server.guard.watch(self.calls.append)

    async def post(self, body: Any, path: str = "chat/completions", **how: Any) -> httpx.Response:
        async with httpx.AsyncClient(timeout=60, verify=False) as client:
            content = body if isinstance(body, str | bytes) else json.dumps(body)
            return await client.post(f"{self.url}/v1/{path}", content=content, **how)

    def counted(self) -> dict[str, float]:
        """Requests by their outcome, with `begun` for all that came."""
        found = {}
        for line in self.server.meters.text().decode().splitlines():
            if line.startswith("guard_requests_total "):
                found["begun"] = float(line.split()[1])
            if line.startswith("guard_requests_ended_total{"):
                found[line.split('"')[1]] = float(line.split()[1])
        return found


Start = Callable[..., Awaitable[Guarded]]


@pytest.fixture
async def guarded(tmp_path: Any) -> AsyncIterator[Start]:
    """A way to start a guard with a policy, in TOML, before a simulated server `sim`."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            policy: str,
            keys: tuple[str, ...] = (),
            upstream: Json | None = None,
            more: Json | None = None,
            **settings: Any,
        ) -> Guarded:
            simulated = Simulated()
            behind = await stack.enter_async_context(Running(simulated.app))
            (tmp_path / "policy.toml").write_text(policy, encoding="utf-8")
            data = {
                "policy": str(tmp_path / "policy.toml"),
                "upstreams": {
                    "sim": {"base_url": f"{behind.url}/v1", **(upstream or {})},
                    **(more or {}),
                },
                **settings,
            }
            server = await open_server(GuardFileSettings.parse(data), keys=keys)
            running = await stack.enter_async_context(Running(server.app))
            return Guarded(running, server, simulated)

        before = set(asyncio.all_tasks())
        yield start
    left = set(asyncio.all_tasks()) - before - {asyncio.current_task()}
    assert not left, f"tasks are left: {left}"


def asked(text: str = "Hello?", **more: Any) -> Json:
    """The body of a request with one message of the user."""
    return {"model": "sim", "messages": [{"role": "user", "content": text}], **more}
