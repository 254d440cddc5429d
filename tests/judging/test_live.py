"""A debate goes on while a person judges it, and goes on again tomorrow from the same turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from oversight.errors import EngineUnavailableError, StoreError
from oversight.graphs.runtime import PersonsAct, Words
from oversight.judging.live import AwaitedAct, LiveDebate, cast_of, is_spoken_out
from oversight.judging.tasks.debate import judgment_of, stated
from oversight.store.claims import ItemState
from oversight.types import Act, Belief, BeliefGiven, ItemReopened, OutcomeStatus, Seat

BELIEF = PersonsAct(belief=stated((0.3, 0.7)), seconds=2.5)
QUESTION = PersonsAct(text="Who carried it down?", seconds=4.0)


@asynccontextmanager
async def going(
    workshop: Any, debate: Any, listener: Any = None, **settings: Any
) -> AsyncIterator[LiveDebate]:
    """The debate in a process of its own, as far as the store is concerned."""
    cast = cast_of(debate, workshop.settings(**settings))
    live = LiveDebate(workshop.store, debate, cast, listener or (lambda event: None))
    try:
        yield live
    finally:
        await live.aclose()


def spoken(workshop: Any, debate: Any) -> list[tuple[int, Seat, Act]]:
    return [(t.step, t.seat, t.act) for t in workshop.store.transcript(debate.id).turns]


async def judge(desk: Any, item: Any, live: LiveDebate) -> Any:
    item.acts.add(BeliefGiven(step=0, probs=[0.2, 0.8]))
    return await desk.send(item, live)


async def test_it_waits_for_a_belief_a_question_and_the_judgment(
    workshop: Any, debater: Any, speech: str
) -> None:
    debate = workshop.plan("debate_interactive", debater=debater)
    desk = workshop.desk()
    item, _ = desk.take(debate.id)
    desk.open(item)
    words: Counter[Seat] = Counter()

    def listen(event: Any) -> None:
        if isinstance(event, Words):
            words[event.seat] += len(event.text)

    async with going(workshop, debate, listen) as live:
        wanted = await live.go()
        assert wanted == AwaitedAct(1, 1, Seat.JUDGE, Act.BELIEVE, may_end=True)
        assert words == {Seat.A: len(speech), Seat.B: len(speech)}
        asked = []
        while wanted is not None and wanted.act is not Act.DECIDE:
            asked.append((wanted.round, wanted.act))
            wanted = await live.answer(BELIEF if wanted.act is Act.BELIEVE else QUESTION)
        assert asked == [(n, act) for n in (1, 2, 3) for act in (Act.BELIEVE, Act.ASK)]
        judgment = await judge(desk, item, live)
    await desk.close(item)
    transcript = workshop.store.transcript(debate.id)
    assert transcript.outcome.status is OutcomeStatus.COMPLETE
    assert transcript.judgments == (judgment,)
    assert (judgment.judge, judgment.final.probs) == ("anna", (0.2, 0.8))
    turns = {turn.act: turn for turn in transcript.turns if turn.seat is Seat.JUDGE}
    assert turns[Act.ASK].text == QUESTION.text
    assert turns[Act.ASK].seconds == 4.0
    assert turns[Act.BELIEVE].belief == stated((0.3, 0.7))
    [queued] = desk.queue()
    assert (queued.state, queued.live) == (ItemState.DONE, False)
    assert workshop.store.check() == []


async def test_the_judge_may_end_it_early(workshop: Any, debater: Any) -> None:
    debate = workshop.plan(debater=debater)
    desk = workshop.desk()
    item, _ = desk.take(debate.id)
    async with going(workshop, debate) as live:
        await live.go()
        wanted = await live.answer(PersonsAct(belief=stated((0.3, 0.7)), ends=True))
        assert wanted.act is Act.DECIDE
        await judge(desk, item, live)
    assert len(spoken(workshop, debate)) == 3
    assert workshop.store.transcript(debate.id).outcome.status is OutcomeStatus.COMPLETE


async def test_whoever_quits_in_the_middle_goes_on_from_the_same_turn(
    workshop: Any, debater: Any
) -> None:
    debate = workshop.plan(debater=debater)
    desk = workshop.desk()
    answers = {Act.BELIEVE: BELIEF, Act.ASK: QUESTION}
    wanted: AwaitedAct | None = None
    num_openings = 0
    seen: list[AwaitedAct] = []
    while wanted is None or wanted.act is not Act.DECIDE:
        num_openings += 1
        item, _ = desk.take(debate.id)
        desk.open(item)
        async with going(workshop, debate) as live:
            again = await live.go()
            assert wanted in (None, again)
            seen.append(again)
            wanted = await live.answer(answers[again.act])
        await desk.close(item)
    assert num_openings == 6
    assert len(set(seen)) == 6
    item, _ = desk.take(debate.id)
    desk.open(item)
    async with going(workshop, debate) as live:
        assert (await live.go()).act is Act.DECIDE
        await judge(desk, item, live)
    counts = Counter(spoken(workshop, debate))
    assert set(counts.values()) == {1}
    assert len(counts) == 2 + 3 * (1 + 1 + 2)
    assert len(workshop.store.transcript(debate.id).judgments) == 1


@pytest.mark.parametrize("call", [1, 2, 4])
async def test_an_engine_that_fails_in_mid_turn_is_said_and_tried_again(
    workshop: Any, debater: Any, speech: str, call: int
) -> None:
    script = {"fallback": speech, "fail_calls": [call]}
    debate = workshop.plan(debater=debater, script=script)
    engines = {"speakers": {"engine": "scripted", "settings": script}}
    async with going(workshop, debate, engines=engines) as live:
        failures: list[str] = []
        wanted = None
        answer: Any = None
        while wanted is None or wanted.act is not Act.DECIDE:
            try:
                wanted = await (live.go() if answer is None else live.answer(answer))
                answer = BELIEF if wanted.act is Act.BELIEVE else QUESTION
            except EngineUnavailableError as error:
                failures.append(str(error))
                answer = None  # what was answered stands: only go on
    assert [f"call {call} fails" in failure for failure in failures] == [True]
    counts = Counter(spoken(workshop, debate))
    assert set(counts.values()) == {1}
    assert len(counts) == 2 + 3 * 4


async def test_a_debate_that_only_waits_for_its_judge_needs_no_engine(
    workshop: Any, debater: Any
) -> None:
    debate = workshop.plan("debate_single_turn", debater=debater)
    assert not is_spoken_out(workshop.store.transcript(debate.id))
    async with going(workshop, debate) as live:
        assert (await live.go()).act is Act.DECIDE
    assert is_spoken_out(workshop.store.transcript(debate.id))
    desk = workshop.desk()
    item, _ = desk.take(debate.id)
    silent = cast_of(debate, workshop.settings(), silent=True)
    live = LiveDebate(workshop.store, debate, silent, lambda event: None)
    assert (await live.go()).act is Act.DECIDE
    await judge(desk, item, live)
    await live.aclose()
    assert workshop.store.transcript(debate.id).outcome.status is OutcomeStatus.COMPLETE


async def test_a_judgment_that_cannot_be_written_is_sent_when_it_can(
    workshop: Any, debater: Any
) -> None:
    debate = workshop.plan("debate_single_turn", debater=debater)
    desk = workshop.desk()
    item, _ = desk.take(debate.id)
    desk.open(item)
    async with going(workshop, debate) as live:
        await live.go()
        item.acts.add(BeliefGiven(step=0, probs=[0.2, 0.8]))
        await item.acts.flush()
        for table in ("judgments", "outcomes"):
            _rename(workshop.store, table, f"no_{table}")
            with pytest.raises(StoreError):
                await desk.send(item, live)
            _rename(workshop.store, f"no_{table}", table)
        judgment = await desk.send(item, live)
    assert (judgment.revision, item.acts.work.num_sent) == (0, 1)
    transcript = workshop.store.transcript(debate.id)
    assert [j.revision for j in transcript.judgments] == [0]
    assert transcript.outcome.status is OutcomeStatus.COMPLETE
    await desk.close(item)


async def test_a_mind_that_changed_before_the_second_attempt_is_the_next_revision(
    workshop: Any, debater: Any
) -> None:
    debate = workshop.plan("debate_single_turn", debater=debater)
    desk = workshop.desk()
    item, _ = desk.take(debate.id)
    async with going(workshop, debate) as live:
        await live.go()
        item.acts.add(BeliefGiven(step=0, probs=[0.2, 0.8]))
        await item.acts.flush()
        _rename(workshop.store, "outcomes", "no_outcomes")
        with pytest.raises(StoreError):
            await desk.send(item, live)
        _rename(workshop.store, "no_outcomes", "outcomes")
        item.acts.add(BeliefGiven(step=0, probs=[0.9, 0.1]))
        await desk.send(item, live)
    found = workshop.store.transcript(debate.id).judgments
    assert [(j.revision, j.final.probs) for j in found] == [(0, (0.2, 0.8)), (1, (0.9, 0.1))]
    assert [judgment.informed for judgment in found] == [False, False]
    assert item.acts.work.num_sent == 2
    assert item.acts.work.informed
    assert not item.live


async def test_a_judgment_whose_note_could_not_be_written_is_sent_again(
    workshop: Any, debater: Any
) -> None:
    debate = workshop.plan("debate_single_turn", debater=debater)
    desk = workshop.desk()
    item, _ = desk.take(debate.id)
    async with going(workshop, debate) as live:
        await live.go()
        item.acts.add(BeliefGiven(step=0, probs=[0.2, 0.8]))
        await item.acts.flush()
        _rename(workshop.store, "events", "no_events")
        with pytest.raises(StoreError):
            await desk.send(item, live)
        _rename(workshop.store, "no_events", "events")
        await desk.send(item, live)
    found = workshop.store.transcript(debate.id).judgments
    assert [(j.revision, j.final.probs) for j in found] == [(0, (0.2, 0.8)), (1, (0.2, 0.8))]
    assert (item.acts.work.num_sent, item.acts.work.is_open) == (2, False)
    await desk.close(item)
    assert workshop.store.check() == []


@pytest.mark.parametrize("tells", [True, False])
async def test_a_revision_by_somebody_who_was_told_the_answer_says_so(
    workshop: Any, debater: Any, tells: bool
) -> None:
    debate = workshop.plan("debate_single_turn", debater=debater)
    desk = workshop.desk(feedback=tells)
    item, _ = desk.take(debate.id)
    async with going(workshop, debate) as live:
        await live.go()
        await judge(desk, item, live)
        item.acts.add(ItemReopened())
        item.acts.add(BeliefGiven(step=0, probs=[0.1, 0.9]))
        await desk.send(item, live)
    found = workshop.store.transcript(debate.id).judgments
    assert [judgment.informed for judgment in found] == [False, tells]


def _rename(store: Any, name: str, other: str) -> None:
    with store._database.writing() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {name} RENAME TO {other}")


async def test_a_kill_between_the_judgment_and_the_end_of_the_debate_is_mended(
    workshop: Any, debater: Any
) -> None:
    debate = workshop.plan("debate_single_turn", debater=debater)
    desk = workshop.desk()
    item, _ = desk.take(debate.id)
    desk.open(item)
    item.acts.add(BeliefGiven(step=0, probs=[0.2, 0.8]))
    async with going(workshop, debate) as live:
        await live.go()
        await item.acts.flush()
        workshop.store.add(judgment_of(item.acts.work, debate, "anna"))
    desk.leave(item)  # killed here
    item, _ = desk.take(debate.id)
    assert item.live
    desk.open(item)
    assert item.acts.work.num_sent == 1
    async with going(workshop, debate) as live:
        assert await live.go() is None
    await desk.close(item)
    transcript = workshop.store.transcript(debate.id)
    assert transcript.outcome.status is OutcomeStatus.COMPLETE
    assert len(transcript.judgments) == 1


async def test_engines_are_opened_as_the_study_describes_them(
    workshop: Any, debater: Any, speech: str
) -> None:
    debate = workshop.plan(debater=debater)
    described = {"engine": "scripted", "settings": {"fallback": speech, "latency_s": 0.0}}
    other = {"engine": "scripted", "settings": {"model": "another"}}
    settings = workshop.settings(engines={"other": other, "mine": described})
    cast = cast_of(debate, settings)
    assert list(cast.engines) == ["mine"]
    assert list(cast_of(debate, workshop.settings()).engines) == ["recorded scripted scripted"]
    assert cast.specs == debate.agents


def test_an_act_of_a_person_is_kept_exactly_on_its_way_through_the_graph() -> None:
    act = PersonsAct(text="\ud83d \0", belief=stated((0.01, 0.99)), ends=True, seconds=0.1)
    assert PersonsAct.model_validate(act.model_dump()) == act
    assert isinstance(act.belief, Belief)
