"""Debates that wait for a judge, and claims on them: killed processes hold none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from oversight.store import Store, claims
from oversight.store.claims import ClaimResult, ItemState, QueueFilter
from oversight.types import AgentSpec, EventKind, JudgingEvent, Role

TAKE = """
import json, sys
from oversight.store import Store
store = Store.open(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    debate_id, judge, overlap = json.loads(line)
    print(store.take_item(debate_id, judge, overlap=overlap).value, flush=True)
"""

HARD_NAMES = [
    'o\'hara "x"',
    "100% _sure_",
    "back\\slash",
    "a\0b",
    "half \ud83d",
    "李四 ﷽",
    "judging:x:y",
    "A",
    "a",
    " a ",
]


class Taker:
    """A judge's process with the same store open."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def take(self, debate_id: str, judge: str, overlap: int = 1) -> str:
        self.process.stdin.write(json.dumps([debate_id, judge, overlap]) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def other(url):
    taker = Taker(url)
    yield taker
    taker.end()


@pytest.fixture
def finished(store, make):
    """Add complete debates that nobody has judged; their ids."""

    def add(number: int = 1, name: str = "debate", **changes: object) -> list[str]:
        ids = []
        for place in range(number):
            question = make.question(place, **changes)
            debate = make.debate(question, name=name)
            store.add(question, debate, make.outcome(debate))
            ids.append(debate.id)
        return ids

    return add


def judged(store, make, debate_id: str, judge: str, **changes: object) -> None:
    debate = store.debate(debate_id)
    store.add(make.judgment(debate, judge=judge, kind="human", **changes))


LEAST = {EventKind.RATIONALE: {"text": ""}, EventKind.ATTENTION: {"panels": {}}}
"""Fields that events of these kinds have to have."""


def note(store, debate_id: str, judge: str, *kinds: EventKind, session: str = "s") -> None:
    for kind in kinds:
        number = len(store.events(judge, debate_id))
        store.add(
            JudgingEvent(
                debate_id=debate_id,
                judge=judge,
                session=session,
                number=number,
                at="2026-01-01T00:00:00.000+00:00",
                kind=kind,
                data=LEAST.get(kind, {}),
            )
        )


def states(store, judge: str = "anna", **options: object) -> dict[str, ItemState]:
    return {item.debate_id: item.state for item in store.queue(judge, **options)}


def test_a_complete_debate_waits_until_the_judge_begins_it_and_is_done_when_it_is_judged(
    store, make, finished
):
    [item] = finished()
    assert states(store) == {item: ItemState.WAITING}
    note(store, item, "anna", EventKind.OPENED)
    assert states(store) == {item: ItemState.BEGUN}
    judged(store, make, item, "anna")
    assert states(store) == {item: ItemState.DONE}
    note(store, item, "anna", EventKind.SKIPPED)
    assert states(store) == {item: ItemState.DONE}


def test_a_skipped_item_is_as_before_when_it_is_taken_back(store, finished):
    waiting, begun = finished(2)
    note(store, begun, "anna", EventKind.OPENED)
    for item in (waiting, begun):
        note(store, item, "anna", EventKind.SKIPPED)
    assert set(states(store).values()) == {ItemState.SKIPPED}
    for item in (waiting, begun):
        note(store, item, "anna", EventKind.UNSKIPPED)
    assert states(store) == {waiting: ItemState.WAITING, begun: ItemState.BEGUN}
    note(store, waiting, "anna", EventKind.SKIPPED)
    assert states(store)[waiting] is ItemState.SKIPPED


def test_what_one_judge_does_is_not_seen_in_anothers_queue(store, finished):
    [item] = finished()
    note(store, item, "anna", EventKind.OPENED, EventKind.SKIPPED)
    assert states(store, "bo") == {item: ItemState.WAITING}


def test_a_debate_in_flight_is_listed_only_where_a_person_judges_it(store, make):
    by_model = make.debate(make.question(0))
    by_person = make.debate(make.question(1)).model_copy(
        update={"agents": {Role.JUDGE: AgentSpec(agent="human")}}
    )
    store.add(make.question(0), make.question(1), by_model, by_person)
    [item] = store.queue("anna")
    assert (item.debate_id, item.live, item.num_judges) == (by_person.id, True, 0)
    store.add(make.outcome(by_person, "failed", error="gone"))
    assert store.queue("anna")[0].live
    store.add(make.outcome(by_person), make.outcome(by_model))
    assert [each.live for each in store.queue("anna")] == [False, False]


def test_filters_by_data_set_protocol_and_id(store, finished):
    [tale] = finished()
    [other] = finished(dataset="re%al", id="r1", name="de_bate")
    by = [
        QueueFilter(dataset="tales"),
        QueueFilter(protocol="debate"),
        QueueFilter(debate_ids=(tale, "none")),
    ]
    for wanted in by:
        assert [each.debate_id for each in store.queue("anna", wanted)] == [tale]
    assert [each.debate_id for each in store.queue("anna", QueueFilter(dataset="re%al"))] == [other]
    assert store.queue("anna", QueueFilter(dataset="%")) == []
    assert store.queue("anna", QueueFilter(protocol="' OR 1=1 --")) == []
    assert len(store.queue("anna")) == 2


def test_an_item_leaves_the_queue_of_others_when_enough_have_judged_it(store, make, finished):
    [item] = finished()
    note(store, item, "bo", EventKind.OPENED)
    note(store, item, "cy", EventKind.SKIPPED)
    judged(store, make, item, "anna")
    judged(store, make, item, "anna", revision=1)
    assert states(store, "anna") == {item: ItemState.DONE}
    assert states(store, "bo") == {}  # begun, and not to be taken up any more
    assert states(store, "cy") == {}
    assert states(store, "dan") == {}
    assert states(store, "dan", overlap=2) == {item: ItemState.WAITING}
    assert store.queue("dan", overlap=2)[0].num_judges == 1


def test_judgments_of_models_do_not_count(store, make, finished):
    [item] = finished()
    store.add(make.judgment(store.debate(item)))
    assert states(store) == {item: ItemState.WAITING}


def test_two_judges_never_both_get_an_item(store, finished, other):
    items = finished(5)
    for place, item in enumerate(items):
        if place % 2:
            assert store.take_item(item, "anna") is ClaimResult.OURS
            assert other.take(item, "bo") == ClaimResult.ENOUGH
        else:
            assert other.take(item, "bo") == ClaimResult.OURS
            assert store.take_item(item, "anna") is ClaimResult.ENOUGH


def test_where_two_are_asked_for_a_third_does_not_get_it(store, make, finished, other, url):
    [item] = finished()
    assert store.take_item(item, "anna", overlap=2) is ClaimResult.OURS
    assert other.take(item, "bo", 2) == ClaimResult.OURS
    with Store.open(url) as third:
        assert third.take_item(item, "cy", overlap=2) is ClaimResult.ENOUGH
        store.leave_item(item, "anna")
        assert third.take_item(item, "cy", overlap=2) is ClaimResult.OURS
        third.leave_item(item, "cy")
        judged(store, make, item, "anna")
        assert third.take_item(item, "cy", overlap=2) is ClaimResult.ENOUGH


def test_the_same_judge_has_an_item_in_one_window_only(store, finished, url):
    [item] = finished()
    with Store.open(url) as window:
        for overlap in (1, 2):
            assert store.take_item(item, "anna", overlap=overlap) is ClaimResult.OURS
            assert window.take_item(item, "anna", overlap=overlap) is ClaimResult.ELSEWHERE
        store.leave_item(item, "anna")
        assert window.take_item(item, "anna") is ClaimResult.OURS


def test_what_a_killed_process_held_is_free_again(store, finished, other):
    [item] = finished()
    assert other.take(item, "bo") == ClaimResult.OURS
    assert store.take_item(item, "anna") is ClaimResult.ENOUGH
    os.kill(other.process.pid, signal.SIGKILL)
    while not claims.Process(claims.host(), other.process.pid, "").is_gone():
        time.sleep(0.01)
    assert store.take_item(item, "anna") is ClaimResult.OURS


def test_the_judge_of_a_killed_process_goes_on_in_a_new_one(store, finished, other):
    [item] = finished()
    assert other.take(item, "anna") == ClaimResult.OURS
    other.end()
    assert store.take_item(item, "anna") is ClaimResult.OURS


def test_who_has_judged_an_item_may_take_it_again_to_revise(store, make, finished, url):
    [item] = finished()
    judged(store, make, item, "anna")
    assert store.take_item(item, "bo") is ClaimResult.ENOUGH
    assert store.take_item(item, "anna") is ClaimResult.OURS
    with Store.open(url) as window:
        # Who revises takes no second place from the others.
        assert window.take_item(item, "bo", overlap=2) is ClaimResult.OURS


def test_events_are_read_back_in_order_and_checked(store, make, finished):
    first, second = finished(2)
    kinds = [EventKind.OPENED, EventKind.RATIONALE, EventKind.ATTENTION, EventKind.CLOSED]
    note(store, first, "anna", *kinds)
    note(store, second, "anna", EventKind.OPENED)
    note(store, first, "bo", EventKind.OPENED)
    assert [event.kind for event in store.events("anna", first)] == kinds
    assert [event.number for event in store.events("anna", first)] == [0, 1, 2, 3]
    assert len(store.events("anna")) == 5
    opened = store.events("anna", kinds=[EventKind.OPENED])
    assert [event.debate_id for event in opened] == [first, second]
    assert store.check() == []
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE events SET judge = 'eve' WHERE kind = 'rationale'")
        connection.exec_driver_sql("UPDATE events SET body = '{}' WHERE kind = 'closed'")
    problems = {(problem.table, problem.reason.split(":")[0]) for problem in store.check()}
    assert problems == {
        ("events", "column judge is 'eve', but its content gives 'anna'"),
        ("events", "debate_id"),
    }


def test_an_event_of_a_debate_that_is_not_stored_is_refused(store):
    from oversight.errors import StoreError

    with pytest.raises(StoreError):
        note(store, "nowhere", "anna", EventKind.OPENED)
    assert store.events("anna") == []


@pytest.mark.parametrize("name", HARD_NAMES)
def test_any_name_of_a_judge_is_kept_apart_from_the_others(store, make, finished, url, name):
    [item] = finished()
    with Store.open(url) as window:
        assert store.take_item(item, name) is ClaimResult.OURS
        assert window.take_item(item, name) is ClaimResult.ELSEWHERE
        assert window.take_item(item, "someone else") is ClaimResult.ENOUGH
        note(store, item, name, EventKind.OPENED)
        assert states(store, name) == {item: ItemState.BEGUN}
        judged(store, make, item, name)
        assert states(store, name) == {item: ItemState.DONE}
        store.leave_item(item, name)
        assert window.take_item(item, name) is ClaimResult.OURS
        # A judge who revises is one judge, not two.
        assert store.take_item(item, "someone else", overlap=2) is ClaimResult.OURS
    assert [event.judge for event in store.events(name)] == [name]
    others = [other for other in HARD_NAMES if other != name]
    assert [store.events(other) for other in others] == [[]] * len(others)
    assert store.check() == []
