"""`oversight judge --web`: in a real browser, on loopback, without a shell, gone at the end."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest

from oversight.cli.main import run
from oversight.cli.persons import again
from oversight.errors import ConfigError
from oversight.store import Store
from oversight.tui.web import PAGE, check_exposure, listen
from oversight.types import Act, EventKind
from tests.tui.browser import CTRL, Served, chromium, connected, in_chromium, serving, shown, until


@pytest.fixture
def serve(store: Store, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start the server on the store."""
    with ExitStack() as stack:

        def start(*more: str, judge: str = "anna") -> Served:
            words = ("judge", f"--judge={judge}", *more)
            return stack.enter_context(serving(store, tmp_path, *words))

        yield start


@in_chromium
async def test_an_item_is_judged_by_keyboard_in_a_browser(store, run_all, serve, tmp_path) -> None:
    [debate] = await run_all("debate")
    served = serve()

    def kinds() -> list[EventKind]:
        return [event.kind for event in store.events("anna")]

    def belief() -> float | None:
        given = [e.data for e in store.events("anna") if e.kind is EventKind.BELIEF]
        return max(given[-1]["probs"]) if given else None

    async with chromium(tmp_path / "profile") as browser:
        await browser.open(served.address)
        await browser.keep("web_queue.png")
        await browser.press("Enter")
        await until(lambda: EventKind.REVEALED in kinds())
        for percent in (55, 60, 65, 70):
            await browser.press_until(
                "ArrowRight", lambda p=percent: belief() == pytest.approx(p / 100)
            )
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
        await browser.press_until("w", lambda: EventKind.RATIONALE in kinds())
        await browser.keep("web_verdict.png")
        await browser.press("s", CTRL)
        await until(lambda: EventKind.SENT in kinds())
        assert len(browser.requested) > 3
        assert browser.requests_beyond(served.address) == []
        assert browser.complaints == []
    [judgment] = [j for j in store.transcript(debate.id).judgments if j.judge == "anna"]
    assert judgment.rationale == "w"
    assert max(judgment.final.probs) == pytest.approx(0.7)


@in_chromium
@pytest.mark.parametrize("protocol", ["naive", "expert"])
async def test_an_item_without_turns_is_no_empty_screen_in_a_browser(
    run_all, serve, tmp_path, store, protocol
) -> None:
    await run_all(protocol)
    served = serve()
    async with chromium(tmp_path / "profile") as browser:
        await browser.open(served.address)
        await browser.press("Enter")
        await until(lambda: EventKind.OPENED in [e.kind for e in store.events("anna")])
        await asyncio.sleep(1.0)
        await browser.keep(f"web_{protocol}.png")
        rows = await browser.written_rows()
        assert browser.complaints == []
    # Below question and options, above belief, hint and keys.
    middle = rows[3:-4]
    assert sum(middle) >= 5, "heading, what there is to judge from, question, two options"


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


def test_without_a_terminal_there_is_a_way_in_that_is_named(store, tmp_path) -> None:
    words = [sys.executable, "-m", "oversight.cli.main", "judge", "--store", store.url]
    for task in (words, [*words[:3], "rate", "pairs", *words[4:]]):
        done = subprocess.run(
            task, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 2
        assert "--linear" in done.stderr


def test_every_flag_is_passed_on_in_one_word() -> None:
    flags = {"store": "-s", "judge": "--web", "dataset": None, "protocol": "p q"}
    flags |= {"stepped": False, "theme": "light"}
    words = again("judge", flags, ["a=1"], [Path("-study")])
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
