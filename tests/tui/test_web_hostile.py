"""`--web` under attack: hung applications, absurd sizes, broken messages, too many tabs."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import psutil
import pytest

from oversight.store import Store
from oversight.tui.web_process import HEIGHTS, WIDTHS, size_within
from tests.tui.browser import Served, chromium, connected, in_chromium, serving, shown, until

GONE_S = 15.0
"""By when a hung application has to be gone."""
MIB = 2**20


@pytest.fixture
def serve(store: Store, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Start the server on the store."""
    with ExitStack() as stack:

        def start(*more: str) -> Served:
            return stack.enter_context(serving(store, tmp_path, "judge", "--judge=anna", *more))

        yield start


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


# --- sizes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ((100, 30), (100, 30)),
        ((10**9, 10**400), (WIDTHS[1], HEIGHTS[1])),
        ((0, -5), (WIDTHS[0], HEIGHTS[0])),
        ((80.9, 24.0), (80, 24)),
        ((float("inf"), 24), None),
        ((80, float("nan")), None),
        (("80", 24), None),
        ((None, 24), None),
        ((True, 24), None),
        (([80], {}), None),
    ],
)
def test_a_size_is_the_nearest_possible_one_or_none(given, taken) -> None:
    assert size_within(*given) == taken


SIZES = [
    {"width": 80, "height": 10**9},
    {"width": 10**9, "height": 24},
    {"width": 10**300, "height": 10**300},
    {"width": -80, "height": -(10**9)},
    {"width": 0, "height": 0},
    {"width": 80.5, "height": 1e300},
    {"width": "80", "height": None},
    {"width": [80], "height": {}},
    {"width": 80},
    {},
]
BROKEN = [
    *("", "x", "[", "null", "3", '"stdin"', "{}", "[]", "[[]]", '["resize"]', '["stdin"]'),
    *('["stdin", 3]', '["stdin", null]', '["stdin", "\\ud800"]', '["ping"]', '["ping", {}]'),
    *('["resize", 3]', '["resize", [1, 2]]', '["resize", {"width": NaN, "height": 1e999}]'),
    *('["quit"]', '["deliver_chunk_request", {}]', '{"resize": 1}', "[" * 20_000, "9" * 5_000),
]


@pytest.mark.slow
async def test_no_message_takes_memory_or_ends_the_screen(store, serve) -> None:
    served = serve()
    async with connected(served) as socket:
        await shown(socket, b"You are")
        [child] = served.children()
        for text in [json.dumps(["resize", size]) for size in SIZES] + BROKEN:
            await socket.send_str(text)
        await socket.send_json(["stdin", "\x1b[48;1000000000;1000000000;0;0t"])
        await socket.send_json(["resize", {"width": 120, "height": 40}])
        await socket.send_json(["ping", "still there"])
        async with asyncio.timeout(30):
            while (message := await socket.receive()).type is not aiohttp.WSMsgType.TEXT:
                assert message.type is aiohttp.WSMsgType.BINARY
        assert message.json() == ["pong", "still there"]
        await asyncio.sleep(2.0)
        assert child.memory_info().rss < 400 * MIB
        await socket.send_json(["stdin", "\x11"])  # Ctrl+Q: it still listens
        await until(lambda: served.children() == [], GONE_S)
    served.process.send_signal(signal.SIGINT)
    assert served.process.stdout is not None
    assert "Traceback" not in served.process.stdout.read()


@pytest.mark.slow
async def test_no_size_in_the_address_takes_memory(store, serve) -> None:
    served = serve()
    for size in ("999999999&height=999999999", "-1&height=0", "x&height=", f"{'9' * 5000}"):
        headers = {"Origin": served.address}
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{served.address}/ws?width={size}", headers=headers) as socket,
        ):
            await shown(socket, b"\x1b[?1049h")
            [child] = served.children()
            for _ in range(20):
                await asyncio.sleep(0.1)
                assert child.memory_info().rss < 400 * MIB
        await until(lambda: served.children() == [], GONE_S)


@pytest.mark.slow
async def test_a_storm_of_sizes_leaves_the_last_one(store, serve) -> None:
    served = serve()
    async with connected(served) as socket:
        await shown(socket, b"You are")
        [child] = served.children()
        before = child.cpu_times().user
        for number in range(3000):
            await socket.send_json(["resize", {"width": 80 + number % 50, "height": 24}])
        await socket.send_json(["resize", {"width": 133, "height": 24}])
        await shown(socket, b"\x1b[24;1H")  # it draws on
        await asyncio.sleep(3.0)
        assert child.cpu_times().user - before < 8.0


# --- hung applications -------------------------------------------------------------------


async def test_a_stopped_application_goes_with_its_tab(store, serve) -> None:
    served = serve()
    async with connected(served) as socket:
        await shown(socket, b"You are")
        [child] = served.children()
        child.suspend()
    await until(lambda: served.children() == [], GONE_S)
    assert not alive([child])
    async with connected(served) as socket:
        await shown(socket, b"You are")


@pytest.mark.slow
async def test_a_stopped_application_that_is_written_to_goes_with_its_tab(store, serve) -> None:
    served = serve()
    async with connected(served) as socket:
        await shown(socket, b"You are")
        [child] = served.children()
        child.suspend()
        for _ in range(100):
            await socket.send_json(["stdin", "x" * 50_000])
        await asyncio.sleep(1.0)
        assert psutil.Process(served.process.pid).memory_info().rss < 300 * MIB
    await until(lambda: served.children() == [], GONE_S)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
async def test_a_stopped_application_does_not_outlive_the_server(store, serve, end) -> None:
    served = serve()
    async with connected(served) as socket:
        await shown(socket, b"You are")
        children = served.children()
        children[0].suspend()
        served.process.send_signal(end)
        await until(lambda: served.process.poll() is not None, GONE_S)
        await until(lambda: not alive(children), GONE_S)


@pytest.mark.slow
async def test_a_stopped_application_goes_if_its_server_ends_while_its_tab_closes(
    store, serve
) -> None:
    served = serve()
    async with connected(served) as socket:
        await shown(socket, b"You are")
        children = served.children()
        children[0].suspend()
    await asyncio.sleep(0.5)
    served.process.send_signal(signal.SIGTERM)
    await until(lambda: served.process.poll() is not None, GONE_S)
    assert served.process.returncode == 0
    assert not alive(children)


@pytest.mark.slow
async def test_asked_twice_the_server_ends_at_once(store, serve) -> None:
    served = serve()
    async with connected(served) as socket:
        await shown(socket, b"You are")
        children = served.children()
        children[0].suspend()
        served.process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.5)
        served.process.send_signal(signal.SIGINT)
        await until(lambda: served.process.poll() is not None, 3.5)
    assert served.process.returncode == 0
    assert not alive(children)


@pytest.mark.slow
async def test_an_application_that_is_hung_before_it_has_begun_is_killed_with_the_server(
    store, serve
) -> None:
    served = serve()
    async with connected(served):
        await until(served.children)
        children = served.children()
        children[0].suspend()
        served.process.kill()
        await until(lambda: not alive(children), GONE_S)


# --- tabs --------------------------------------------------------------------------------


@pytest.mark.slow
async def test_there_are_no_more_tabs_than_are_allowed(store, serve) -> None:
    served = serve("--set=max_tabs=2")
    async with connected(served) as one, connected(served) as two:
        await shown(one, b"You are")
        await shown(two, b"You are")
        async with connected(served) as three:
            message = await three.receive(timeout=10)
            assert message.type is aiohttp.WSMsgType.CLOSE
            assert (message.data, "max_tabs" in message.extra) == (1013, True)
        assert len(served.children()) == 2
        await two.close()
        async with connected(served) as four:  # the place of one who is leaving
            await shown(four, b"You are")


@in_chromium
async def test_the_page_says_that_there_is_no_room(store, serve, tmp_path) -> None:
    served = serve("--set=max_tabs=1")
    async with connected(served) as socket:
        await shown(socket, b"You are")
        async with chromium(tmp_path / "profile") as browser:
            await browser.ask("Page.navigate", url=served.address)
            for _ in range(50):
                text = await browser.value("document.body.innerText")
                if "no room" in (text or ""):
                    break
                await asyncio.sleep(0.2)
            assert "max_tabs = 1" in text
            assert "You have left" not in text
            await browser.keep("web_full.png")
