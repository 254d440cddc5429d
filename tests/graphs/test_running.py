from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.graph.state import CompiledStateGraph

from oversight import protocols, registry
from oversight.errors import BudgetExceededError, EngineUnavailableError, StoreError
from oversight.graphs.planning import plan
from oversight.graphs.running import DebateProgress, run_debates
from oversight.store import Store
from oversight.types import Debate, Draft, OutcomeStatus, Question, View

MakeQuestions = Callable[[int], list[Question]]


def planned(theatre: Any, questions: list[Question], *names: str) -> list[tuple[Debate, Question]]:
    chosen = [protocols.load(name) for name in names]
    return list(plan(questions, chosen, theatre.cast().specs))


async def test_a_second_run_finds_everything_complete(
    theatre: Any, make_questions: MakeQuestions
) -> None:
    debates = planned(theatre, make_questions(5), "debate", "naive")
    first = await run_debates(debates, theatre.runtime(), concurrency=3)
    assert (first.done, first.found) == (10, 0)
    num_asked = len(theatre.judge.views)
    second = await run_debates(debates, theatre.runtime(), concurrency=3)
    assert (second.done, second.found) == (0, 10)
    assert len(theatre.judge.views) == num_asked
    assert theatre.store.check() == []


async def test_one_failure_is_written_down_and_the_others_go_on(
    theatre: Any, make_questions: MakeQuestions
) -> None:
    def speak(view: View) -> Any:
        return EngineUnavailableError("server is gone") if "lamp 2" in view.question else "words"

    theatre.speaker._say = speak
    debates = planned(theatre, make_questions(5), "debate")
    progress = await run_debates(debates, theatre.runtime(), concurrency=2)
    assert progress.done == 4
    [failure] = progress.failures
    assert (failure.question_id, failure.error) == ("q2", "server is gone")
    outcome = theatre.store.transcript(failure.debate_id).outcome
    assert outcome.status is OutcomeStatus.FAILED
    theatre.speaker._say = lambda view: "words"
    again = await run_debates(debates, theatre.runtime(), concurrency=2)
    assert (again.done, again.found, again.failures) == (1, 4, [])
    assert theatre.store.check() == []


async def test_a_fault_in_an_agent_takes_down_its_own_debate_only(
    theatre: Any, make_questions: MakeQuestions, caplog: pytest.LogCaptureFixture
) -> None:
    theatre.speaker._say = lambda view: (
        ZeroDivisionError("oops") if "lamp 1" in view.question else "words"
    )
    debates = planned(theatre, make_questions(3), "debate")
    progress = await run_debates(debates, theatre.runtime(), concurrency=1)
    assert progress.done == 2
    assert progress.failures[0].error == "unexpected ZeroDivisionError: oops"
    assert "oops" in caplog.text


@pytest.mark.parametrize("error", [StoreError("disk full"), BudgetExceededError("all spent")])
async def test_what_would_meet_every_debate_stops_the_run(
    theatre: Any, make_questions: MakeQuestions, error: Exception
) -> None:
    theatre.judge._say = lambda view: error
    debates = planned(theatre, make_questions(20), "naive")
    with pytest.raises(type(error), match=str(error)):
        await run_debates(debates, theatre.runtime(), concurrency=2)
    assert len(theatre.judge.views) <= 4


async def test_no_more_debates_are_in_flight_than_asked_for(
    theatre: Any, make_questions: MakeQuestions
) -> None:
    running: set[str] = set()
    most = 0

    class Slow:
        name, kind = "slow", theatre.judge.kind

        async def act(self, view: View) -> Draft:
            nonlocal most
            running.add(view.debate_id)
            most = max(most, len(running))
            await asyncio.sleep(0.01)
            running.discard(view.debate_id)
            return Draft(belief=theatre.judge._say(view).belief)

    theatre.judge.act = Slow().act
    debates = planned(theatre, make_questions(20), "naive")
    await run_debates(debates, theatre.runtime(), concurrency=4)
    assert most == 4


async def test_progress_is_told_as_it_happens(theatre: Any, make_questions: MakeQuestions) -> None:
    seen: list[int] = []

    def note(progress: DebateProgress) -> None:
        seen.append(progress.done)

    debates = planned(theatre, make_questions(4), "naive")
    await run_debates(debates, theatre.runtime(), concurrency=1, on_progress=note)
    assert seen == [0, 1, 2, 3, 4]


async def test_the_same_debate_planned_twice_is_run_once(
    theatre: Any, make_questions: MakeQuestions
) -> None:
    debates = planned(theatre, make_questions(1), "naive")
    progress = await run_debates(debates * 3, theatre.runtime(), concurrency=4)
    assert progress.done == 1


async def test_cancelling_leaves_what_was_recorded(
    theatre: Any, make_questions: MakeQuestions
) -> None:
    three_judges_wait = asyncio.Event()
    waiting: list[View] = []

    async def never(view: View) -> Draft:
        waiting.append(view)
        if len(waiting) == 3:
            three_judges_wait.set()
        await asyncio.sleep(60)
        raise AssertionError

    theatre.judge.act = never
    debates = planned(theatre, make_questions(3), "debate")
    run = asyncio.create_task(run_debates(debates, theatre.runtime(), concurrency=3))
    await three_judges_wait.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert theatre.store.counts()["turns"] == 6
    assert theatre.store.check() == []


async def test_in_one_step_a_debate_has_the_same_records_in_a_single_step_of_the_graph(
    theatre: Any, question: Question
) -> None:
    [(debate, _)] = planned(theatre, [question], "debate_interactive")
    runtime = theatre.runtime()
    graph = registry.load("graphs", "debate").build(runtime)
    steps: dict[bool, list[str]] = {}
    turns: dict[bool, list[tuple[int, str, str]]] = {}
    for in_one_step, one in ((False, debate), (True, debate.model_copy(update={"seed": 1}))):
        await runtime.enter(one, question)
        given = {"debate_id": one.id, "in_one_step": in_one_step}
        updates = [each async for each in graph.astream(given, stream_mode="updates")]
        steps[in_one_step] = [name for each in updates for name in each]
        transcript = theatre.store.transcript(one.id)
        assert transcript.outcome.status is OutcomeStatus.COMPLETE
        assert [judgment.swapped for judgment in transcript.judgments] == [False]
        turns[in_one_step] = [(turn.step, turn.seat, turn.text) for turn in transcript.turns]
        result = updates[-1][steps[in_one_step][-1]]["result"]
        assert result["num_turns"] == len(transcript.turns)
    assert steps[True] == ["open"]
    assert (steps[False][0], steps[False][-1]) == ("open", "decide")
    assert len(steps[False]) > 4
    assert turns[True] == turns[False]


async def test_a_debate_that_was_never_begun_is_not_looked_for_in_the_store(
    theatre: Any, make_questions: MakeQuestions, monkeypatch: pytest.MonkeyPatch
) -> None:
    debates = planned(theatre, make_questions(3), "debate")
    [(begun, question), *_] = debates
    theatre.store.add(question, begun)
    looked_for: list[str] = []
    find = theatre.store.debate
    monkeypatch.setattr(theatre.store, "debate", lambda id_: (looked_for.append(id_), find(id_))[1])
    progress = await run_debates(debates, theatre.runtime(), concurrency=2)
    assert progress.done == 3
    assert looked_for == [begun.id]


async def test_claims_are_given_up_when_a_batch_has_ended(
    theatre: Any, make_questions: MakeQuestions
) -> None:
    debates = planned(theatre, make_questions(3), "debate")
    await run_debates(debates, theatre.runtime(), concurrency=2)
    ids = {debate.id for debate, _ in debates}
    with Store.open(theatre.store.url) as other:
        theatre.store.release([])  # behind all that was given up before
        assert other.claim(ids) == ids


async def test_a_run_of_many_debates_needs_no_graph_where_no_person_acts(
    theatre: Any, make_questions: MakeQuestions, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("the graph was run")

    monkeypatch.setattr(CompiledStateGraph, "ainvoke", never)
    debates = planned(theatre, make_questions(3), "debate")

    progress = await run_debates(debates, theatre.runtime(), concurrency=2)

    assert (progress.done, progress.failures) == (3, [])
    assert theatre.store.check() == []
