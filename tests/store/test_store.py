"""Records read back as they were written, each once, and are never changed."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from oversight.errors import StoreError
from oversight.store import Store
from oversight.types import Option, Source

STRANGE = (
    "NUL \0, a tab\t, \x1b[31m, {{ braces }}, back\\slash\\0 \\u0000, ünï 漢字 🙂, \u202e, \uffff"
)
SURROGATE = "half \ud83d of a pair"


def test_a_debate_reads_back_whole(store, make):
    question, debate = make.question(), make.debate()
    prompt = make.prompt()
    turns = [
        make.turn(debate, 0, "a", samples=(make.sample(prompt),)),
        make.turn(debate, 0, "b"),
        make.turn(debate, 1, "judge", act="decide", ends=True),
    ]
    judgment = make.judgment(debate, leaned_on=((turns[0].id, 0),))
    outcome = make.outcome(debate, seconds=1.5, ended_at="2026-01-01T00:00:00Z")
    store.add(outcome, judgment, *turns, prompt, debate, question)

    transcript = store.transcript(debate.id)

    assert transcript.debate == debate
    assert transcript.question == question
    assert transcript.turns == tuple(turns)
    assert transcript.judgments == (judgment,)
    assert transcript.outcome == outcome
    assert store.prompt(prompt.prompt.id) == prompt
    assert store.check() == []


def test_turns_come_in_order_of_step_seat_and_candidate(store, make):
    debate = make.debate()
    turns = [
        make.turn(debate, step, seat, candidate=candidate, chosen=candidate == 1)
        for step in (0, 1, 10)
        for seat in ("a", "b", "judge")
        for candidate in (0, 1, 2)
    ]
    store.add(make.question(), debate, *reversed(turns))
    assert store.transcript(debate.id).turns == tuple(turns)


def test_text_of_any_kind_reads_back_exactly_and_can_be_asked_for(store, make):
    question = make.question(
        id=STRANGE,
        dataset=STRANGE + "d",
        split=STRANGE + "s",
        text=STRANGE,
        options=(Option(text=STRANGE, argument=STRANGE), Option(text="b")),
        source=Source(title=STRANGE, text=STRANGE),
        meta={STRANGE: STRANGE},
    )
    debate = make.debate(question, name=STRANGE)
    prompt = make.prompt(STRANGE, "", STRANGE)
    sample = make.sample(prompt, text=STRANGE, engine=STRANGE)
    turn = make.turn(debate, text=STRANGE, reasoning=STRANGE, samples=(sample,))
    judgment = make.judgment(debate, judge=STRANGE, rationale=STRANGE)
    outcome = make.outcome(debate, "failed", error=STRANGE)
    store.add(question, debate, prompt, turn, judgment, outcome)

    [transcript] = store.transcripts(protocol=STRANGE, dataset=STRANGE + "d", complete=False)

    assert transcript.question == store.question(STRANGE) == question
    assert (transcript.debate, transcript.turns) == (debate, (turn,))
    assert (transcript.judgments, transcript.outcome) == ((judgment,), outcome)
    assert store.prompt(prompt.prompt.id) == prompt
    assert store.questions(dataset=STRANGE + "d", split=STRANGE + "s") == [question]
    assert store.check() == []


def test_keys_that_differ_only_in_their_escapes_stay_apart(store, make):
    ids = ["a\0", "a\\0", "a\\\0", "a\\\\0", "a"]
    store.add(*[make.question(id=id_) for id_ in ids])
    assert [store.question(id_).id for id_ in ids] == ids


def test_values_without_a_json_form_of_their_own_read_back(store, make):
    meta = {"inf": float("-inf"), "big": 2**80, "half": SURROGATE, SURROGATE: 1, "zero": -0.0}
    question = make.question(meta=meta)
    debate = make.debate(question)
    turn = make.turn(debate, seconds=float("inf"), samples=(make.sample(make.prompt()),))
    store.add(question, debate, turn, make.prompt())
    assert store.question(question.id).meta == meta
    assert store.transcript(debate.id).turns == (turn,)


def test_output_of_any_length_reads_back(store, make):
    debate = make.debate()
    turns = [make.turn(debate, step, text="<b>\n" * 25_000 + str(step)) for step in range(70)]
    store.add(make.question(), debate, *turns)
    assert store.transcript(debate.id).turns == tuple(turns)


def test_half_a_surrogate_pair_in_a_turn_reads_back(store, make):
    debate = make.debate()
    turn = make.turn(debate).model_copy(update={"text": SURROGATE, "reasoning": SURROGATE})
    store.add(make.question(), debate, turn)
    assert store.transcript(debate.id).turns == (turn,)
    assert store.check() == []


def test_numbers_too_large_for_a_column_are_refused_by_name(store, make):
    debate = make.debate()
    store.add(make.question(), debate)
    with pytest.raises(StoreError, match="number is too large"):
        store.add(make.turn(debate, step=2**70))
    assert store.counts()["turns"] == 0


def test_writing_the_same_again_changes_nothing(store, make):
    debate, prompt = make.debate(), make.prompt()
    records = [make.question(), debate, prompt, make.turn(debate), make.outcome(debate)]
    records += [make.judgment(debate), make.outcome(debate, "failed", error="x")]
    store.add(*records, *records)
    before = store.counts()
    store.add(*records)
    assert store.counts() == before
    assert before["turns"] == before["prompts"] == before["judgments"] == before["complete"] == 1


@pytest.mark.parametrize("together", [True, False])
def test_other_content_under_the_same_id_is_an_error_naming_the_row(store, make, together):
    debate = make.debate()
    store.add(make.question(), debate)
    first, second = make.turn(debate, 3, text="one"), make.turn(debate, 3, text="two")
    assert first.id == second.id
    if not together:
        store.add(first)
    reason = rf"turn '{first.id}' .*step 3, seat 'a'.* is already stored with other content"
    with pytest.raises(StoreError, match=reason):
        store.add(*[first] * together, second)
    assert [turn.text for turn in store.transcript(debate.id).turns] == ["one"] * (not together)


def test_a_changed_judgment_is_an_error_and_its_revision_is_not(store, make):
    debate = make.debate()
    store.add(make.question(), debate, make.judgment(debate))
    with pytest.raises(StoreError, match=r"judgment .* already stored with other content"):
        store.add(make.judgment(debate, rationale="on second thought"))
    store.add(make.judgment(debate, rationale="on second thought", revision=1))
    assert [j.revision for j in store.transcript(debate.id).judgments] == [0, 1]


def test_a_debate_is_complete_once_and_may_fail_often(store, make):
    debate = make.debate()
    store.add(make.question(), debate)
    failures = [make.outcome(debate, "failed", error=f"try {n}") for n in range(3)]
    store.add(*failures)
    assert store.transcript(debate.id).outcome == failures[-1]
    assert store.completed([debate.id]) == set()

    complete = make.outcome(debate, ended_at="first")
    store.add(complete)
    with pytest.raises(StoreError, match=f"debate '{debate.id}' already has another complete"):
        store.add(make.outcome(debate, ended_at="second"))
    store.add(make.outcome(debate, "failed", error="late"))

    assert store.transcript(debate.id).outcome == complete
    assert store.completed([debate.id, "unknown"]) == {debate.id}
    assert store.counts()["outcomes"] == 5
    assert store.check() == []


def test_a_record_without_what_it_refers_to_is_refused(store, make):
    with pytest.raises(StoreError, match="never stored; add it first"):
        store.add(make.turn("no such debate"))
    with pytest.raises(StoreError, match="never stored; add it first"):
        store.add(make.debate())
    assert not any(store.counts().values())


def test_a_question_whose_content_changed_is_another_question(store, make):
    old, new = make.question(text="Where was it?"), make.question(text="Where is it now?")
    debates = [make.debate(old), make.debate(new)]
    store.add(old, debates[0])
    store.add(new, debates[1])
    assert store.question("q0") == new
    assert store.question("q0", old.fingerprint) == old
    assert store.questions() == [old, new]
    assert [store.transcript(debate.id).question for debate in debates] == [old, new]


def test_a_source_is_stored_once_and_shared_by_what_is_read_together(store, make):
    store.add(*[make.question(n) for n in range(5)], make.question(5, source=None))
    found = store.questions()
    assert store.counts()["sources"] == 1
    assert found[5].source is None
    assert len({id(question.source) for question in found[:5]}) == 1


def test_debates_are_found_by_protocol_data_set_and_state(store, make):
    questions = [make.question(0), make.question(1, dataset="sums", split="test")]
    debates = [
        make.debate(question, name=name)
        for question in questions
        for name in ("debate", "consultancy")
    ]
    store.add(*questions, *debates, make.outcome(debates[0]), make.outcome(debates[3]))
    ids = [debate.id for debate in debates]
    assert store.debate_ids() == ids
    assert store.debate_ids(protocol="debate") == [ids[0], ids[2]]
    assert store.debate_ids(dataset="sums") == ids[2:]
    assert store.debate_ids(complete=True) == [ids[0], ids[3]]
    assert store.debate_ids(complete=False, dataset="sums") == [ids[2]]
    assert store.debate_ids(protocol="none such") == []
    assert [t.debate.id for t in store.transcripts()] == sorted([ids[0], ids[3]])
    wanted = [ids[3], "unknown", ids[1], ids[3]]
    found = store.transcripts(complete=None, debate_ids=wanted)
    assert [t.debate.id for t in found] == [ids[3], ids[1]]
    assert store.questions(dataset="sums") == store.questions(split="test") == [questions[1]]


def test_many_transcripts_take_few_queries(store, make):
    debates = [make.debate(seed=seed) for seed in range(250)]
    turns = [make.turn(debate, step) for step in range(3) for debate in debates]
    store.add(make.question(), *debates, *turns)
    queries = []
    event.listen(
        store._database.engine, "before_cursor_execute", lambda *given: queries.append(given[2])
    )
    found = list(store.transcripts(complete=None))
    assert [t.debate for t in found] == sorted(debates, key=lambda debate: debate.id)
    assert all(len(t.turns) == 3 for t in found)
    assert len({id(t.question.source) for t in found}) == 1
    assert sum("SELECT" in query for query in queries) < 25


def test_what_is_not_there_is_said_by_name(store):
    assert store.debate("nothing") is None
    assert list(store.transcripts(debate_ids=["nothing"])) == []
    with pytest.raises(StoreError, match="debate 'nothing' is not in store"):
        store.transcript("nothing")
    with pytest.raises(StoreError, match="question 'q' is not in store"):
        store.question("q")
    with pytest.raises(StoreError, match="question 'q' with fingerprint f is not in store"):
        store.question("q", "f")
    with pytest.raises(StoreError, match="prompt p is not stored"):
        store.prompt("p")


def test_what_is_no_record_is_refused(store, make):
    with pytest.raises(StoreError, match=r"takes questions, debates.* not Source"):
        store.add(make.source)


def test_a_closed_store_refuses_to_write(url, make):
    store = Store.open(url)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="is closed; open it again"):
        store.add(make.question())


def test_a_store_opened_again_holds_what_was_written(url, make):
    with Store.open(url) as store:
        store.add(make.question())
    with Store.open(url, create=False) as store:
        assert store.questions() == [make.question()]
