"""A judge's process that is killed loses nothing that was done, and holds nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from oversight.judging.work import fold_ratings as fold
from oversight.store import Store
from oversight.types import RatingAct, Task

RATES_AND_HANGS = """
import asyncio, sys
from oversight.judging.desk import TaskDesk
from oversight.judging.settings import RatingSettings
from oversight.store import Store
from oversight.types import QuestionsAnswered, RationaleGiven, Task

async def go():
    store = Store.open(sys.argv[1])
    desk = TaskDesk(store, RatingSettings(judge="anna"), Task.PAIRS)
    item = desk.take_next()
    desk.open(item)
    item.acts.add(QuestionsAnswered(answers={"preferred": "left-1"}))
    item.acts.add(RationaleGiven(text="because", move="m"))
    await item.acts.flush()
    print(item.item.key, flush=True)
    number = 0
    while True:
        number += 1
        item.acts.add(QuestionsAnswered(answers={"preferred": f"right-{number % 3 + 1}"}))
        await asyncio.sleep(0.001)

asyncio.run(go())
"""


def test_a_killed_judge_goes_on_with_everything_and_others_are_not_kept_waiting(records):
    records.best_of()
    command = [sys.executable, "-c", RATES_AND_HANGS, records.store.url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    key = process.stdout.readline().strip()
    assert records.desk(Task.PAIRS, "bob").take_next() is None, "it is held"
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    events = records.store.rating_events(key, "anna")
    assert [event.number for event in events] == list(range(len(events))), "no gap, none twice"
    kinds = [event.kind for event in events[:3]]
    assert kinds == [RatingAct.OPENED, RatingAct.ANSWERED, RatingAct.RATIONALE]
    with Store.open(records.store.url) as again:
        item = records.desk(Task.PAIRS, store=again).take_next()
        assert item is not None
        assert item.acts.work == fold(events)
        assert item.acts.work.draft.rationale == "because"
    assert again is not None
    assert records.desk(Task.PAIRS, "bob").take_next() is not None
    assert records.store.check() == []
