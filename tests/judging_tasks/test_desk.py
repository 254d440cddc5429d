"""From acts to a rating: undoing, revising, two windows, and any sequence of acts and cuts."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oversight.errors import ProtocolError, UnknownNameError
from oversight.judging.tasks import load, missing
from oversight.judging.work import RatingWork, apply
from oversight.judging.work import fold_ratings as fold
from oversight.store import Store
from oversight.types import (
    AttentionPaid,
    ItemReopened,
    Preferred,
    QuestionsAnswered,
    RatingEvent,
    RationaleGiven,
    RevisionIs,
    Task,
)


def opened(desk):
    item = desk.take_next()
    desk.open(item)
    return item


async def test_a_pair_becomes_a_record_with_all_there_is_to_know(records):
    records.best_of()
    desk = records.desk(Task.PAIRS, name="pilot")
    item = opened(desk)
    item.acts.add(QuestionsAnswered(answers={"preferred": "right-3"}))
    item.acts.add(RationaleGiven(text="It proves it.", move="m"))
    item.acts.add(AttentionPaid(panels={"responses": 4.5, "words": 1.0}))
    rating = await desk.send(item)
    assert records.ratings() == [rating]
    assert (rating.answer.preferred, rating.answer.strength) == (Preferred.RIGHT, 3)
    assert rating.turn_ids == tuple(turn.id for turn in item.turns())
    assert (rating.rationale, rating.study, rating.active_s) == ("It proves it.", "pilot", 5.5)
    assert rating.sent_at
    assert (rating.judge, rating.revision, rating.task) == ("anna", 0, Task.PAIRS)


async def test_principles_become_scores_with_the_constitution_as_it_read(records):
    records.debate("One speech.")
    desk = records.desk(Task.PRINCIPLES)
    item = opened(desk)
    given = {each.name: "4" for each in desk.asked} | {desk.asked[0].name: "none"}
    item.acts.add(QuestionsAnswered(answers=given))
    rating = await desk.send(item)
    assert rating.answer.constitution == "honest_debate"
    assert rating.answer.fingerprint == desk.constitution.fingerprint
    assert list(rating.answer.scores.values()) == [None] + [4] * (len(desk.asked) - 1)


async def test_a_revision_is_reviewed(records):
    records.critique()
    desk = records.desk(Task.REVISIONS)
    item = opened(desk)
    item.acts.add(QuestionsAnswered(answers={"criticism": "partly", "revision": "worse"}))
    rating = await desk.send(item)
    assert (rating.answer.criticism, rating.answer.revision) == ("partly", RevisionIs.WORSE)


async def test_what_is_not_answered_is_not_sent(records):
    records.critique()
    desk = records.desk(Task.REVISIONS)
    item = opened(desk)
    item.acts.add(QuestionsAnswered(answers={"criticism": "right"}))
    assert missing(desk.asked, item.acts.work) == "Not answered yet: Revision."
    with pytest.raises(ProtocolError, match="questions left open"):
        await desk.send(item)
    assert records.ratings() == []
    item.acts.add(QuestionsAnswered(answers={"revision": "same"}))
    assert missing(desk.asked, item.acts.work) is None
    assert "rationale" in missing(desk.asked, item.acts.work, need_rationale=True)


async def test_a_revised_rating_is_a_new_record_and_the_old_one_stays(records):
    records.best_of()
    desk = records.desk(Task.PAIRS)
    item = opened(desk)
    item.acts.add(QuestionsAnswered(answers={"preferred": "left-1"}))
    await desk.send(item)
    assert not item.acts.work.is_open
    item.acts.add(ItemReopened())
    item.acts.add(QuestionsAnswered(answers={"preferred": "both-bad"}))
    await desk.send(item)
    found = records.ratings()
    assert [r.revision for r in found] == [0, 1]
    assert found[1].answer.preferred is Preferred.BOTH_BAD


async def test_another_window_that_sent_first_does_not_lose_this_one(records):
    records.best_of()
    desk = records.desk(Task.PAIRS)
    item = opened(desk)
    item.acts.add(QuestionsAnswered(answers={"preferred": "left-1"}))
    await item.acts.flush()
    with Store.open(records.store.url) as store:
        other = records.desk(Task.PAIRS, store=store)
        twin = type(item)(
            item.item,
            store.transcript(item.item.debate_id),
            type(item.acts)(store, item.item.debate_id, item.item.key, "anna"),
        )
        twin.acts.add(QuestionsAnswered(answers={"preferred": "right-1"}))
        await other.send(twin)
    rating = await desk.send(item)
    assert rating.revision == 1
    assert [r.answer.preferred for r in records.ratings()] == [Preferred.RIGHT, Preferred.RIGHT]


async def test_work_goes_on_where_it_was_left(records):
    records.best_of()
    desk = records.desk(Task.PAIRS)
    item = opened(desk)
    item.acts.add(QuestionsAnswered(answers={"preferred": "left-2"}))
    item.acts.add(RationaleGiven(text="half a sen", move="m"))
    await desk.close(item)
    again = opened(records.desk(Task.PAIRS))
    assert again.item.key == item.item.key
    assert again.acts.work.draft == item.acts.work.draft
    assert again.turns() == item.turns()


async def test_a_write_that_fails_is_tried_again_and_told(records, monkeypatch):
    from oversight.errors import StoreError
    from oversight.judging import log

    monkeypatch.setattr(log, "RETRY_S", 0.01)
    records.best_of()
    desk = records.desk(Task.PAIRS)
    item = opened(desk)
    await item.acts.flush()
    said = []
    item.acts.on_trouble = said.append
    append, failures = records.store.append, [StoreError("the disk is full")] * 2

    async def failing(*given):
        if failures:
            raise failures.pop()
        await append(*given)

    monkeypatch.setattr(records.store, "append", failing)
    item.acts.add(QuestionsAnswered(answers={"preferred": "tie"}))
    await item.acts.flush()
    assert said == ["the disk is full", "the disk is full", None]
    assert fold(records.store.rating_events(item.item.key, "anna")) == item.acts.work


def test_a_constitution_that_is_not_there_is_an_error_that_names_those_that_are(records):
    with pytest.raises(UnknownNameError, match="honest_debate"):
        records.desk(Task.PRINCIPLES, constitution="honest_debat")


# --- the fold ----------------------------------------------------------------------


def event(kind, number=0, **data):
    return RatingEvent(
        debate_id="d",
        item="i",
        judge="anna",
        session="s",
        number=number,
        at="",
        kind=kind,
        data=data,
    )


def test_undoing_leads_back_step_by_step():
    work = fold(
        [
            event("answered", answers={"a": "1"}),
            event("answered", answers={"a": "2", "b": "3"}),
            event("rationale", text="w", move="m"),
            event("rationale", text="why", move="m"),
        ]
    )
    assert (work.draft.answers, work.draft.rationale) == ({"a": "2", "b": "3"}, "why")
    work = apply(work, event("undone"))
    assert (work.draft.answers, work.draft.rationale) == ({"a": "2", "b": "3"}, "")
    work = apply(apply(work, event("undone")), event("undone"))
    assert work.draft.answers == {}
    assert not work.can_undo
    assert apply(work, event("undone")) == work


def test_an_answer_can_be_taken_back_and_the_same_answer_changes_nothing():
    work = fold([event("answered", answers={"a": "1"}), event("answered", answers={"a": "1"})])
    assert len(work.before) == 1
    assert apply(work, event("answered", answers={"a": None})).draft.answers == {}


ACTS = st.lists(
    st.one_of(
        st.builds(
            lambda a, v: event("answered", answers={a: v}),
            st.sampled_from("ab"),
            st.sampled_from(["1", "2", None]),
        ),
        st.builds(lambda t: event("rationale", text=t, move="m"), st.text(max_size=3)),
        st.builds(event, st.sampled_from(["undone", "reopened", "skipped", "closed"])),
        st.builds(lambda r: event("sent", revision=r), st.integers(0, 3)),
        st.builds(lambda s: event("attention", panels={"p": s}), st.floats(-1, 5)),
    ),
    max_size=20,
)


@given(ACTS, st.integers(0, 20))
def test_a_cut_anywhere_and_going_on_gives_the_same_work(acts, cut):
    first = fold(acts[:cut])
    for each in acts[cut:]:
        first = apply(first, each)
    assert first == fold(acts)
    assert sum(first.active_s.values()) >= 0


@given(ACTS)
def test_undoing_all_since_the_last_sending_leads_to_what_was_sent(acts):
    work = fold([*acts, event("sent", revision=9)])
    sent = work.draft
    work = fold(
        [event("answered", answers={"a": "1"}), event("answered", answers={"b": "2"})], work
    )
    while work.can_undo:
        work = apply(work, event("undone"))
    assert work.draft == sent


def test_the_questions_of_a_task_have_answers_that_differ():
    for task in (Task.PAIRS, Task.REVISIONS):
        for asked in load(task).questions():
            values = [choice.value for choice in asked.choices]
            assert len(set(values)) == len(values)
    assert RatingWork().draft.answers == {}


def test_events_are_written_in_order_while_they_are_added(records):
    async def go():
        records.best_of()
        desk = records.desk(Task.PAIRS)
        item = opened(desk)
        for number in range(50):
            item.acts.add(QuestionsAnswered(answers={"preferred": f"left-{number % 3 + 1}"}))
        await desk.close(item)
        return item

    item = asyncio.run(go())
    found = records.store.rating_events(item.item.key, "anna")
    assert [e.number for e in found] == list(range(52))


async def test_a_queue_is_empty_as_others_have_rated_all(records):
    records.best_of()
    bo = records.desk(Task.PAIRS, "bo")
    item = opened(bo)
    item.acts.add(QuestionsAnswered(answers={"preferred": "left-1"}))
    await bo.send(item)
    await bo.close(item)
    desk = records.desk(Task.PAIRS)
    assert desk.queue() == []
    assert desk.why_empty() == (
        "Nothing to rate for you: others have rated the pair of this store, and 1 person an item "
        "are asked for. --set overlap=2 asks for one more."
    )


async def test_a_queue_is_empty_as_its_filter_leaves_everything_out(records):
    records.best_of()
    desk = records.desk(Task.PAIRS, dataset="elsewhere")
    assert desk.queue() == []
    assert "of data set 'elsewhere': leave that out" in desk.why_empty()
