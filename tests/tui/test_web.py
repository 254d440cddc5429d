"""`oversight judge --web`: in a real browser, on loopback, without a shell, gone at the end."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from oversight.cli.judge import again
from oversight.cli.main import run
from oversight.errors import ConfigError
from oversight.store import Store
from oversight.tui.web import PAGE, check_exposure, listen
from oversight.types import Act, EventKind

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
KEYS = {"Enter": ("Enter", 13, "\r"), "ArrowRight": ("ArrowRight", 39, "")}
CTRL = 2


class Served:
    """A running `oversight judge --web`."""

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


@pytest.fixture
def serve(store: Store, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start the server on the store, on a free port."""
    started: list[subprocess.Popen[str]] = []

    def start(*more: str, judge: str = "anna") -> Served:
        path = store.url.removeprefix("sqlite:///")
        command = [sys.executable, "-m", "oversight.cli.main", "judge", "--web", "--port=0"]
        process = subprocess.Popen(
            [*command, f"--store={path}", f"--judge={judge}", *more],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Judging at http://127.0.0.1:"), line + process.stdout.read()
        return Served(process, line.split()[2])

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


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


async def until(holds: Callable[[], Any], seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"after {seconds} s it still does not hold"
        await asyncio.sleep(0.1)


async def shown(socket: aiohttp.ClientWebSocketResponse, word: bytes) -> bytes:
    """What came until `word` was in it."""
    seen = b""
    async with asyncio.timeout(40):
        while word not in seen:
            message = await socket.receive()
            assert message.type is aiohttp.WSMsgType.BINARY, (message, seen[-500:])
            seen += message.data
    return seen


# --- a browser -------------------------------------------------------------------------


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

    async def value(self, expression: str) -> Any:
        result = await self.ask("Runtime.evaluate", expression=expression)
        return result["result"].get("value")

    async def press(self, key: str, modifiers: int = 0) -> None:
        name, code, text = KEYS[key] if key in KEYS else (key, ord(key.upper()), key)
        given = {"key": name, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        if text and not modifiers:
            given["text"] = text
        await self.ask("Input.dispatchKeyEvent", type="keyDown", **given)
        given.pop("text", None)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", **given)

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


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the PATH")
async def test_an_item_is_judged_by_keyboard_in_a_browser(store, run_all, serve, tmp_path) -> None:
    [debate] = await run_all("debate")
    served = serve()

    def kinds() -> list[EventKind]:
        return [event.kind for event in store.events("anna")]

    async with chromium(tmp_path / "profile") as browser:
        await browser.open(served.address)
        for _ in range(100):
            if await browser.value("document.body.classList.contains('-first-byte')"):
                break
            await asyncio.sleep(0.2)
        await asyncio.sleep(1.0)
        await browser.keep("web_queue.png")
        await browser.press("Enter")
        await until(lambda: EventKind.REVEALED in kinds())
        for _ in range(4):
            await browser.press("ArrowRight")
        await until(lambda: EventKind.BELIEF in kinds())
        await browser.keep("web_debate.png")
        for _ in range(10):
            await browser.press("Enter")
            await asyncio.sleep(0.5)
            transcript = store.transcript(debate.id)
            last = max(turn.step for turn in transcript.spoken() if turn.act is Act.SPEAK)
            revealed = [e for e in store.events("anna") if e.kind is EventKind.REVEALED]
            if revealed[-1].data["step"] >= last:
                break
        await browser.press("v")
        await asyncio.sleep(1.0)
        await browser.press("w")
        await asyncio.sleep(0.5)
        await browser.keep("web_verdict.png")
        await browser.press("s", CTRL)
        await until(lambda: EventKind.SENT in kinds())
        own = [u for u in browser.requested if u.split("://")[1].startswith(served.address[7:])]
        assert len(own) > 3
        assert [u for u in browser.requested if u not in own and not u.startswith("data:")] == []
        assert browser.complaints == []
    [judgment] = [j for j in store.transcript(debate.id).judgments if j.judge == "anna"]
    assert judgment.rationale == "w"
    assert max(judgment.final.probs) == pytest.approx(0.7)


# --- who may reach it --------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "judging.example.org"])
def test_strangers_are_kept_out_unless_a_proxy_is_named(host: str) -> None:
    with pytest.raises(ConfigError, match=r"--host.*--public-url"):
        check_exposure(host, None)
    check_exposure(host, "https://judging.example.org")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_needs_no_proxy(host: str) -> None:
    check_exposure(host, None)


@pytest.mark.parametrize("url", ["judging.example.org", "ftp://a.example", "https://", ""])
def test_a_proxy_has_an_address_of_the_web(url: str) -> None:
    with pytest.raises(ConfigError, match="--public-url"):
        check_exposure("127.0.0.1", url)


def test_an_open_host_is_refused_in_one_line(store, capsys) -> None:
    path = store.url.removeprefix("sqlite:///")
    assert run(["judge", "--web", f"--store={path}", "--host=0.0.0.0"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "0.0.0.0" in said


def test_a_taken_port_is_said(store, capsys) -> None:
    path = store.url.removeprefix("sqlite:///")
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert run(["judge", "--web", f"--store={path}", f"--port={port}"]) == 2
    assert "--port 0 takes a free port" in capsys.readouterr().err


def test_two_ways_of_judging_at_once_are_refused(store, capsys) -> None:
    assert run(["judge", "--web", "--linear"]) == 2
    assert "choose one" in capsys.readouterr().err


def test_a_missing_store_is_said_before_anything_is_served(tmp_path, capsys) -> None:
    assert run(["judge", "--web", f"--store={tmp_path / 'none.db'}"]) != 0
    assert "none.db" in capsys.readouterr().err


def test_without_the_package_it_says_how_to_install_it(store, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "textual_serve.server", None)
    monkeypatch.delitem(sys.modules, "oversight.tui.web")
    path = store.url.removeprefix("sqlite:///")
    assert run(["judge", "--web", f"--store={path}"]) == 2
    assert "pip install 'oversight[web]'" in capsys.readouterr().err


def test_the_page_names_nothing_outside() -> None:
    assert not re.search(r"(https?:|wss?:|[\"'(])//", PAGE.read_text())


@pytest.mark.slow
async def test_pages_of_others_get_no_answer(store, serve) -> None:
    served = serve()
    code, page = served.get()
    assert code == 200
    assert f"ws://{served.address.removeprefix('http://')}/ws" in page
    assert served.get(Host="evil.example")[0] == 403
    assert served.get(Origin="http://evil.example")[0] == 403
    assert served.get("/static/js/textual.js")[0] == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with connected(served, Origin=origin):
                pass
        assert refused.value.status == 403
    assert served.children() == []


# --- the process behind a browser --------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "judge", ["a'b; touch pwned; $(touch pwned) `touch pwned` \"|&>pwned", "-x"]
)
async def test_a_name_is_a_name_and_no_command(store, serve, tmp_path, judge) -> None:
    served = serve(judge=judge)
    async with connected(served) as socket:
        seen = await shown(socket, judge[:3].encode())
        assert b"You are" in seen
    assert not (tmp_path / "pwned").exists()


@pytest.mark.slow
async def test_the_same_settings_reach_the_browser(store, run_all, serve, tmp_path) -> None:
    study = tmp_path / "a study; touch pwned.toml"
    study.write_text('name = "the pilot"\n')
    served = serve("--dataset=$(touch pwned)", "--set=seed=3", str(study))
    async with connected(served) as socket:
        await shown(socket, b"pilot")
    assert not (tmp_path / "pwned").exists()


def test_every_flag_is_passed_on_in_one_word() -> None:
    flags = {"store": "-s", "judge": "--web", "dataset": None, "protocol": "p q"}
    words = again(Path("-study"), flags | {"stepped": False, "theme": "light"}, ["a=1"])
    assert words[4:] == [
        *("--store=-s", "--judge=--web", "--protocol=p q", "--whole", "--light", "--set=a=1"),
        *("--", "-study"),
    ]


@pytest.mark.slow
async def test_the_process_leaves_with_its_browser(store, serve) -> None:
    served = serve()
    async with connected(served) as socket:
        await shown(socket, b"You are")
        assert len(served.children()) == 1
    await until(lambda: served.children() == [])


@pytest.mark.slow
async def test_a_browser_is_told_when_the_judge_leaves(store, serve) -> None:
    served = serve()
    async with connected(served) as socket:
        await shown(socket, b"You are")
        await socket.send_json(["stdin", "\x11"])  # Ctrl+Q
        async with asyncio.timeout(30):
            while (await socket.receive()).type is aiohttp.WSMsgType.BINARY:
                pass
    await until(lambda: served.children() == [])


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
async def test_nothing_is_left_when_it_ends(store, run_all, serve, end) -> None:
    await run_all("debate")
    served = serve()
    async with connected(served) as socket:
        await shown(socket, b"brass lamp")
        await socket.send_json(["stdin", "\r"])
        await until(lambda: EventKind.OPENED in [e.kind for e in store.events("anna")])
        children = served.children()
        assert len(children) == 1
        served.process.send_signal(end)
        await until(lambda: served.process.poll() is not None, 15)
        await until(lambda: not any(child.is_running() for child in children), 15)
    assert served.process.returncode == (-signal.SIGKILL if end is signal.SIGKILL else 0)
