"""A judge's desk: what comes next, sending, revising, and nothing counted twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from oversight.errors import StoreError
from oversight.judging.log import JudgingLog
from oversight.judging.tasks.debate import judgment_of
from oversight.store import Store
from oversight.store.claims import ClaimResult, ItemState
from oversight.types import Act, BeliefGiven, ChangeUndone, EventKind, ItemReopened, TurnsRevealed


async def _items(workshop: Any, number: int, protocol: str = "debate") -> list[str]:
    made = [await workshop.record(protocol, question=workshop.question(n)) for n in range(number)]
    return [debate.id for debate in made]


def _states(desk: Any) -> list[ItemState]:
    return [item.state for item in desk.queue()]


def _own(store: Any, debate_id: str) -> list[Any]:
    return [j for j in store.transcript(debate_id).judgments if j.judge == "anna"]


@pytest.fixture
def window(workshop: Any, tmp_path: Any) -> Iterator[Store]:
    """The same store, open in another window."""
    with Store.open(tmp_path / "store.db") as store:
        yield store


async def test_what_was_begun_comes_first_then_what_waits_and_nothing_that_was_put_off(
    workshop: Any,
) -> None:
    first, second, third = await _items(workshop, 3)
    desk = workshop.desk()
    await desk.skip(first)
    assert _states(desk) == [ItemState.SKIPPED, ItemState.WAITING, ItemState.WAITING]
    item, _ = desk.take(third)
    desk.open(item)
    await desk.close(item)
    assert desk.take_next().transcript.debate.id == third
    assert desk.take_next(after=third).transcript.debate.id == second
    await desk.skip(second)
    await desk.skip(third)
    assert desk.take_next() is None
    await desk.skip(first, on=False)
    assert desk.take_next().transcript.debate.id == first


async def test_an_item_that_another_judge_has_is_passed_over(workshop: Any, window: Any) -> None:
    first, second = await _items(workshop, 2)
    assert workshop.desk("bo", window).take_next().transcript.debate.id == first
    desk = workshop.desk()
    assert desk.take(first) == (None, ClaimResult.ENOUGH)
    assert desk.take_next().transcript.debate.id == second


async def test_opening_an_item_that_was_put_off_takes_it_back(workshop: Any) -> None:
    [debate_id] = await _items(workshop, 1)
    desk = workshop.desk()
    await desk.skip(debate_id)
    item, _ = desk.take(debate_id)
    desk.open(item)
    await desk.close(item)
    assert _states(desk) == [ItemState.BEGUN]


async def test_a_judgment_is_sent_and_revised_and_both_are_kept(workshop: Any) -> None:
    [debate_id] = await _items(workshop, 1)
    desk = workshop.desk(name="pilot")
    item, _ = desk.take(debate_id)
    desk.open(item)
    item.acts.add(BeliefGiven(step=0, probs=[0.3, 0.7]))
    sent = await desk.send(item)
    assert (sent.revision, sent.final.choice, sent.study) == (0, 1, "pilot")
    assert item.acts.work.num_sent == 1
    assert not item.acts.work.is_open
    await desk.close(item)
    assert _states(desk) == [ItemState.DONE]
    again, _ = desk.take(debate_id)
    desk.open(again)
    again.acts.add(ItemReopened())
    again.acts.add(BeliefGiven(step=0, probs=[0.8, 0.2]))
    again.acts.add(ChangeUndone())
    again.acts.add(BeliefGiven(step=0, probs=[0.9, 0.1]))
    revised = await desk.send(again)
    await desk.close(again)
    assert (revised.revision, revised.final.probs) == (1, (0.9, 0.1))
    assert _own(workshop.store, debate_id) == [sent, revised]
    assert workshop.store.check() == []


async def test_two_windows_that_send_the_same_revision_send_two(workshop: Any, window: Any) -> None:
    [debate_id] = await _items(workshop, 1)
    desk, other = workshop.desk(), workshop.desk(store=window)
    item, _ = desk.take(debate_id)
    desk.open(item)
    await item.acts.flush()
    workshop.store.leave_item(debate_id, "anna")  # as when a lease is over
    same, _ = other.take(debate_id)
    other.open(same)
    item.acts.add(BeliefGiven(step=0, probs=[0.3, 0.7]))
    same.acts.add(BeliefGiven(step=0, probs=[0.9, 0.1]))
    await asyncio.gather(desk.send(item), other.send(same))
    found = _own(workshop.store, debate_id)
    assert [judgment.revision for judgment in found] == [0, 1]
    work = JudgingLog(workshop.store, debate_id, "anna").work
    assert work.num_sent == 2
    assert workshop.store.queue("bo", overlap=2)[0].num_judges == 1
    assert workshop.store.check() == []


async def test_a_judgment_whose_note_a_kill_prevented_counts_once(workshop: Any) -> None:
    [debate_id] = await _items(workshop, 1)
    desk = workshop.desk()
    item, _ = desk.take(debate_id)
    desk.open(item)
    item.acts.add(BeliefGiven(step=0, probs=[0.3, 0.7]))
    await item.acts.flush()
    workshop.store.add(judgment_of(item.acts.work, item.transcript.debate, "anna"))
    desk.leave(item)  # killed here
    for _ in range(2):
        again, _ = desk.take(debate_id)
        desk.open(again)
        assert (again.acts.work.num_sent, again.acts.work.is_open) == (1, False)
        await desk.close(again)
    sent = workshop.store.events("anna", debate_id, [EventKind.SENT])
    assert [event.data for event in sent] == [{"revision": 0}]
    again, _ = desk.take(debate_id)
    again.acts.add(ItemReopened())
    assert (await desk.send(again)).revision == 1


async def test_a_judgment_that_cannot_be_written_is_not_sent(workshop: Any) -> None:
    [debate_id] = await _items(workshop, 1)
    desk = workshop.desk()
    item, _ = desk.take(debate_id)
    item.acts.add(BeliefGiven(step=0, probs=[0.3, 0.7]))
    await item.acts.flush()
    with workshop.store._database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE judgments RENAME TO away")
    with pytest.raises(StoreError):
        await desk.send(item)
    assert item.acts.work.is_open
    with workshop.store._database.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO judgments")
    assert (await desk.send(item)).revision == 0
    assert len(_own(workshop.store, debate_id)) == 1


async def test_turns_are_revealed_step_by_step_in_the_order_drawn_for_the_judge(
    workshop: Any,
) -> None:
    [debate_id] = await _items(workshop, 1)
    shown_first = {True: 0, False: 0}
    for name in ("anna", "bo", "cy", "dan", "eve", "flo"):
        desk = workshop.desk(name, overlap=9)
        item, _ = desk.take(debate_id)
        desk.open(item)
        assert item.shown(stepped=True) == ()
        assert item.shown(stepped=False) == item.turns()
        seen = 0
        while (step := item.next_step()) is not None:
            item.acts.add(TurnsRevealed(step=step))
            shown = item.shown(stepped=True)
            assert len(shown) > seen
            assert {turn.step for turn in shown} == {s for s in item.steps() if s <= step}
            seen = len(shown)
        assert item.shown(stepped=True) == item.turns()
        first = item.turns()[0].seat
        assert first is item.orders.shown[0]
        shown_first[item.acts.work.swapped] += 1
        await desk.close(item)
    assert all(shown_first.values())


@pytest.mark.parametrize("protocol", ["debate", "debate_sequential", "critique"])
async def test_rounds_that_were_read_are_counted_as_the_protocol_counts_them(
    workshop: Any, protocol: str
) -> None:
    debate = await workshop.record(protocol)
    item, _ = workshop.desk().take(debate.id)
    spoken = [turn for turn in item.turns() if turn.act.is_spoken]
    assert item.rounds_read() == 0
    for step in item.steps():
        item.acts.add(TurnsRevealed(step=step))
        assert item.rounds_read() == len({turn.round for turn in spoken if turn.step <= step})
    assert item.rounds_read() == len({turn.round for turn in spoken})


async def test_beliefs_of_a_models_judge_are_not_shown(workshop: Any) -> None:
    debate = await workshop.record("debate_interactive")
    item, _ = workshop.desk().take(debate.id)
    assert any(turn.act is Act.BELIEVE for turn in item.transcript.turns)
    assert all(turn.act is not Act.BELIEVE for turn in item.turns())


async def test_a_debate_that_another_process_runs_cannot_be_taken_up(
    workshop: Any, window: Any
) -> None:
    debate = workshop.plan()
    assert window.claim([debate.id])
    desk = workshop.desk()
    assert desk.take(debate.id) == (None, ClaimResult.ELSEWHERE)
    assert desk.take_next() is None
    window.release([debate.id])
    item = desk.take_next()
    assert item.live
    assert not window.claim([debate.id])
    assert workshop.desk("bo", window, overlap=2).take(debate.id) == (None, ClaimResult.ELSEWHERE)
    await desk.close(item)
    assert window.claim([debate.id])


async def test_an_item_that_is_not_in_the_store_is_said_so(workshop: Any) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        workshop.desk().take("nowhere")


async def test_a_queue_is_empty_as_others_have_judged_all(workshop: Any) -> None:
    items = await _items(workshop, 2)
    bo = workshop.desk("bo")
    for debate_id in items:
        item, _ = bo.take(debate_id)
        bo.open(item)
        item.acts.add(TurnsRevealed(step=9))
        item.acts.add(BeliefGiven(step=9, probs=(0.7, 0.3)))
        await bo.send(item)
        await bo.close(item)
    desk = workshop.desk()
    assert desk.queue() == []
    assert desk.why_empty() == (
        "Nothing to judge for you: others have judged all 2 debates of this store, and 1 person an "
        "item are asked for. --set overlap=2 asks for one more."
    )


async def test_a_queue_is_empty_as_its_filter_leaves_everything_out(workshop: Any) -> None:
    await _items(workshop, 1)
    desk = workshop.desk(protocol="critique")
    assert desk.queue() == []
    assert "of protocol 'critique': leave that out" in desk.why_empty()


def test_a_queue_is_empty_as_nothing_was_debated(workshop: Any) -> None:
    assert workshop.desk().why_empty().startswith("Nothing to judge in this store. `oversight ")
