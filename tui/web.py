"""The judging application in a browser: a small server on loopback, a process for each browser.

textual-serve brings the page's terminal and carries bytes; everything else about safety is here,
as it has no authentication: it listens on loopback, answers only those who call it by its own
name (no page of another site can reach it, by a rebound name or a WebSocket), starts its command
without a shell, and loads nothing from the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import ipaddress
import json
import secrets
import shlex
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from string import Template
from subprocess import SubprocessError
from urllib.parse import urlsplit

import typer

from oversight.errors import ConfigError, MissingDependencyError
from oversight.text.terminal import visible

try:
    from aiohttp import web
    from aiohttp.typedefs import Handler, Middleware
    from textual_serve.server import Server, to_int

    from oversight.tui.web_process import KILL_S, LEAVE_S, TERM_S, Application, size_within
except ImportError as error:
    raise MissingDependencyError(
        f"judging in a browser needs textual-serve, which is not installed ({error}): "
        "pip install 'oversight[web]'"
    ) from error

PAGE = Path(__file__).with_name("web.html")
TITLE = "oversight"

MAX_TABS = 16
"""Browser tabs at once, unless it is set; each is a process of about 100 MB."""
MAX_MESSAGE_BYTES = 1 << 18
"""Of one message from a browser, such as a text that is pasted."""
MESSAGES_PER_S = 500
BURST = 1000
"""Messages that may come at once before they are taken no faster than that."""
FULL = 1013
"""The close code "try again later" of a WebSocket."""
SIZE = (80, 24)
FONT_SIZES = (6, 72)


def serve(
    command: Sequence[str],
    *,
    host: str,
    port: int,
    public_url: str | None,
    max_tabs: int = MAX_TABS,
) -> None:
    """Serve what `command` shows until Ctrl-C.

    Args:
        command: A program and its arguments; it is started once for each browser.
        host: Where to listen; beyond loopback only with a `public_url`.
        port: 0 takes a free one.
        public_url: Where browsers find it, if a reverse proxy stands before it.
        max_tabs: How many processes there may be at a time.

    Raises:
        ConfigError: The host is not loopback and there is no proxy, or the port is taken.
    """
    check_exposure(host, public_url)
    with listen(host, port) as listening:
        server = JudgeServer(command, host, listening.getsockname()[1], public_url, max_tabs)
        try:
            asyncio.run(_serve(server, listening))
        finally:
            server.kill()


def check_exposure(host: str, public_url: str | None) -> None:
    """Refuse to listen where strangers could judge.

    Raises:
        ConfigError: The host is not loopback and no reverse proxy is named, or its URL is none.
    """
    if public_url is not None:
        parts = urlsplit(public_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"--public-url {public_url!r} is no http:// or https:// address")
    elif not _is_loopback(host):
        raise ConfigError(
            f"--host {host!r} is not this machine alone, and anyone who reaches it could judge in "
            "your name: put a reverse proxy that asks who is there before it, and name its "
            "address with --public-url"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        ConfigError: It cannot.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror or error}; "
            "--port 0 takes a free port"
        ) from None


async def _serve(server: JudgeServer, listening: socket.socket) -> None:
    patience_s = LEAVE_S + TERM_S + KILL_S
    runner = web.AppRunner(await server.make_app(), access_log=None, shutdown_timeout=patience_s)
    await runner.setup()
    stop = asyncio.Event()

    def end() -> None:
        if stop.is_set():  # asked once more: at once
            server.kill()
        stop.set()

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        with contextlib.suppress(AttributeError, NotImplementedError):  # not on Windows
            asyncio.get_running_loop().add_signal_handler(getattr(signal, name), end)
    try:
        await web.SockSite(runner, listening).start()
        typer.echo(f"Judging at {visible(server.public_url, newlines=False)} — Ctrl-C ends it.")
        await stop.wait()
    finally:
        await runner.cleanup()
    below = "\n" if sys.stdout.isatty() else ""  # the terminal has written ^C
    typer.echo(f"{below}Ended. All that was done is kept; the same command serves it again.")


class JudgeServer(Server):
    """Serves the page, and a process of the application for each browser that opens it."""

    def __init__(
        self,
        command: Sequence[str],
        host: str,
        port: int,
        public_url: str | None,
        max_tabs: int = MAX_TABS,
    ) -> None:
        at = f"[{host}]" if ":" in host else host
        here = f"http://{at}:{port}"
        self.argv = list(command)
        super().__init__(
            shlex.join(command),
            host=host,
            port=port,
            title=TITLE,
            public_url=(public_url or here).rstrip("/"),
        )
        self._origins = {here, f"http://localhost:{port}", f"http://127.0.0.1:{port}"}
        parts = urlsplit(self.public_url)
        self._origins.add(f"{parts.scheme}://{parts.netloc}")
        self._names = {urlsplit(origin).netloc for origin in self._origins}
        self._max_tabs = max_tabs
        self._tabs: set[_Tab] = set()

    async def make_app(self) -> web.Application:
        """The application with its gate."""
        app = await self._make_app()
        app.middlewares.append(self._gate())
        return app

    def _gate(self) -> Middleware:
        @web.middleware
        async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
            origin = request.headers.get("Origin")
            if request.host not in self._names or (
                origin is not None and origin not in self._origins
            ):
                raise web.HTTPForbidden(text="This address answers only to its own page.\n")
            return await handler(request)

        return gate

    async def handle_index(self, request: web.Request) -> web.StreamResponse:
        """The page."""
        parts = urlsplit(self.public_url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        socket_url = f"{scheme}://{parts.netloc}{parts.path}/ws"
        nonce = secrets.token_urlsafe()
        text = Template(PAGE.read_text("utf-8")).substitute(
            title=html.escape(TITLE),
            websocket=html.escape(socket_url),
            font_size=max(FONT_SIZES[0], min(FONT_SIZES[1], _queried(request, "fontsize", 16))),
            full_code=FULL,
            max_tabs=self._max_tabs,
            nonce=nonce,
        )
        policy = (
            f"default-src 'none'; script-src 'self' 'nonce-{nonce}'; "
            "style-src 'self' 'unsafe-inline'; "
            "font-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
            f"connect-src 'self' {scheme}://{parts.netloc}"
        )
        headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def handle_websocket(self, request: web.Request) -> web.WebSocketResponse:
        """Carry bytes between a browser and an application of its own."""
        if "Origin" not in request.headers:
            raise web.HTTPForbidden(text="Open the page in a browser.\n")
        carrier = web.WebSocketResponse(timeout=2.0, heartbeat=15, max_msg_size=MAX_MESSAGE_BYTES)
        await carrier.prepare(request)
        width, height = (_queried(request, *each) for each in zip(_SIDES, SIZE, strict=True))
        if not await self._has_room():
            full = f"{self._max_tabs} tabs are open, which is all that max_tabs allows"
            await carrier.close(code=FULL, message=full.encode())
            return carrier
        tab = _Tab(self, carrier, size_within(width, height) or SIZE)
        self._tabs.add(tab)
        tab.task = asyncio.create_task(tab.carry())
        tab.task.add_done_callback(lambda _: self._tabs.discard(tab))
        try:
            # Not awaited itself: if this handler is cancelled, the application still has to leave.
            await asyncio.wait([tab.task])
        finally:
            tab.hang_up.set()
        return carrier

    async def _has_room(self) -> bool:
        """True if one more tab may open, once those that are closing have closed."""
        deadline = time.monotonic() + LEAVE_S + TERM_S
        while len(self._tabs) >= self._max_tabs:
            leaving = any(tab.hang_up.is_set() for tab in self._tabs)
            if not leaving or time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.1)
        return True

    async def on_startup(self, app: web.Application) -> None:
        """Say nothing: `serve` tells all there is to tell."""

    async def on_shutdown(self, app: web.Application) -> None:
        """Let every application leave."""
        tasks = [tab.task for tab in self._tabs if tab.task is not None]
        for tab in self._tabs:
            tab.hang_up.set()
        if tasks:
            await asyncio.wait(tasks, timeout=LEAVE_S + TERM_S + KILL_S)

    def kill(self) -> None:
        """Kill every application that is left, without waiting."""
        for tab in self._tabs:
            tab.application.signal(signal.SIGKILL)


class _Tab:
    """A browser's tab, and its application."""

    def __init__(
        self, server: JudgeServer, carrier: web.WebSocketResponse, size: tuple[int, int]
    ) -> None:
        self._carrier = carrier
        self._size = size
        self.application = Application(
            server.argv,
            write_bytes=carrier.send_bytes,
            write_str=carrier.send_str,
            close=_closing(carrier),
            download_manager=server.download_manager,
        )
        self.hang_up = asyncio.Event()
        """Set when the application has to leave."""
        self.task: asyncio.Task[None] | None = None

    async def carry(self) -> None:
        """Start the application and carry messages until it, the browser or the server ends."""
        try:
            await self.application.start(*self._size)
        except (OSError, RuntimeError, SubprocessError) as error:  # no process or file is left
            typer.echo(f"oversight: a tab could not be opened: {visible(str(error))}", err=True)
            await self._carrier.close(code=FULL, message=b"no process could be started")
            return
        reading = asyncio.create_task(self._read())
        told = asyncio.create_task(self.hang_up.wait())
        try:
            ends = [reading, told, self.application.ended]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.hang_up.set()
            reading.cancel()
            told.cancel()
            await self.application.leave()
            with contextlib.suppress(ConnectionError, RuntimeError):
                await self._carrier.close()

    async def _read(self) -> None:
        """Take messages until the browser has gone, no faster than `MESSAGES_PER_S` for long."""
        credit, last = float(BURST), time.monotonic()
        async for message in self._carrier:
            now = time.monotonic()
            credit = min(float(BURST), credit + (now - last) * MESSAGES_PER_S) - 1.0
            last = now
            if credit < 0.0:
                await asyncio.sleep(-credit / MESSAGES_PER_S)
            if message.type is web.WSMsgType.TEXT:
                await self._take(message.data)

    async def _take(self, text: str) -> None:
        """Carry out a message; a senseless one is ignored."""
        try:
            kind, *rest = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            return
        said = rest[0] if rest else None
        if kind == "stdin" and isinstance(said, str):
            await self.application.send_bytes(said.encode("utf-8", "replace"))
        elif kind == "resize" and isinstance(said, dict):
            size = size_within(*(said.get(side) for side in _SIDES))
            if size is not None:
                await self.application.set_terminal_size(*size)
        elif kind == "ping" and isinstance(said, str | int):
            with contextlib.suppress(ConnectionError, RuntimeError):
                await self._carrier.send_json(["pong", said])
        elif kind == "blur":
            await self.application.blur()
        elif kind == "focus":
            await self.application.focus()


_SIDES = ("width", "height")


def _queried(request: web.Request, name: str, default: int) -> int:
    """A number in an address's query, or the default if it is none."""
    return to_int(request.query.get(name, ""), default)


def _closing(carrier: web.WebSocketResponse) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        await carrier.close()

    return close
