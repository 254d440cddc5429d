"""Many judges at one store: each item judged once, and no act of anybody lost.

Judges are processes of their own that go through `Desk`, as the screens do: take the next item,
open it, note beliefs, a rationale and attention, send, leave. All start at once, and one after
the other all but the last are killed, wherever they are, and started again. What each was told is
written is counted against the store.

    python benchmarks/judging_queue.py

Bars: 20 judges on PostgreSQL and 5 on SQLite, 500 items: no item judged twice or left out, no
event lost.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oversight.judging.desk import Desk
from oversight.judging.items import DebateItem
from oversight.judging.settings import JudgingSettings
from oversight.store import Store
from oversight.types import (
    AgentSpec,
    AttentionPaid,
    BeliefGiven,
    Debate,
    JudgeKind,
    Option,
    Orders,
    Outcome,
    OutcomeStatus,
    OversightProtocol,
    Question,
    RationaleGiven,
    Role,
    Seat,
    Slot,
    Source,
    Step,
    Turn,
    TurnsRevealed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

STORE_TESTS = Path(__file__).parents[1] / "tests" / "store" / "conftest.py"
NUM_EVENTS = 9
"""Of one item: opened, revealed, three beliefs, rationale, attention, sent, closed."""
THINK_S = 0.05
"""Longest pause after a belief: kills fall into them as well."""
KILL_AFTER_S = (0.5, 2.0)
"""From one kill to the next."""


@dataclass
class Outcomes:
    """The outcome of one run."""

    store: str
    judges: int
    items: int
    judgments: int
    duplicates: int
    left: int
    events: int
    lost: int
    kills: int
    seconds: float


def fill(url: str, num_items: int) -> None:
    """Add finished debates that nobody has judged."""
    source = Source(text="At nine Ada carried the lamp to the attic.")
    protocol = OversightProtocol(
        name="bench", graph="debate", opening=(Step(slots=(Slot(seat=Seat.A), Slot(seat=Seat.B))),)
    )
    with Store.open(url) as store:
        for number in range(num_items):
            question = Question(
                id=f"q{number}",
                dataset="bench",
                text="Where is the lamp?",
                options=(Option(text="attic"), Option(text="cellar")),
                correct=number % 2,
                source=source,
            )
            debate = Debate(
                question_id=question.id,
                question_fingerprint=question.fingerprint,
                protocol=protocol,
                agents={Role.JUDGE: AgentSpec(agent="lexical")},
                orders=Orders(options=(0, 1), defends=(0, 1), shown=(Seat.A, Seat.B)),
                seed=number,
            )
            turns = [
                Turn(
                    debate_id=debate.id,
                    step=0,
                    round=0,
                    seat=seat,
                    role=Role.DEBATER,
                    act="speak",
                    text="words " * 100,
                )
                for seat in (Seat.A, Seat.B)
            ]
            done = Outcome(debate_id=debate.id, status=OutcomeStatus.COMPLETE)
            store.add(question, debate, *turns, done)


async def judge(desk: Desk, item: DebateItem, dice: random.Random) -> None:
    """Judge an item as a person would; all of it is durable when this returns."""
    desk.open(item)
    item.acts.add(TurnsRevealed(step=0))
    for _ in range(3):
        percent = dice.randint(1, 49)
        probs = [percent / 100, 1 - percent / 100]
        item.acts.add(BeliefGiven(step=0, probs=probs))
        await asyncio.sleep(dice.uniform(0.0, THINK_S))
    item.acts.add(RationaleGiven(text="The quote."))
    item.acts.add(AttentionPaid(panels={"transcript": 3.0}))
    await desk.send(item)
    await desk.close(item)


async def work(url: str, name: str, seed: int, report: int) -> None:
    """Judge until nothing waits; report what was confirmed."""
    dice = random.Random(seed)
    with Store.open(url) as store:
        desk = Desk(store, JudgingSettings(judge=name))
        while True:
            item = desk.take_next()
            if item is None:
                # What others hold may come free again: a judge may be killed.
                if all(each.num_judges for each in desk.queue()):
                    return
                await asyncio.sleep(0.1)
                continue
            await judge(desk, item, dice)
            told = [item.transcript.debate.id, item.acts.session, NUM_EVENTS]
            os.write(report, json.dumps(told).encode() + b"\n")


def start(url: str, name: str, seed: int, path: Path, ready: Barrier | None) -> None:
    """A judge's process."""
    report = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if ready is not None:
        ready.wait()
    asyncio.run(work(url, name, seed, report))


def run(store: str, url: str, num_judges: int, num_items: int, folder: Path) -> Outcomes:
    """Fill a store, let the judges go, and count."""
    fill(url, num_items)
    fork = multiprocessing.get_context("fork")
    ready = fork.Barrier(num_judges + 1)
    dice = random.Random(time.time_ns())

    def begin(number: int, attempt: int, barrier: Barrier | None) -> Any:
        path = folder / f"{store} {number} {attempt}"
        arguments = (url, f"judge {number}", number + 1000 * attempt, path, barrier)
        process = fork.Process(target=start, args=arguments)
        process.start()
        return process

    processes = [begin(number, 0, ready) for number in range(num_judges)]
    ready.wait()
    began = time.perf_counter()
    kills = 0
    for number in range(num_judges - 1):
        time.sleep(dice.uniform(*KILL_AFTER_S))
        if processes[number].is_alive():
            os.kill(processes[number].pid, signal.SIGKILL)
            processes[number].join()
            processes.append(begin(number, 1, None))
            kills += 1
    for process in processes:
        process.join()
    seconds = time.perf_counter() - began
    assert [process.exitcode for process in processes].count(0) == num_judges
    return count(store, url, num_judges, num_items, folder, kills, seconds)


def count(
    store: str,
    url: str,
    num_judges: int,
    num_items: int,
    folder: Path,
    kills: int,
    seconds: float,
) -> Outcomes:
    """Compare the verdicts that judges were told were kept with those in the store."""
    told = [
        json.loads(line)
        for path in folder.glob(f"{store} *")
        for line in path.read_text().split("\n")[:-1]
    ]
    with Store.open(url) as opened:
        judged = Counter(
            transcript.debate.id
            for transcript in opened.transcripts()
            for judgment in transcript.judgments
            if judgment.kind is JudgeKind.HUMAN
        )
        stored = [
            (event.debate_id, event.session, event.number)
            for number in range(num_judges)
            for event in opened.events(f"judge {number}")
        ]
        assert opened.check() == []
    confirmed = {
        (debate_id, session, number)
        for debate_id, session, num_events in told
        for number in range(num_events)
    }
    assert len(stored) == len(set(stored))
    return Outcomes(
        store=store,
        judges=num_judges,
        items=num_items,
        judgments=sum(judged.values()),
        duplicates=sum(number - 1 for number in judged.values()),
        left=num_items - len(judged),
        events=len(stored),
        lost=len(confirmed - set(stored)),
        kills=kills,
        seconds=seconds,
    )


@contextmanager
def postgres() -> Iterator[Any | None]:
    """A server as the tests start it, or None where its programs are absent."""
    spec = importlib.util.spec_from_file_location("store_conftest", STORE_TESTS)
    assert spec is not None
    assert spec.loader is not None
    tests = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = tests
    spec.loader.exec_module(tests)
    if tests._program("initdb") is None or tests._program("pg_ctl") is None:
        yield None
        return
    user = tests._server_user()
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if user is not None:
        shutil.chown(folder, user)
    server = tests.PostgresServer(folder, user, itertools.count())
    options = ("-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C")
    try:
        server.run("initdb", "--no-sync", "-D", str(folder / "data"), *options)
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run on every store there is, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--judges-postgres", type=int, default=20)
    parser.add_argument("--judges-sqlite", type=int, default=5)
    arguments = parser.parse_args()
    rows = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = str(folder / "store.db")
        rows.append(run("SQLite", path, arguments.judges_sqlite, arguments.items, folder))
        server = stack.enter_context(postgres())
        if server is None:
            print("PostgreSQL: its programs are not on this machine")
        else:
            url = server.new_database()
            judges = arguments.judges_postgres
            rows.append(run("PostgreSQL", url, judges, arguments.items, folder))
    print(
        f"{'store':<12}{'judges':>8}{'killed':>8}{'items':>8}{'judgments':>11}{'duplicates':>12}"
        f"{'left out':>10}{'events':>9}{'lost':>6}{'seconds':>9}"
    )
    for row in rows:
        print(
            f"{row.store:<12}{row.judges:>8}{row.kills:>8}{row.items:>8}{row.judgments:>11}"
            f"{row.duplicates:>12}{row.left:>10}{row.events:>9}{row.lost:>6}{row.seconds:>9.1f}"
        )


if __name__ == "__main__":
    main()
