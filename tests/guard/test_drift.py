"""Drift: noticed soon where it was planted, quiet where nothing changed, and told of."""

from __future__ import annotations

import asyncio
import json
import logging
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from typer.testing import CliRunner

pytest.importorskip("re2", reason="google-re2 is not installed")

from oversight.cli.main import app
from oversight.errors import ConfigError
from oversight.guard.drift import DriftEvidence, DriftSettings
from tests.guard.conftest import REFUSING, Running, Start, asked

PLANTED = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "guard_drift.py"))
KINDS, detector = PLANTED["KINDS"], PLANTED["detector"]


@pytest.mark.parametrize("name", KINDS)
def test_a_shift_of_a_tenth_is_noticed_within_2000_calls_and_nothing_before(name: str) -> None:
    kind, draw = KINDS[name]
    rng = np.random.default_rng(3)
    found = detector(kind, draw(rng, 5_000, 0.0))
    assert [found.add(each) for each in draw(rng, 10_000, 0.0) if found.add(each)] == []
    for number, each in enumerate(draw(rng, 2_000, 0.1), 1):
        if (alarm := found.add(each, f"call {number}")) is not None:
            break
    assert alarm is not None
    assert abs(alarm.recent - alarm.reference) > 0.02
    assert 1 <= len(alarm.examples) <= 5


@pytest.mark.slow
def test_alarms_are_as_rare_as_the_threshold_says_whatever_the_bets_are() -> None:
    rng = np.random.default_rng(0)
    threshold, calls, alarms = 200.0, 60_000, 0
    evidence = DriftEvidence(2)
    for payoff in rng.choice([-0.5, 0.5], calls):
        if evidence.add(np.array([payoff, -payoff])) >= threshold:
            alarms += 1
            evidence.clear()
    # A false alarm in 200 calls at most, on average: here the bound is 300.
    assert 0 < alarms <= calls / threshold


def test_the_examples_of_an_alarm_are_those_that_moved_it() -> None:
    kind, draw = KINDS["refusals, 2 % and 100 % in the shift"]
    rng = np.random.default_rng(1)
    found = detector(kind, draw(rng, 2_000, 0.0))
    for number, each in enumerate([0.0, 0.0, 0.0, 1.0] * 500):
        if alarm := found.add(each, str(number)):
            break
    assert alarm is not None
    assert all(int(name) % 4 == 3 for name in alarm.examples)
    assert alarm.what == "more often"


async def test_a_guard_tells_of_drift_in_its_log_its_metrics_and_by_webhook(
    guarded: Start, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[dict[str, Any]] = []

    async def hear(request: Request) -> Response:
        told.append(json.loads(await request.body()))
        return JSONResponse({})

    async with Running(Starlette(routes=[Route("/", hear, methods=["POST"])])) as hearing:
        drift = {"reference": 200, "calls_per_false_alarm": 100.0, "webhook": f"{hearing.url}/"}
        guard = await guarded(REFUSING, drift=drift)
        body = asked("Hello?")
        for _ in range(200):
            await guard.server.guard.whole("chat/completions", body)
        with caplog.at_level(logging.WARNING):
            for _ in range(200):
                await guard.server.guard.whole("chat/completions", asked("Something forbidden"))
                if guard.server.meters.text().count(b"guard_drift_alarms_total{"):
                    break
        for _ in range(200):
            if told:
                break
            await asyncio.sleep(0.05)
        for close in guard.server._closing:
            await close()
    assert {each["stream"] for each in told} >= {"refusals"}
    alarm = next(each for each in told if each["stream"] == "refusals")
    assert alarm["event"] == "drift"
    refused = {call.id for call in guard.calls if call.outcome.value == "refused"}
    assert refused.issuperset(alarm["examples"][:1])
    assert "refusals has drifted (more often)" in caplog.text


@pytest.mark.slow
async def test_calls_of_a_store_are_looked_through_and_the_exit_code_tells(
    guarded: Start, tmp_path: Path
) -> None:
    path = tmp_path / "calls.db"
    guard = await guarded(REFUSING, store=str(path), sample=1.0)
    for number in range(420):
        words = "Something forbidden?" if number >= 300 else "Hello?"
        await guard.server.guard.whole("chat/completions", asked(words))
        if number == 300:  # the order of writing is that of the calls
            await asyncio.sleep(0.5)
    await guard.server._closing[0]()
    command = ["guard", "drift", "--store", str(path), "--reference"]
    quiet = CliRunner().invoke(app, [*command, "1000"])
    assert (quiet.exit_code, quiet.output) == (
        0,
        "420 calls: they are all reference; give fewer by --reference\n",
    )
    loud = CliRunner().invoke(app, [*command, "250", "--json"])
    assert loud.exit_code == 1, loud.output
    assert "refusals" in {json.loads(line)["stream"] for line in loud.output.splitlines()}


def test_alarms_go_to_this_machine_alone() -> None:
    with pytest.raises(ConfigError, match="give an address of this machine"):
        DriftSettings.parse({"webhook": "http://example.org/"})
    with pytest.raises(ConfigError, match="give an address of this machine"):
        DriftSettings.parse({"webhook": "http://127.0.0.1.example.org/"})
    assert DriftSettings.parse({"webhook": "http://[::1]:9/x"}).webhook
