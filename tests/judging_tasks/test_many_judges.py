"""Many people at one store, each in a process of their own: every item is rated once."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

RATES_ALL = """
import asyncio, sys
from oversight.judging.desk import TaskDesk
from oversight.judging.settings import RatingSettings
from oversight.store import Store
from oversight.types import QuestionsAnswered, Task

async def go(url, judge, overlap):
    with Store.open(url) as store:
        desk = TaskDesk(store, RatingSettings(judge=judge, overlap=overlap), Task.PAIRS)
        while (item := desk.take_next()) is not None:
            desk.open(item)
            item.acts.add(QuestionsAnswered(answers={"preferred": "tie"}))
            await desk.send(item)
            await desk.close(item)

asyncio.run(go(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.mark.parametrize("overlap", [1, 2])
def test_every_item_is_rated_as_often_as_asked_for_and_no_event_is_lost(records, overlap):
    num_items, judges = 24, ("anna", "bob", "cy")
    for _ in range(num_items):
        records.best_of("one", "other")
    processes = [
        subprocess.Popen([sys.executable, "-c", RATES_ALL, records.store.url, name, str(overlap)])
        for name in judges
    ]
    assert [process.wait(timeout=100) for process in processes] == [0, 0, 0]
    ratings = records.ratings()
    assert set(Counter(r.item for r in ratings).values()) == {overlap}
    assert len({(r.item, r.judge) for r in ratings}) == num_items * overlap
    # A judge may also have opened an item that others had rated enough: four acts of each sent one.
    assert records.store.counts()["rating_events"] == 4 * len(ratings)
    assert records.store.check() == []
