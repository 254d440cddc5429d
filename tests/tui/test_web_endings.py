"""Messages that the page never sends end at most their own tab of `--web`."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest

from oversight.store import Store
from tests.tui.browser import Served, connected, serving, shown, until

pytestmark = pytest.mark.slow

GONE_S = 15.0
LIMIT_BYTES = 1 << 18
MIB = 2**20


@pytest.fixture
def serve(store: Store, tmp_path: Path) -> Iterator[Callable[..., Served]]:
    with ExitStack() as stack:

        def start(*more: str) -> Served:
            return stack.enter_context(serving(store, tmp_path, "judge", "--judge=anna", *more))

        yield start


async def answered(socket: aiohttp.ClientWebSocketResponse, word: str, seconds: float) -> None:
    """Wait until a ping with this word comes back, past whatever is drawn."""
    async with asyncio.timeout(seconds):
        await socket.send_json(["ping", word])
        while (message := await socket.receive()).type is not aiohttp.WSMsgType.TEXT:
            assert message.type is aiohttp.WSMsgType.BINARY, message
    assert message.json() == ["pong", word]


def said_at_the_end(served: Served) -> str:
    served.process.send_signal(signal.SIGINT)
    assert served.process.stdout is not None
    return served.process.stdout.read()


async def test_binary_frames_are_ignored_and_the_screen_goes_on(store, serve) -> None:
    served = serve()
    async with connected(served) as socket:
        await shown(socket, b"You are")
        for frame in (b"", b"\x00", b"\xff\xfe", b'["stdin", "\\u0011"]', bytes(100_000)):
            await socket.send_bytes(frame)
        await answered(socket, "still there", 30)
        assert len(served.children()) == 1
        await socket.send_json(["stdin", "\x11"])  # Ctrl+Q
        await until(lambda: served.children() == [], GONE_S)
    assert "Traceback" not in said_at_the_end(served)


async def test_a_message_of_nearly_the_greatest_size_is_taken(store, serve) -> None:
    served = serve()
    async with connected(served) as socket:
        await shown(socket, b"You are")
        [child] = served.children()
        text = json.dumps(["blur", "x" * (LIMIT_BYTES - 100)])
        await socket.send_str(text)
        await answered(socket, "taken", 30)
        assert child.is_running()
    await until(lambda: served.children() == [], GONE_S)


@pytest.mark.parametrize("kind", ["text", "bytes"])
async def test_a_message_past_the_greatest_size_closes_its_tab_alone(store, serve, kind) -> None:
    served = serve()
    async with connected(served) as other:
        await shown(other, b"You are")
        async with connected(served) as socket:
            await shown(socket, b"You are")
            assert len(served.children()) == 2
            if kind == "text":
                await socket.send_str("x" * (LIMIT_BYTES + 1))
            else:
                await socket.send_bytes(bytes(LIMIT_BYTES + 1))
            async with asyncio.timeout(GONE_S):
                while (await socket.receive()).type is aiohttp.WSMsgType.BINARY:
                    pass
            assert socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
            await until(lambda: len(served.children()) == 1, GONE_S)
        await answered(other, "still there", 30)
    assert "Traceback" not in said_at_the_end(served)


async def test_a_flood_of_input_takes_no_memory_and_other_tabs_are_answered(store, serve) -> None:
    served = serve()
    async with connected(served) as other:
        await shown(other, b"You are")
        async with connected(served) as socket:
            await shown(socket, b"You are")
            flood = json.dumps(["stdin", "j" * 2_000])

            async def send() -> None:
                for _ in range(2_000):
                    await socket.send_str(flood)

            sending = asyncio.create_task(send())
            for number in range(5):
                await answered(other, f"{number}", 20)
                await asyncio.sleep(1.0)
            for child in served.children():
                assert child.memory_info().rss < 400 * MIB
            sending.cancel()
        await until(lambda: len(served.children()) == 1, GONE_S)
    assert "Traceback" not in said_at_the_end(served)
