"""Reading for an index: what is new, what is older, ids by their beginning, acts of people."""

from __future__ import annotations

from oversight.types import ItemSkipped, JudgingEvent


def test_what_is_written_since_is_named_once_and_in_parts(store, make):
    store.add(make.question())
    first, *others = debates = [make.debate(seed=n) for n in range(5)]
    store.add(*debates)
    before = store.marks()
    assert store.changes(before, 100) == ([], before)
    store.add(make.turn(first, 0, "a"), make.turn(first, 0, "b"), make.outcome(others[0]))
    ids, after = store.changes(before, 100)
    assert set(ids) == {first.id, others[0].id}
    assert store.changes(after, 100) == ([], after)
    seen, marks = [], dict.fromkeys(before, 0)
    while True:
        ids, then = store.changes(marks, 2)
        if then == marks:
            break
        seen += ids
        marks = then
    assert set(seen) == {debate.id for debate in debates}
    assert marks == after


def test_older_debates_come_by_their_place_and_whole(store, make):
    store.add(make.question())
    debates = [make.debate(seed=n) for n in range(5)]
    for debate in debates:
        store.add(debate, make.turn(debate, 0, "a"), make.judgment(debate), make.outcome(debate))
    place = store.place_of(debates[3].id)
    assert place is not None
    assert store.older(place, 2) == [debates[2].id, debates[1].id]
    assert store.num_below(place) == 3
    assert store.place_of("none") is None
    rows = store.rows_of([debates[4].id, debates[0].id, "none"])
    assert [row.debate for row in rows] == [debates[0], debates[4]]
    whole = store.transcript(debates[0].id)
    assert rows[0].judgments == whole.judgments
    assert rows[0].outcome == whole.outcome
    assert [turn["id"] for turn in rows[0].turns] == [turn.id for turn in whole.turns]


def test_ids_are_found_by_how_they_begin_and_nothing_else_is(store, make):
    store.add(make.question())
    debates = [make.debate(seed=n) for n in range(4)]
    store.add(*debates)
    turn = make.turn(debates[0], 0, "a")
    store.add(turn)
    assert store.find_debates(debates[1].id) == [debates[1].id]
    assert store.find_debates(debates[1].id[:20]) == [debates[1].id]
    assert store.find_debates(turn.id[:20]) == [debates[0].id]
    assert set(store.find_debates("")) == {debate.id for debate in debates}
    for strange in ("%", "_" * 32, "\\", "\0", "\ud83d", "'; DROP TABLE debates; --", "g"):
        assert store.find_debates(strange) == []


def test_acts_of_all_judges_come_in_the_order_of_their_time(store, make):
    store.add(make.question())
    debate = make.debate()
    store.add(debate)
    acts = [
        JudgingEvent(
            debate_id=debate.id, judge=judge, session="s", number=0, at=at, act=ItemSkipped()
        )
        for judge, at in (("bea", "2026-01-02"), ("anna", "2026-01-01"))
    ]
    store.add(*acts)
    assert store.acts(debate.id) == [acts[1], acts[0]]
    assert store.acts("none") == []
