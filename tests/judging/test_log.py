"""Acts are written one by one as they happen, and wait out trouble of the store."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from oversight.errors import StoreError
from oversight.judging import log as logs
from oversight.judging.log import JudgingLog
from oversight.types import JudgmentSent, RationaleGiven


def _break(store: Any, *, mend: bool = False) -> None:
    """Take the table of events away, or bring it back: writing to it fails in between."""
    names = ("away", "events") if mend else ("events", "away")
    with store._database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE {} RENAME TO {}".format(*names))


async def test_an_act_changes_the_work_at_once_and_is_in_the_store_soon(workshop: Any) -> None:
    debate = await workshop.record()
    log = JudgingLog(workshop.store, debate.id, "anna")
    for number in range(50):
        log.add(RationaleGiven(text=f"draft {number}"))
    assert log.work.draft.rationale == "draft 49"
    await log.flush()
    found = workshop.store.events("anna", debate.id)
    assert [event.data["text"] for event in found] == [f"draft {number}" for number in range(50)]
    assert [event.number for event in found] == list(range(50))
    assert JudgingLog(workshop.store, debate.id, "anna").work == log.work


async def test_a_write_that_fails_is_tried_again_and_said(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "RETRY_S", 0.05)
    debate = await workshop.record()
    log = JudgingLog(workshop.store, debate.id, "anna")
    told: list[str | None] = []
    trouble = asyncio.Event()
    log.on_trouble = lambda message: (told.append(message), trouble.set())
    log.add(RationaleGiven(text="before"))
    await log.flush()
    _break(workshop.store)
    log.add(RationaleGiven(text="meanwhile"))
    log.add(RationaleGiven(text="and on"))
    await trouble.wait()
    assert log.work.draft.rationale == "and on"
    with pytest.raises(StoreError):
        workshop.store.events("anna")
    _break(workshop.store, mend=True)
    await log.flush()
    assert "events" in (told[0] or "")
    assert told[-1] is None
    found = [event.data["text"] for event in workshop.store.events("anna", debate.id)]
    assert found == ["before", "meanwhile", "and on"]


async def test_what_must_be_durable_and_cannot_be_written_has_not_happened(workshop: Any) -> None:
    debate = await workshop.record()
    log = JudgingLog(workshop.store, debate.id, "anna")
    _break(workshop.store)
    with pytest.raises(StoreError):
        await log.write(JudgmentSent(revision=0))
    assert log.work.num_sent == 0
    _break(workshop.store, mend=True)
    await log.write(JudgmentSent(revision=0))
    assert log.work.num_sent == 1
    assert len(workshop.store.events("anna", debate.id)) == 1


async def test_what_waits_for_acts_that_cannot_be_written_is_told_and_not_kept_waiting(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "RETRY_S", 0.05)
    debate = await workshop.record()
    log = JudgingLog(workshop.store, debate.id, "anna")
    _break(workshop.store)
    log.add(RationaleGiven(text="meanwhile"))
    async with asyncio.timeout(60.0):
        with pytest.raises(StoreError, match="events"):
            await log.write(JudgmentSent(revision=0))
    assert (log.num_waiting, log.work.num_sent) == (1, 0)
    _break(workshop.store, mend=True)
    await log.flush()
    await log.write(JudgmentSent(revision=0))
    found = [event.kind.value for event in workshop.store.events("anna", debate.id)]
    assert found == ["rationale", "sent"]


async def test_a_window_takes_in_what_another_has_written(workshop: Any) -> None:
    debate = await workshop.record()
    here, there = (JudgingLog(workshop.store, debate.id, "anna") for _ in range(2))
    there.add(RationaleGiven(text="from there"))
    await there.flush()
    assert here.work.draft.rationale == ""
    assert here.refresh()
    assert here.work == there.work
    assert not here.refresh()
    assert here.session != there.session
