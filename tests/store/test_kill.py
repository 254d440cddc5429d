"""Processes killed at any moment lose nothing that they were told is written."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from oversight.store import Store

NUM_KILLS = 14
NUM_DEBATES = 20

# Imports everything once and then forks a process for each line it reads, as starting Python
# anew takes longer than all that is tested. A process opens the store, lets many debates append
# turns with prompts at once, and reports a turn in a file only after `append` has returned.
PROGRAM = """
import asyncio, os, random, signal, sys
import alembic.command
try:
    import psycopg
except ImportError:
    pass  # then only the tests on SQLite run
from oversight.store import Store
from oversight.types import *

source = Source(text="It is under the stairs. " * 200)
options = (Option(text="a"), Option(text="b"))
question = Question(id="q", dataset="d", text="Where?", options=options, source=source)

async def debate(store, seed, report):
    made = Debate(
        question_id="q", question_fingerprint=question.fingerprint, seed=seed, agents={},
        protocol=OversightProtocol(name="debate", graph="debate"),
        orders=Orders(options=(0, 1), defends=(0, 1), shown=(Seat.A, Seat.B)),
    )
    await store.append(question, made)
    for step in range(10_000):
        prompt = Prompt(messages=(Message(role="user", parts=(source.text, f"{seed} {step}")),))
        sample = Sample(purpose="speech", engine="e", model="m", prompt_id=prompt.id, text="x",
                        token_ids=(1, 2), finish_reason="stop")
        turn = Turn(debate_id=made.id, step=step, round=0, seat="a", role="debater", act="speak",
                    text="word " * 100, samples=(sample,))
        await store.append(PromptRecord(prompt, tuple(range(seed, seed + 700))), turn)
        os.write(report, turn.id.encode() + b"\\n")

async def main(url, run, report):
    store = Store.open(url)
    await asyncio.gather(*[debate(store, run * 100 + number, report) for number in range(20)])

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
for line in sys.stdin:
    url, run, path = line.split()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        asyncio.run(main(url, int(run), os.open(path, os.O_WRONLY | os.O_CREAT)))
    print(pid, flush=True)
"""


class Victims:
    """Starts processes that write, to be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def start(self, url: str, run: int) -> int:
        """The number of a new process."""
        self.process.stdin.write(f"{url} {run} {self.folder / str(run)}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def reported(self, run: int) -> set[str]:
        """Ids of the turns that it was told are written."""
        path = self.folder / str(run)
        # A last line without an end may be cut off.
        return set(path.read_text().split("\n")[:-1]) if path.exists() else set()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def victims(tmp_path: Path) -> Iterator[Victims]:
    started = Victims(tmp_path)
    yield started
    started.end()


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.001)


def test_what_was_written_outlives_a_kill_at_a_random_moment(url, victims):
    moments = random.Random(time.time_ns())
    for run in range(0, NUM_KILLS, 2):
        for pid in [victims.start(url, run), victims.start(url, run + 1)]:
            time.sleep(moments.uniform(0.0, 0.4))
            _kill(pid)
    reported = set().union(*[victims.reported(run) for run in range(NUM_KILLS)])
    with Store.open(url) as store:
        assert store.check() == []
        turns = {turn.id for t in store.transcripts(complete=None) for turn in t.turns}
    assert len(reported) > 100
    assert reported <= turns
    # Of what was under way, one turn a debate at most may have been written as well.
    assert len(turns - reported) <= NUM_DEBATES * NUM_KILLS


def test_a_kill_while_the_store_is_being_created_leaves_one_that_opens(tmp_path, victims):
    for run in range(NUM_KILLS):
        path = tmp_path / f"{run}.db"
        pid = victims.start(str(path), run)
        time.sleep(run * 0.004)
        _kill(pid)
        with Store.open(path) as store:
            assert store.check() == []
            turns = {turn.id for t in store.transcripts(complete=None) for turn in t.turns}
            assert victims.reported(run) <= turns
