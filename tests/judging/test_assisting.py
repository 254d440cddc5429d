"""An assistant's words stream, and all of them are recorded with when they were shown."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from oversight import protocols
from oversight.judging.assisting import Assistants, assist, view_for
from oversight.judging.work import fold
from oversight.types import Act, EventKind, Help, HelpRequest, Role, Seat, TurnsRevealed

ANSWER = "Side A quotes an early line; side B quotes the last one."


def settings(workshop: Any, **script: Any) -> Any:
    return workshop.settings(
        assistance={
            "full": {"agent": "assistant", "engine": "local"},
            "critic": {"agent": "assistant_critic", "engine": "local"},
        },
        engines={"local": {"engine": "scripted", "settings": {"fallback": ANSWER, **script}}},
    )


async def opened(workshop: Any, protocol: Any = "debate") -> Any:
    debate = await workshop.record(protocol)
    desk = workshop.desk()
    item, _ = desk.take(debate.id)
    desk.open(item)
    return item


async def test_words_stream_and_are_recorded_with_the_time_they_were_shown(workshop: Any) -> None:
    item = await opened(workshop)
    assistants = Assistants(settings(workshop))
    shown: list[str] = []
    request = HelpRequest(Help.FREE, "Who is right?")
    assert await assist(assistants, item, "full", request, item.turns(), shown.append) is None
    await item.acts.flush()
    await assistants.aclose()
    assert len(shown) > 1
    assert "".join(shown) == ANSWER
    events = workshop.store.events("anna", item.transcript.debate.id)
    asked, answered = events[-2:]
    assert (asked.kind, answered.kind) == (EventKind.ASKED, EventKind.ASSISTED)
    assert (asked.data["request"], asked.data["text"]) == ("free", "Who is right?")
    assert answered.data["text"] == ANSWER
    assert asked.at <= answered.data["shown_at"] <= answered.at
    [sample] = answered.data["samples"]
    assert workshop.store.prompt(sample["prompt_id"]).token_ids
    [help_given] = fold(events).assistance
    assert (help_given.kind, help_given.asked, help_given.error) == ("full", "Who is right?", "")
    assert workshop.store.check() == []


async def test_a_failure_is_said_and_recorded_and_the_next_request_answered(workshop: Any) -> None:
    item = await opened(workshop)
    assistants = Assistants(settings(workshop, fail_calls=[1]))
    request = HelpRequest(Help.SUMMARY)
    reason = await assist(assistants, item, "full", request, item.turns(), lambda text: None)
    assert reason is not None
    assert "call 1 fails" in reason
    assert await assist(assistants, item, "full", request, item.turns(), lambda text: None) is None
    first, second = item.acts.work.assistance
    assert (first.text, first.shown_at) == ("", "")
    assert "call 1 fails" in first.error
    assert (second.text, second.error) == (ANSWER, "")
    await assistants.aclose()


async def test_an_assistant_that_cannot_be_opened_is_said_and_recorded(workshop: Any) -> None:
    item = await opened(workshop)
    wrong = workshop.settings(
        assistance={"full": {"agent": "assistant"}, "none_such": {"agent": "asistant"}}
    )
    assistants = Assistants(wrong)
    request = HelpRequest(Help.SUMMARY)
    for kind, message in [("full", "engine"), ("none_such", "asistant")]:
        reason = await assist(assistants, item, kind, request, item.turns(), lambda text: None)
        assert message in (reason or "")
    assert all(each.error for each in item.acts.work.assistance)
    await assistants.aclose()


async def test_a_request_that_the_judge_stops_keeps_what_was_shown(workshop: Any) -> None:
    item = await opened(workshop)
    assistants = Assistants(settings(workshop, latency_s=30.0, tokens_per_chunk=1))
    request = HelpRequest(Help.SUMMARY)
    asking = asyncio.create_task(
        assist(assistants, item, "full", request, item.turns(), lambda text: None)
    )
    await asyncio.sleep(0.1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    [stopped] = item.acts.work.assistance
    assert stopped.error == "stopped by the judge"
    await item.acts.flush()
    await assistants.aclose()


@pytest.mark.parametrize("reads", [False, True])
async def test_the_source_is_in_its_view_only_where_the_protocol_says_so(
    workshop: Any, reads: bool
) -> None:
    base = protocols.load("debate")
    protocol = base.model_copy(update={"assistant_sees_source": reads})
    item = await opened(workshop, protocol)
    view = view_for(item, item.turns(), HelpRequest(Help.SUMMARY), 0)
    assert (view.source is not None) is reads
    assert (view.act, view.seat, view.role) == (Act.ASSIST, Seat.JUDGE, Role.ASSISTANT)
    assert view.orders == item.orders


async def test_it_knows_only_what_the_judge_was_shown_and_nothing_private(workshop: Any) -> None:
    item = await opened(workshop)
    item.acts.add(TurnsRevealed(step=0))
    view = view_for(item, item.shown(stepped=True), HelpRequest(Help.SUMMARY), 0)
    assert {turn.step for turn in view.turns} == {0}
    assert [turn.seat for turn in view.turns] == list(item.orders.shown)
    assert all(turn.reasoning == "" and turn.samples == () for turn in view.turns)
    nothing = view_for(item, (), HelpRequest(Help.SUMMARY), 0)
    assert nothing.turns == ()


async def test_the_same_question_again_is_another_draw(workshop: Any) -> None:
    item = await opened(workshop)
    request = HelpRequest(Help.SUMMARY)
    seeds = {view_for(item, item.turns(), request, number).seed for number in range(5)}
    assert len(seeds) == 5


async def test_each_assistant_says_what_it_can_be_asked_for(workshop: Any) -> None:
    assistants = Assistants(settings(workshop))
    assert assistants.kinds_of_help("full") == tuple(Help)
    assert assistants.kinds_of_help("critic") == (Help.CRITIQUE,)
    assert assistants.agent("full") is assistants.agent("full")
    await assistants.aclose()
