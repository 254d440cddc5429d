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
import secrets
import shlex
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

import typer

from oversight.errors import ConfigError, MissingDependencyError
from oversight.text.terminal import visible

try:
    from aiohttp import web
    from aiohttp.typedefs import Handler, Middleware
    from textual_serve.server import Server, to_int

    from oversight.tui.web_process import LEAVE_S, Application
except ImportError as error:
    raise MissingDependencyError(
        f"judging in a browser needs textual-serve, which is not installed ({error}): "
        "pip install 'oversight[web]'"
    ) from error

PAGE = Path(__file__).with_name("web.html")
TITLE = "oversight"


def serve(command: Sequence[str], *, host: str, port: int, public_url: str | None) -> None:
    """Serve what `command` shows until Ctrl-C.

    Args:
        command: A program and its arguments; it is started once for each browser.
        host: Where to listen; beyond loopback only with a `public_url`.
        port: 0 takes a free one.
        public_url: Where browsers find it, if a reverse proxy stands before it.

    Raises:
        ConfigError: The host is not loopback and there is no proxy, or the port is taken.
    """
    check_exposure(host, public_url)
    with listen(host, port) as listening:
        server = JudgeServer(command, host, listening.getsockname()[1], public_url)
        asyncio.run(_serve(server, listening))


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
            f"--host {host!r} is not this machine alone, and whoever reaches it could judge in "
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
    runner = web.AppRunner(await server.make_app(), access_log=None, shutdown_timeout=LEAVE_S)
    await runner.setup()
    stop = asyncio.Event()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        with contextlib.suppress(AttributeError, NotImplementedError):  # not on Windows
            asyncio.get_running_loop().add_signal_handler(getattr(signal, name), stop.set)
    try:
        await web.SockSite(runner, listening).start()
        typer.echo(f"Judging at {visible(server.public_url, newlines=False)} — Ctrl-C ends it.")
        await stop.wait()
    finally:
        await runner.cleanup()


class JudgeServer(Server):
    """Serves the page, and a process of the application for each browser that opens it."""

    def __init__(
        self, command: Sequence[str], host: str, port: int, public_url: str | None
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
        self._open: set[asyncio.Task[None]] = set()

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
            font_size=to_int(request.query.get("fontsize", "16"), 16),
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
        carrier = web.WebSocketResponse(heartbeat=15)
        await carrier.prepare(request)
        width, height = (to_int(request.query.get(n, ""), d) for n, d in _SIZE)
        carried = asyncio.create_task(self._carry(carrier, width, height))
        self._open.add(carried)
        try:
            await asyncio.wait([carried])
        finally:
            carried.cancel()
            await asyncio.wait([carried])
            self._open.discard(carried)
        return carrier

    async def _carry(self, carrier: web.WebSocketResponse, width: int, height: int) -> None:
        application = Application(
            self.argv,
            write_bytes=carrier.send_bytes,
            write_str=carrier.send_str,
            close=_closing(carrier),
            download_manager=self.download_manager,
        )
        await application.start(width, height)
        reading = asyncio.create_task(self._process_messages(carrier, application))
        try:
            await asyncio.wait([reading, application.ended], return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            await application.leave()
            await carrier.close()

    async def on_startup(self, app: web.Application) -> None:
        """Nothing: what is to be said, `serve` says."""

    async def on_shutdown(self, app: web.Application) -> None:
        """Let every application leave."""
        for carried in self._open:
            carried.cancel()
        if self._open:
            await asyncio.wait(self._open)


_SIZE = (("width", 80), ("height", 24))


def _closing(carrier: web.WebSocketResponse) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        await carrier.close()

    return close
