"""SIGKILL at random moments of a judge's work: what was confirmed is there, and nothing twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from oversight.judging.work import fold
from oversight.types import EventKind

NUM_KILLS = 12
NUM_ITEMS = 6

# Imports everything once and forks a judge for each line it reads. A judge takes up items, acts,
# sends, and reopens; what was confirmed to it, it reports in a file.
PROGRAM = """
import asyncio, json, os, random, signal, sys
import alembic.command
from oversight.judging.desk import Desk
from oversight.judging.settings import JudgingSettings
from oversight.store import Store
from oversight.types import (
    AttentionPaid, BeliefGiven, ChangeUndone, ItemClosed, ItemReopened, QuoteLeanedOn,
    RationaleGiven, VerdictChosen,
)

async def act(item, dice):
    for _ in range(dice.randint(1, 9)):
        kind = dice.choice(["belief", "rationale", "undone", "leaned", "attention"])
        if kind == "belief":
            p = dice.randint(1, 99) / 100
            item.acts.add(BeliefGiven(step=0, probs=[p, round(1 - p, 2)]))
        elif kind == "rationale":
            item.acts.add(RationaleGiven(text=f"{dice.random()}"))
        elif kind == "leaned":
            turn = item.turns()[0].id
            item.acts.add(QuoteLeanedOn(turn=turn, quote=0, on=dice.random() < 0.5))
        elif kind == "attention":
            item.acts.add(AttentionPaid(panels={"transcript": 1.0}))
        else:
            item.acts.add(ChangeUndone())
        if dice.random() < 0.3:
            await asyncio.sleep(0)

async def main(url, seed, report):
    def tell(*what):
        os.write(report, json.dumps(what).encode() + b"\\n")
    dice = random.Random(seed)
    desk = Desk(Store.open(url), JudgingSettings(judge="anna", seed=1))
    items = [each.debate_id for each in desk.queue()]
    while True:
        item, _ = desk.take(dice.choice(items))
        if item is None:
            continue
        desk.open(item)
        if not item.acts.work.is_open:
            item.acts.add(ItemReopened())
        debate_id = item.transcript.debate.id
        for _ in range(dice.randint(1, 4)):
            await act(item, dice)
            if dice.random() < 0.5:
                last = item.acts.add(ItemClosed())
                await item.acts.flush()
                tell("written", debate_id, item.acts.session, last.number)
        item.acts.add(BeliefGiven(step=0, probs=[0.7, 0.3]))
        item.acts.add(VerdictChosen(verdict=dice.choice(["decided", "tie"])))
        if dice.random() < 0.6:
            judgment = await desk.send(item)
            tell("sent", debate_id, judgment.revision)
        await desk.close(item)

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
for line in sys.stdin:
    url, seed, path = json.loads(line)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        asyncio.run(main(url, seed, os.open(path, os.O_WRONLY | os.O_CREAT)))
    print(pid, flush=True)
"""


class Judges:
    """Starts judges, to be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def start(self, url: Path, seed: int) -> int:
        path = self.folder / f"report {seed}"
        self.process.stdin.write(json.dumps([str(url), seed, str(path)]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def reported(self) -> list[list[Any]]:
        lines = [
            line
            for path in sorted(self.folder.glob("report *"))
            for line in path.read_text().split("\n")[:-1]
        ]
        return [json.loads(line) for line in lines]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def judges(tmp_path: Path) -> Any:
    started = Judges(tmp_path)
    yield started
    started.end()


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.001)


def _start_and_kill(judges: Judges, store: Path) -> None:
    moments = random.Random(time.time_ns())
    for seed in range(NUM_KILLS):
        pid = judges.start(store, seed)
        time.sleep(moments.uniform(0.05, 0.5))
        _kill(pid)


async def test_a_judge_who_is_killed_at_random_moments_loses_nothing(
    workshop: Any, judges: Judges, tmp_path: Path
) -> None:
    for number in range(NUM_ITEMS):
        await workshop.record("debate", question=workshop.question(number))
    store = workshop.store
    _start_and_kill(judges, tmp_path / "store.db")
    reported = judges.reported()
    assert len(reported) > NUM_KILLS
    assert store.check() == []

    events = store.events("anna")
    places = [(event.debate_id, event.session, event.number) for event in events]
    assert len(places) == len(set(places))
    assert {(d, s, n) for what, d, s, *rest in reported for n in rest if what == "written"} <= set(
        places
    )
    # Of each session there is a beginning: what came before a stored act is stored as well.
    numbers = defaultdict(list)
    for debate_id, session, number in places:
        numbers[debate_id, session].append(number)
    assert all(found == list(range(len(found))) for found in numbers.values())

    sent = {(d, revision) for what, d, revision, *_ in reported if what == "sent"}
    judged = [
        (transcript.debate.id, judgment.revision)
        for transcript in store.transcripts()
        for judgment in transcript.judgments
        if judgment.judge == "anna"
    ]
    assert sent <= set(judged)
    assert len(judged) == len(set(judged))
    for debate_id in store.debate_ids():
        work = fold(store.events("anna", debate_id))
        revisions = sorted(revision for d, revision in judged if d == debate_id)
        assert revisions == list(range(work.num_sent))
        noted = store.events("anna", debate_id, [EventKind.SENT])
        assert [event.data["revision"] for event in noted] == revisions
        assert work.active_s.get("transcript", 0.0) == len(
            store.events("anna", debate_id, [EventKind.ATTENTION])
        )
        # Whoever goes on finds the item free, and the work as it was.
        item, _ = workshop.desk(seed=1).take(debate_id)
        assert item.acts.work == work
