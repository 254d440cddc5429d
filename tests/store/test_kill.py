"""Processes killed at any moment lose nothing that they were told is written."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from oversight.store import Store

NUM_KILLS = 12

# Many debates at once append turns with prompts; each turn is reported on stdout only after
# `append` has returned. A later run begins where the one before was killed.
WRITE = """
import asyncio, sys
from oversight.store import Store
from oversight.types import *

store = Store.open(sys.argv[1])
run = int(sys.argv[2])
source = Source(text="It is under the stairs. " * 200)
options = (Option(text="a"), Option(text="b"))
question = Question(id="q", dataset="d", text="Where?", options=options, source=source)

async def debate(seed):
    made = Debate(
        question_id="q", question_fingerprint=question.fingerprint, seed=seed, agents={},
        protocol=OversightProtocol(name="debate", graph="debate"),
        orders=Orders(options=(0, 1), defends=(0, 1), shown=(Seat.A, Seat.B)),
    )
    await store.append(question, made)
    for step in range(10_000):
        parts = (source.text, f"run {run} seed {seed} step {step}")
        prompt = Prompt(messages=(Message(role="user", parts=parts),))
        sample = Sample(purpose="speech", engine="e", model="m", prompt_id=prompt.id, text="x",
                        token_ids=(1, 2), finish_reason="stop")
        turn = Turn(debate_id=made.id, step=step, round=0, seat="a", role="debater", act="speak",
                    text="word " * 100, samples=(sample,))
        await store.append(PromptRecord(prompt, tuple(range(seed, seed + 700))), turn)
        sys.stdout.write(turn.id + "\\n")
        sys.stdout.flush()

async def main():
    await asyncio.gather(*[debate(run * 100 + number) for number in range(20)])

sys.stdout.write("started\\n")
sys.stdout.flush()
asyncio.run(main())
"""


def _start(url: str, run: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", WRITE, url, str(run)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def _written_before_kill(child: subprocess.Popen[str], after_s: float) -> set[str]:
    """Ids of the turns that a process had reported when it was killed."""
    assert child.stdout.readline() == "started\n"
    time.sleep(after_s)
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read()
    child.wait()
    child.stdout.close()
    # The last line may be cut off.
    return {line for line in rest.split("\n")[:-1] if line}


def test_what_was_written_outlives_a_kill_at_a_random_moment(url):
    moments = random.Random(time.time_ns())
    reported: set[str] = set()
    for run in range(0, NUM_KILLS, 2):
        children = [_start(url, run), _start(url, run + 1)]
        for child in children:
            reported |= _written_before_kill(child, moments.uniform(0.0, 0.3))
    with Store.open(url) as store:
        assert store.check() == []
        turns = {turn.id for t in store.transcripts(complete=None) for turn in t.turns}
    assert len(reported) > NUM_KILLS
    assert reported <= turns
    # What was under way may have been written as well: one turn a debate at most.
    assert len(turns - reported) <= 20 * NUM_KILLS


def test_a_kill_while_the_store_is_being_created_leaves_one_that_opens(tmp_path: Path):
    program = "import sys; from oversight.store import Store; print('x', flush=True);"
    program += "import alembic.command; Store.open(sys.argv[1])"
    for number in range(3):
        path = tmp_path / f"{number}.db"
        child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
        child.stdout.read(1)
        deadline = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(number * 0.004)
        child.kill()
        child.wait()
        child.stdout.close()
        with Store.open(path) as store:
            assert store.check() == []
