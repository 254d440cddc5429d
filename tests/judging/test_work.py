"""Any sequence of acts, cut anywhere by any number of sessions and kills, gives one state."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from oversight.judging.work import JudgingWork, JudgmentDraft, apply, fold
from oversight.types import EventKind, JudgingEvent, Record, Verdict


class Juggled(Record):
    x: int


text = st.text(max_size=12)
step = st.integers(0, 9)
percent = st.integers(1, 99).map(lambda p: [p / 100, (100 - p) / 100])
flag = st.booleans()
move = st.sampled_from(["", "m1", "m2"])

DATA: dict[EventKind, Any] = {
    EventKind.OPENED: {"swapped": flag, "arm": st.none() | text, "study": text},
    EventKind.REVEALED: {"step": step},
    EventKind.BELIEF: {"step": step, "probs": percent, "move": move},
    EventKind.VERDICT: {"verdict": st.sampled_from(["decided", "tie", "abstain"])},
    EventKind.RATIONALE: {"text": text, "move": move},
    EventKind.LEANED: {"turn": st.sampled_from("tu"), "quote": st.integers(0, 2), "on": flag},
    EventKind.DRAFTED: {"step": step, "text": text},
    EventKind.ACTED: {"step": step, "act": st.sampled_from(["ask", "believe"]), "text": text},
    EventKind.ASKED: {"number": step, "kind": text, "request": text, "text": text},
    EventKind.ASSISTED: {"number": step, "kind": text, "text": text, "shown_at": text},
    EventKind.ATTENTION: {
        "panels": st.dictionaries(text, st.integers(0, 64).map(lambda n: n / 8), max_size=3)
    },
    EventKind.UNDONE: {},
    EventKind.SENT: {"revision": st.integers(0, 3)},
    EventKind.INFORMED: {},
    EventKind.REOPENED: {},
    EventKind.SKIPPED: {},
    EventKind.UNSKIPPED: {},
    EventKind.CLOSED: {},
}


def _made(kind: EventKind) -> st.SearchStrategy[tuple[EventKind, dict[str, Any]]]:
    return st.tuples(st.just(kind), st.fixed_dictionaries(DATA[kind]))


def events_of(acts: list[tuple[EventKind, dict[str, Any]]], **place: str) -> list[JudgingEvent]:
    where = {"debate_id": "d", "judge": "anna", "session": "s"} | place
    return [
        JudgingEvent(**where, number=number, at="", kind=kind, data=data)
        for number, (kind, data) in enumerate(acts)
    ]


acts = st.lists(st.one_of([_made(kind) for kind in EventKind]), max_size=25)
drafting = [EventKind.BELIEF, EventKind.VERDICT, EventKind.RATIONALE, EventKind.LEANED]
undoable = st.lists(st.one_of([_made(kind) for kind in drafting]), max_size=20)
NUMBERS = itertools.count()


def test_every_kind_of_event_is_among_those_tested() -> None:
    assert set(DATA) == set(EventKind)


@given(acts, st.lists(st.integers(0, 25), max_size=4))
def test_work_goes_on_from_any_point_at_which_it_was_cut(done: Any, cuts: list[int]) -> None:
    events = events_of(done)
    work = JudgingWork()
    for start, end in itertools.pairwise([0, *sorted(cuts), len(events) + 25]):
        work = fold(events[start:end], work)
    assert work == fold(events)


@given(acts)
def test_a_record_in_the_store_gives_the_same_work(finished_store: Any, done: Any) -> None:
    store, judge = finished_store.store, f"judge {next(NUMBERS)}"
    [debate_id] = store.debate_ids()
    half = len(done) // 2
    events = [
        *events_of(done[:half], judge=judge, debate_id=debate_id, session="one"),
        *events_of(done[half:], judge=judge, debate_id=debate_id, session="two"),
    ]
    for event in events:
        store.add(event)
    store.add(*events)  # what is written once more, as after a lost answer, changes nothing
    found = store.events(judge, debate_id)
    assert found == events
    assert fold(found) == fold(events_of(done))


@given(acts)
def test_events_of_kinds_that_are_not_known_change_nothing(done: Any) -> None:
    strange = JudgingEvent.model_construct(act=Juggled(x=1))
    work = fold(events_of(done))
    assert apply(work, strange) == work


@given(acts)
def test_only_events_change_work(done: Any) -> None:
    states = [JudgingWork()]
    before = [repr(states[0])]
    for event in events_of(done):
        states.append(apply(states[-1], event))
        before.append(repr(states[-1]))
    assert [repr(state) for state in states] == before


@given(acts, undoable)
def test_undoing_leads_back_through_every_state(done: Any, more: Any) -> None:
    # Reopened and of no movement that was going on: what comes is all that is undone.
    work = fold(events_of([*done, (EventKind.SENT, {"revision": 0}), (EventKind.REOPENED, {})]))
    path = [work.draft]
    still = [(kind, data | {"move": ""} if "move" in data else data) for kind, data in more]
    for event in events_of(still):
        work = apply(work, event)
        if work.draft != path[-1]:
            path.append(work.draft)
    [undone] = events_of([(EventKind.UNDONE, {})])
    for expected in reversed(path):
        assert work.draft == expected
        assert work.can_undo == (expected is not path[0])
        work = apply(work, undone)
    assert work.draft == path[0]


@given(undoable, st.lists(percent, min_size=1, max_size=9))
def test_one_movement_of_a_slider_is_undone_as_one(before: Any, places: Any) -> None:
    work = fold(events_of(before))
    moved = [(EventKind.BELIEF, {"step": 0, "probs": p, "move": "m9"}) for p in places]
    there = fold(events_of(moved), work)
    assert there.draft.beliefs[0] == tuple(places[-1])
    back = fold(events_of([(EventKind.UNDONE, {})]), there)
    if there.before != work.before:
        assert back.draft == work.draft


@given(acts, st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_a_revision_counts_once_however_often_it_was_sent(done: Any, revisions: list[int]) -> None:
    work = fold(events_of(done))
    sent = [(EventKind.SENT, {"revision": revision}) for revision in revisions]
    after = fold(events_of(sent), work)
    assert after.num_sent == max(work.num_sent, max(revisions) + 1)
    assert fold(events_of(sent), after) == after
    assert not after.is_open
    assert not after.can_undo
    assert after.draft == work.draft


@given(acts)
def test_what_was_revealed_and_the_seconds_spent_never_shrink(done: Any) -> None:
    work = JudgingWork()
    for event in events_of(done):
        after = apply(work, event)
        assert after.revealed >= work.revealed
        assert sum(after.active_s.values()) >= sum(work.active_s.values())
        assert after.num_sent >= work.num_sent
        assert after.acted.items() >= work.acted.items()
        work = after


def test_the_sides_stay_as_they_were_first_drawn(make_event: Any) -> None:
    first = make_event(EventKind.OPENED, swapped=True, arm="critic", study="pilot")
    again = make_event(EventKind.OPENED, swapped=False, arm=None, study="other")
    work = fold([first, again])
    assert (work.swapped, work.arm, work.study) == (True, "critic", "pilot")


def test_an_act_in_a_live_debate_stands_as_it_was_first_given(make_event: Any) -> None:
    drafted = make_event(EventKind.DRAFTED, step=2, text="Where is")
    asked = make_event(EventKind.ACTED, step=2, act="ask", text="Where is it?")
    again = make_event(EventKind.ACTED, step=2, act="ask", text="Something else?")
    work = fold([drafted, asked, again])
    assert work.words == ""
    assert work.acted[2, "ask"].text == "Where is it?"


def test_the_belief_is_that_of_the_furthest_step(make_event: Any) -> None:
    beliefs = [(0, [0.3, 0.7]), (2, [0.2, 0.8]), (2, [0.1, 0.9])]
    work = fold(make_event(EventKind.BELIEF, step=s, probs=p) for s, p in beliefs)
    assert work.draft.probs == (0.1, 0.9)
    assert work.draft.beliefs == {0: (0.3, 0.7), 2: (0.1, 0.9)}
    assert JudgmentDraft().probs is None


def test_a_quote_that_is_picked_twice_is_leaned_on_once(make_event: Any) -> None:
    picks = [("t", 0, True), ("t", 1, True), ("t", 0, True), ("t", 1, False), ("u", 1, False)]
    work = fold(make_event(EventKind.LEANED, turn=t, quote=q, on=on) for t, q, on in picks)
    assert work.draft.leaned_on == (("t", 0),)


def test_verdicts_and_answers_are_kept_as_they_came(make_event: Any) -> None:
    work = fold(
        [
            make_event(EventKind.VERDICT, verdict="tie"),
            make_event(EventKind.ASKED, number=0, kind="critic", request="critique", text=""),
            make_event(EventKind.ASKED, number=1, kind="full", request="free", text="Why?"),
            make_event(EventKind.ASSISTED, number=1, kind="full", text="So.", shown_at="now"),
            make_event(EventKind.ASSISTED, number=0, kind="critic", text="It", error="gone"),
        ]
    )
    assert work.draft.verdict is Verdict.TIE
    [first, second] = work.assistance
    assert (first.text, first.error, second.asked) == ("It", "gone", "Why?")
    assert (second.text, second.shown_at) == ("So.", "now")
