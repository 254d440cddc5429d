"""A guard watched from a terminal: figures of late and of all time, on a screen and in lines."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import httpx
import pytest
from rich.console import Console

pytest.importorskip("re2", reason="google-re2 is not installed")

from oversight.cli.main import run
from oversight.errors import ConfigError
from oversight.guard.watching import (
    GuardFigures,
    GuardMonitor,
    MetricsReading,
    bars,
    plain_line,
    read_guard,
    screen,
)
from tests.guard.conftest import REFUSING, Running, Start, asked


async def reading_of(url: str) -> MetricsReading:
    def read() -> MetricsReading:
        with httpx.Client() as client:
            return read_guard(client, url)

    return await asyncio.to_thread(read)


def drawn(found: GuardFigures, height: int = 24, width: int = 80, problem: str = "") -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO())
    with console.capture() as caught:
        console.print(screen(found, "http://127.0.0.1:8080", height, problem))
    return caught.get().splitlines()


async def test_figures_are_of_the_last_stretch_and_of_all_time(guarded: Start) -> None:
    guard = await guarded(REFUSING)
    for _ in range(3):
        await guard.post(asked("Hello?"))
    watch = GuardMonitor()
    first = watch.take(await reading_of(guard.url))
    assert (first.over_s, first.total, first.outcomes["answered"]) == (0.0, 3, (0, 3))
    for _ in range(2):
        await guard.post(asked("Something forbidden?"))
    await guard.post(b"{not json")
    found = watch.take(await reading_of(guard.url))
    assert (found.num, found.total) == (3, 6)
    assert found.outcomes["refused"] == (2, 2)
    assert found.outcomes["answered"] == (0, 3)
    assert found.outcomes["failed"] == (1, 1)
    assert found.checks == {("bad", "refuse", "input"): (2, 2)}
    assert found.per_second == pytest.approx(3 / found.over_s)
    assert found.seconds[0] is not None
    assert 0 < found.seconds[0] < 5
    assert found.tokens == (0, 12)
    assert found.health["policy"] == "policy"
    assert json.loads(json.dumps(found.json()))["checks"][0]["check"] == "bad"
    line = plain_line(found)
    assert "refused 66.7 %" in line
    assert "failed 33.3 %" in line
    assert "2 findings" in line


def reading(at: float, came: float, **more: float) -> MetricsReading:
    samples: Any = {("guard_requests_total", ()): came}
    samples |= {("guard_requests_ended_total", (name,)): n for name, n in more.items()}
    return MetricsReading(at, samples, {})


def test_a_stretch_is_as_long_as_asked_and_a_restart_begins_anew() -> None:
    watch = GuardMonitor(window_s=10.0)
    for at in range(0, 40, 5):
        found = watch.take(reading(at, at * at, answered=at * at))
    assert found.over_s == 10.0
    assert found.per_second == (35**2 - 25**2) / 10
    assert len(found.rates) == 7
    found = watch.take(reading(45, 3, answered=3))
    assert (found.over_s, found.per_second, found.total, found.rates) == (0.0, 0.0, 3, [])


def test_quantiles_are_those_of_prometheus() -> None:
    buckets = {"0.1": 50.0, "0.5": 90.0, "1.0": 100.0, "+Inf": 100.0}
    samples: Any = {("guard_requests_total", ()): 100.0}
    samples |= {("guard_request_seconds_bucket", (le,)): n for le, n in buckets.items()}
    found = GuardMonitor().take(MetricsReading(0.0, samples, {}))
    assert found.seconds[0] == pytest.approx(0.1)
    assert found.seconds[1] == pytest.approx(0.5 + 0.5 * 9 / 10)


def busy(num_checks: int, num_alarms: int = 0) -> GuardFigures:
    found = GuardMonitor().take(reading(0.0, 12_345_678, answered=12_345_678))
    names = [f"a_check_with_a_very_long_name_that_goes_on_and_on_{n}" for n in range(num_checks)]
    more: dict[str, Any] = {
        "checks": {(name, "replace", "output"): (123_456, 12_345_678) for name in names},
        "alarms": {f"stream {n}\x1b[2J": (3, 1_234) for n in range(num_alarms)},
        "rates": [float(n) for n in range(40)],
        "cost": (123.456789, 98765.4321),
        "currency": "EUR",
        "health": {"policy": "p" * 60, "policy_hash": "f" * 16, "policy_version": "\x1b[31m"},
    }
    return replace(found, **more)


@pytest.mark.parametrize("num_checks", [0, 1, 5, 40])
@pytest.mark.parametrize("num_alarms", [0, 1, 5])
@pytest.mark.parametrize("problem", ["", "it does not answer " * 4])
def test_the_screen_fits_a_small_terminal_and_hides_what_is_hostile(
    num_checks: int, num_alarms: int, problem: str
) -> None:
    lines = drawn(busy(num_checks, num_alarms), problem=problem)
    text = "\n".join(lines)
    assert len(lines) <= 24, text
    assert "\x1b[2J" not in text
    assert "alarms" in text
    assert "cost" in text
    if num_checks == 40:
        assert "more" in text


def test_bars_are_as_high_as_their_rates() -> None:
    assert bars([0.0, 1.0, 2.0, 4.0, 8.0]) == "▁▂▃▅█"
    assert bars([0.0, 0.0]) == "▁▁"
    assert bars([]) == ""


async def test_an_address_without_a_guard_is_an_error_that_says_so(guarded: Start) -> None:
    guard = await guarded(REFUSING)
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:9.*does not answer"):
        await reading_of("http://127.0.0.1:9")
    async with Running(guard.upstream.app) as other:
        with pytest.raises(ConfigError, match="does not answer"):
            await reading_of(other.url)
    with pytest.raises(ConfigError, match="does not answer"):
        await reading_of("no address")


def test_the_command_ends_with_2_where_nobody_serves(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["guard", "monitor", "http://127.0.0.1:9/v1"]) == 2
    assert "oversight guard serve" in capsys.readouterr().err


WORDS = [sys.executable, "-m", "oversight.cli.main", "guard", "monitor", "--every", "0.2"]


async def test_lines_go_to_a_pipe_and_json_to_a_program(guarded: Start) -> None:
    guard = await guarded(REFUSING)
    await guard.post(asked("Something forbidden?"))

    def lines(*more: str) -> list[str]:
        done = subprocess.run(
            [*WORDS, f"{guard.url}/v1", *more], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    assert len(await asyncio.to_thread(lines, "--num", "2")) == 2
    [found] = await asyncio.to_thread(lines, "--num", "1", "--json")
    assert json.loads(found)["outcomes"]["refused"] == [0, 1]


async def test_a_screen_in_a_terminal_ends_on_ctrl_c_and_gives_the_terminal_back(
    guarded: Start,
) -> None:
    guard = await guarded(REFUSING)
    await guard.post(asked("Something forbidden?"))

    def watch() -> tuple[int, str]:
        ours, theirs = pty.openpty()
        env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        process = subprocess.Popen(
            [*WORDS, guard.url], stdin=theirs, stdout=theirs, stderr=theirs, env=env
        )
        os.close(theirs)
        said, until = b"", time.monotonic() + 60

        def more() -> bytes:
            if not select.select([ours], [], [], 0.2)[0]:
                return b""
            try:
                return os.read(ours, 1 << 16)
            except OSError:  # nobody has the other end any more
                return b""

        while b"requests/s" not in said and time.monotonic() < until:
            said += more()
        process.send_signal(signal.SIGINT)
        while process.poll() is None and time.monotonic() < until:
            said += more()
        while part := more():
            said += part
        os.close(ours)
        return process.wait(5), said.decode("utf-8", "replace")

    code, said = await asyncio.to_thread(watch)
    assert code == 0
    assert "bad" in said
    assert said.rindex("\x1b[?1049l") > said.rindex("\x1b[?1049h")
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")
    assert "Traceback" not in said
