"""Live debates, the assistant, and everything that may go wrong in the middle."""

from __future__ import annotations

from typing import Any

import pytest

from oversight import protocols
from oversight.errors import StoreError
from oversight.store.runs import start_of
from oversight.types import Act, EventKind, OutcomeStatus, Role, Seat

INTERACTIVE = "debate_interactive"


async def test_words_are_seen_as_they_are_written_and_the_debate_waits(
    run_all, judging, store, speakers
) -> None:
    await run_all(INTERACTIVE, judge="human")
    engines = {"e": speakers(latency_s=0.5)}
    async with judging(size=(120, 40), engines=engines) as j:
        await j.press("enter")
        await j.see("opening", "Set your belief")
        await j.press("7", "0", "enter")
        await j.see("Ask the speakers")
        await j.press("enter")
        await j.see("To the speakers")
        await j.type("who saw it")
        await j.press("ctrl+s")
        await j.until(lambda: j.app.screen.live.writing)
        await j.see("write …")
        await j.see("Set your belief")
        await j.see("who saw it")
        await j.press("e")
        await j.see("The debate is over")
        await j.press("enter")
        await j.see("Why?")
        await j.press("ctrl+s")
        await j.see("Sent")
        [judgment] = j.judgments()
    [debate_id] = store.debate_ids()
    transcript = store.transcript(debate_id)
    assert transcript.outcome is not None
    assert transcript.outcome.status is OutcomeStatus.COMPLETE
    asked = [turn for turn in transcript.turns if turn.act is Act.ASK]
    assert [turn.text for turn in asked] == ["who saw it"]
    beliefs = [turn for turn in transcript.turns if turn.act is Act.BELIEVE]
    assert [turn.ends for turn in beliefs] == [False, True]
    assert [step for step, _ in judgment.trajectory] == [turn.step for turn in beliefs]
    assert store.check() == []


async def test_a_live_debate_is_left_in_the_middle_and_goes_on_elsewhere(
    run_all, judging, store
) -> None:
    await run_all(INTERACTIVE, judge="human")
    async with judging() as j:
        await j.press("enter")
        await j.see("Set your belief")
        await j.press("6", "0", "enter")
        await j.see("Ask the speakers")
        await j.press("enter")
        await j.type("half a quest")
        await j.press("escape", "escape")
        await j.see("1 begun")
    async with judging() as j:
        await j.press("enter")
        await j.see("Ask the speakers", "60%")
        await j.press("m")
        await j.see("half a quest")
    [debate_id] = store.debate_ids()
    spoken = [turn for turn in store.transcript(debate_id).turns if turn.act is Act.SPEAK]
    assert len(spoken) == 2


async def test_a_debate_that_only_waits_for_its_verdict_opens_no_engine(
    run_all, judging, store
) -> None:
    await run_all("debate_single_turn", judge="human", fallback="x")
    async with judging() as j:
        await j.press("enter", "7", "0", "enter")
        await j.see("Why?")
        await j.press("ctrl+s")
        await j.see("Sent")
        assert not j.app.desk.queue()[0].live
    assert store.debate_ids(complete=True)


async def test_an_engine_that_is_gone_is_shown_and_tried_again(
    run_all, judging, store, monkeypatch
) -> None:
    from oversight.engines.scripted import ScriptedEngine
    from oversight.errors import EngineUnavailableError

    await run_all(INTERACTIVE, judge="human")
    real = ScriptedEngine.stream

    def gone(self: Any, request: Any) -> Any:
        raise EngineUnavailableError("nobody answers at 127.0.0.1:1")

    async with judging() as j:
        await j.press("enter", "7", "0")
        await j.see("Set your belief")
        monkeypatch.setattr(ScriptedEngine, "stream", gone)
        await j.press("enter")
        await j.see("Ask the speakers")
        await j.press("enter")
        await j.type("well")
        await j.press("ctrl+s")
        await j.see("nobody answers", "x tries again")
        monkeypatch.setattr(ScriptedEngine, "stream", real)
        await j.press("x")
        await j.see("Set your belief")
    [debate_id] = store.debate_ids()
    turns = store.transcript(debate_id).turns
    assert [turn.text for turn in turns if turn.act is Act.ASK] == ["well"]
    assert len([turn for turn in turns if turn.act is Act.SPEAK]) == 4


async def test_a_store_that_fails_is_shown_and_nothing_is_lost(
    run_all, judging, store, monkeypatch
) -> None:
    await run_all("debate_single_turn")
    real = type(store).append
    fails = True

    async def append(self: Any, *records: Any) -> None:
        if fails:
            raise StoreError("the disk is full")
        await real(self, *records)

    async with judging() as j:
        await j.press("enter")
        await j.see("round 1")
        monkeypatch.setattr(type(store), "append", append)
        await j.press("7", "0")
        await j.see("the disk is full", "trying again", "70%")
        fails = False
        await j.until(lambda: EventKind.BELIEF in j.kinds())
        await j.until(lambda: "the disk is full" not in j.text)


async def test_a_store_that_is_gone_for_good_does_not_hold_the_judge(
    run_all, judging, store, monkeypatch
) -> None:
    await run_all("debate_single_turn")

    async def append(self: Any, *records: Any) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr("oversight.tui.person_app.LEAVE_S", 0.3)
    async with judging() as j:
        await j.press("enter")
        await j.see("round 1")
        monkeypatch.setattr(type(store), "append", append)
        await j.press("7", "0")
        await j.see("the disk is gone")
        await j.press("ctrl+q")
        await j.until(lambda: j.app.return_code == 1)


async def test_a_person_argues_and_another_one_judges(run_all, judging, store) -> None:
    protocol = protocols.load("debate_single_turn")
    await run_all(protocol, judge="human", debater="human")
    async with judging(judge="dora", size=(120, 30)) as j:
        await j.press("enter")
        await j.see("You are Debater for ")
        await j.press("w")
        await j.see("Cy swept the cellar")
        await j.press("escape", "enter")
        await j.type("I say so")
        await j.press("ctrl+s")
        await j.see("waits for another person")
        await j.press("escape")
    async with judging(judge="eve", size=(120, 30)) as j:
        await j.press("enter")
        await j.see("You are Debater for ")
        await j.press("enter")
        await j.type("I do not")
        await j.press("ctrl+s")
        await j.see("waits for another person")
        await j.press("escape")
    async with judging(size=(120, 30)) as j:
        await j.press("enter", "7", "0", "enter")
        await j.see("Why?")
        await j.press("ctrl+s")
        await j.see("Sent")
    [transcript] = store.transcripts()
    assert {turn.seat: turn.text for turn in transcript.turns} == {
        Seat.A: "I say so",
        Seat.B: "I do not",
    }
    assert transcript.debate.agents[Role.DEBATER].agent == "human"


async def test_a_person_consults_and_another_one_judges(run_all, judging, store) -> None:
    await run_all("consultancy_single_turn", judge="human", consultant="human")
    async with judging(judge="dora", size=(120, 30)) as j:
        await j.press("enter")
        await j.see("You are Consultant")
        assert "not yet" not in j.text, "whoever argues has no belief to set"
        await j.press("enter")
        await j.type("trust me")
        await j.press("ctrl+s")
        await j.see("waits for another person")
        assert "not yet" not in j.text
        await j.press("escape")
    async with judging(size=(120, 30)) as j:
        await j.press("enter")
        await j.see("trust me", "not yet")
        await j.press("7", "0", "enter")
        await j.see("Why?")
        await j.press("ctrl+s")
        await j.see("Sent")
        [judgment] = j.judgments()
    [transcript] = store.transcripts()
    assert [(turn.role, turn.text) for turn in transcript.spoken()] == [
        (Role.CONSULTANT, "trust me")
    ]
    assert max(judgment.final.probs) == pytest.approx(0.7)


# --- the assistant -------------------------------------------------------------------


async def test_the_assistant_answers_and_what_it_showed_is_recorded(
    run_all, judging, assisted
) -> None:
    await run_all("debate_single_turn")
    async with judging(size=(140, 40), **assisted) as j:
        await j.press("enter", "a")
        await j.see("Ask the assistant", "Summarise each side")
        await j.press("1")
        await j.see("◇ Summarise each side", "later line", "counts.")
        await j.press("a", "3")
        await j.see("Which claim?")
        await j.type("it left")
        await j.press("enter")
        await j.until(lambda: j.kinds().count(EventKind.ASSISTED) == 2)
        await j.press("7", "0", "enter")
        await j.see("Why?")
        await j.press("ctrl+s")
        await j.see("Sent")
        [judgment] = j.judgments()
        answers = [e.data for e in j.events() if e.kind is EventKind.ASSISTED]
    assert judgment.assistance == ("full: summary", "full: check")
    assert judgment.arm == "full"
    assert all(answer["shown_at"] for answer in answers)


async def test_help_that_needs_a_turn_or_a_belief_says_so(run_all, judging, assisted) -> None:
    await run_all("debate_single_turn")
    async with judging(size=(140, 40), **assisted) as j:
        await j.press("enter", "a", "6")
        await j.see("Choose a turn first")
        await j.press("a", "5")
        await j.see("no belief yet")
        await j.press("j", "a", "6")
        await j.until(lambda: EventKind.ASSISTED in j.kinds())


async def test_an_assistant_that_errs_is_shown_and_one_that_is_slow_can_be_stopped(
    run_all, judging, assisted
) -> None:
    await run_all("debate_single_turn")
    slow = {**assisted["engines"]["helper"]["settings"], "latency_s": 60.0}
    engines = {"helper": {"engine": "scripted", "settings": slow}}
    async with judging(size=(140, 40), **{**assisted, "engines": engines}) as j:
        await j.press("enter", "a", "1")
        await j.see("…")
        await j.press("a")
        await j.see("still answering")
        await j.press("x")
        await j.see("No answer", "stopped by the judge")
    broken = {"helper": {"engine": "openai", "settings": {"base_url": "http://127.0.0.1:9/v1"}}}
    broken["helper"]["settings"] |= {"model": "m", "retries": 0}
    async with judging(
        size=(140, 40), judge="bo", overlap=2, **{**assisted, "engines": broken}
    ) as j:
        await j.press("enter", "a", "1")
        await j.see("No answer")
        await j.press("7", "0", "enter")
        await j.see("Why?")


async def test_whether_there_is_assistance_is_drawn_item_by_item(
    run_all, judging, assisted, store
) -> None:
    await run_all("debate_single_turn", num=12)
    async with judging(size=(140, 40), assist={"draw": ["none", "full"]}, **assisted) as j:
        await j.press("enter")
        for _ in range(12):
            await j.see("round 1")
            await j.press("7", "0", "enter")
            await j.see("Why?")
            await j.press("ctrl+s")
            await j.see("Sent")
            await j.press("enter")
        arms = [judgment.arm for judgment in j.judgments()]
    assert len(arms) == 12
    assert set(arms) == {"none", "full"}


async def test_without_an_assistant_the_key_says_how_to_get_one(run_all, judging) -> None:
    await run_all("debate_single_turn")
    async with judging() as j:
        await j.press("enter", "a")
        await j.see("No assistant", "[assistance]")


@pytest.mark.slow
async def test_a_turn_of_100_000_characters_is_read(run_all, judging) -> None:
    await run_all("debate_single_turn", answers=["word " * 20_000, "x" * 100_000], rules=[])
    async with judging() as j:
        await j.press("enter")
        await j.see("word word")
        await j.press("end")
        await j.see("xxxx")


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_real_model_writes_before_the_judges_eyes(judging, store, monkeypatch) -> None:
    """Seedling on both sides, sampled in this process."""
    from oversight.cli.running import put_in_queue
    from oversight.config import RunSettings
    from oversight.graphs.runtime import Words
    from oversight.judging.live import LiveRunner

    speaker = {
        "agent": "debater",
        "engine": "e",
        "settings": {"reasoning": False, "max_tokens": 48},
    }
    settings = RunSettings.parse(
        {
            "dataset": {"dataset": "world", "limit": 1, "settings": {"telling": "plain"}},
            "protocols": ["debate_single_turn"],
            "agents": {"debater": speaker, "judge": {"agent": "human"}},
            "engines": {"e": {"engine": "transformers", "settings": {"model": "seedling"}}},
            "store": store.url,
        }
    )
    put_in_queue(settings, start_of(settings, "debate"))
    heard: list[str] = []
    real = LiveRunner._hear

    def hear(self: LiveRunner, event: Any) -> None:
        if isinstance(event, Words):
            heard.append(event.text)
        real(self, event)

    monkeypatch.setattr(LiveRunner, "_hear", hear)
    async with judging(size=(120, 30)) as j:
        await j.press("enter")
        await j.until(lambda: j.app.screen.live.wanted, seconds=120)
        await j.see("Debater for A", "Debater for B", "The debate is over")
        await j.press("7", "0", "enter")
        await j.see("Why?")
        await j.press("ctrl+s")
        await j.see("Sent")
    assert len(heard) > 10
    [transcript] = store.transcripts()
    assert all(turn.samples[0].token_ids for turn in transcript.turns)
