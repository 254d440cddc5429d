"""The server and a real browser at it, for the tests of `--web`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from oversight.store import Store

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
KEYS = {"Enter": ("Enter", 13, "\r"), "ArrowRight": ("ArrowRight", 39, "")}
CTRL = 2
CELL_HEIGHT = 21
ROWS_WITH_INK = """
(() => {
  const canvas = document.querySelector("canvas.xterm-text-layer");
  const pixels = canvas.getContext("2d");
  const scale = canvas.height / canvas.clientHeight;
  const height = HEIGHT * scale;
  return Array.from({ length: Math.floor(canvas.height / height) }, (_, row) => {
    const { data } = pixels.getImageData(8, row * height + 2, canvas.width / 2, height - 4);
    const words = new Uint32Array(data.buffer);
    return words.some((each) => each !== words[0]);
  });
})()
""".replace("HEIGHT", str(CELL_HEIGHT))
"""Left half of each row of cells: more than one colour is something that was written."""


def in_chromium(test: Any) -> Any:
    """Mark a test as one that drives a real Chromium."""
    needs = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")
    return pytest.mark.browser(pytest.mark.slow(needs(test)))


class Served:
    """A running `oversight judge --web` or `oversight rate --web`."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def get(self, path: str = "/", **headers: str) -> tuple[int, str]:
        asked = urllib.request.Request(self.address + path, headers=headers)
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@contextmanager
def serving(store: Store, folder: Path, *words: str) -> Iterator[Served]:
    """Serve a store by `oversight` with these words, on a free port."""
    command = [sys.executable, "-m", "oversight.cli.main", *words]
    command += ["--web", "--port=0", f"--store={store.url}"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line.startswith("Judging at http://127.0.0.1:"):
            pytest.fail(line + process.stdout.read())
        yield Served(process, line.split()[2])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def until(holds: Callable[[], Any], seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"after {seconds} s it still does not hold"
        await asyncio.sleep(0.1)


@asynccontextmanager
async def connected(
    served: Served, **headers: str
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A connection as the page makes it."""
    given = {"Origin": served.address} | headers
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{served.address}/ws?width=100&height=30", headers=given) as socket,
    ):
        yield socket


async def shown(socket: aiohttp.ClientWebSocketResponse, word: bytes) -> bytes:
    """Receives until `word` has come, and returns all that came."""
    seen = b""
    async with asyncio.timeout(40):
        while word not in seen:
            message = await socket.receive()
            assert message.type is aiohttp.WSMsgType.BINARY, (message, seen[-500:])
            seen += message.data
    return seen


class Browser:
    """A tab of a headless Chromium, driven through its DevTools protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self.requested: list[str] = []
        """Addresses that the page asked for."""
        self.complaints: list[str] = []

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            heard = json.loads(await self._socket.receive_str(timeout=30))
            if heard.get("method") == "Network.requestWillBeSent":
                self.requested.append(heard["params"]["request"]["url"])
            elif heard.get("method") == "Network.webSocketCreated":
                self.requested.append(heard["params"]["url"])
            elif heard.get("method") == "Runtime.exceptionThrown" or (
                heard.get("method") == "Log.entryAdded"
                and heard["params"]["entry"]["level"] == "error"
            ):
                self.complaints.append(json.dumps(heard["params"]))
            if heard.get("id") == self._number:
                assert "error" not in heard, heard
                result: dict[str, Any] = heard["result"]
                return result

    async def open(self, address: str) -> None:
        for domain in ("Network", "Page", "Runtime", "Log"):
            await self.ask(f"{domain}.enable")
        await self.ask("Page.navigate", url=address)
        for _ in range(100):
            if await self.value("document.body.classList.contains('-first-byte')"):
                break
            await asyncio.sleep(0.2)
        await asyncio.sleep(1.0)

    async def visit(
        self,
        url: str,
        width: int = 1200,
        height: int = 900,
        theme: str = "light",
        scale: float = 1.0,
    ) -> None:
        """Open a page of plain HTML in a window of this size and theme; wait until it is loaded."""
        for domain in ("Network", "Page", "Runtime", "Log"):
            await self.ask(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": scale}
        await self.ask("Emulation.setDeviceMetricsOverride", **size, mobile=width < 500)
        features = [{"name": "prefers-color-scheme", "value": theme}]
        await self.ask("Emulation.setEmulatedMedia", features=features)
        await self.ask("Page.navigate", url="about:blank")
        await self.ask("Page.navigate", url=url)
        ready = "document.readyState === 'complete' && location.href !== 'about:blank'"
        for _ in range(600):
            if await self.value(ready):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{url} did not load in a minute")

    def requests_beyond(self, address: str) -> list[str]:
        """Addresses outside `address` that the page asked for."""
        own = (f"{address}/", f"{address.replace('http', 'ws', 1)}/", "data:")
        return [url for url in self.requested if not url.startswith(own)]

    async def value(self, expression: str) -> Any:
        result = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"].get("value")

    async def written_rows(self) -> list[bool]:
        """For each row of the terminal, whether anything is written in it, by its pixels."""
        found: list[bool] = await self.value(ROWS_WITH_INK)
        return found

    async def press(self, key: str, modifiers: int = 0) -> None:
        name, code, text = KEYS[key] if key in KEYS else (key, ord(key.upper()), key)
        given = {"key": name, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        if text and not modifiers:
            given["text"] = text
        await self.ask("Input.dispatchKeyEvent", type="keyDown", **given)
        given.pop("text", None)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", **given)

    async def press_until(self, key: str, holds: Callable[[], Any]) -> None:
        """Press a key until it has had its effect: a screen that is not there yet hears nothing."""
        for _ in range(5):
            await self.press(key)
            with contextlib.suppress(AssertionError):
                return await until(holds, 10.0)
        raise AssertionError(f"five times {key!r}, and it still does not hold")

    async def keep(self, name: str) -> None:
        """Keep a picture for a person to look at, in the folder OVERSIGHT_TEST_PICTURES."""
        if folder := os.environ.get("OVERSIGHT_TEST_PICTURES"):
            await asyncio.sleep(1.0)
            answer = await self.ask("Page.captureScreenshot", format="png")
            _write(Path(folder, name), base64.b64decode(answer["data"]))


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _start_chromium(folder: Path) -> subprocess.Popen[bytes]:
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--remote-debugging-port=0", f"--user-data-dir={folder}", "--window-size=1200,800"]
    command += ["--disable-background-networking", "--disable-dev-shm-usage", "about:blank"]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Browser]:
    """A headless Chromium of its own."""
    process = _start_chromium(folder)
    try:
        port_file = folder / "DevToolsActivePort"
        await until(lambda: port_file.exists() and "\n" in port_file.read_text())
        port = port_file.read_text().split("\n")[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                tabs = [tab for tab in await answer.json() if tab["type"] == "page"]
            at = tabs[0]["webSocketDebuggerUrl"]
            async with session.ws_connect(at, max_msg_size=0) as socket:
                yield Browser(socket)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
