"""One naming for people: letters are the options', debaters are called by what they defend."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from oversight.judging.settings import JudgingSettings
from oversight.tui.linear.queues import Desk, run_linear
from oversight.tui.live import DebateView, replay
from oversight.tui.marking import named_by_seat
from oversight.types import Role, Seat

SEATS = re.compile(r"Debater [AB]\b|Seat [AB]\b|← Debater$")
RULES = [{"pattern": ".", "answer": "As Debater A says, it is there; debater b errs."}]


def names_of(transcript) -> dict[Seat, str]:
    """Letter of the option that each seat defends."""
    orders = transcript.debate.orders
    return {s: "AB"[orders.options.index(orders.defended_by(s))] for s in (Seat.A, Seat.B)}


@pytest.mark.parametrize("protocol", ["debate", "debate_sequential", "debate_interactive"])
async def test_no_screen_names_a_debater_by_the_letter_of_a_seat(
    run_all, judging, assisted, protocol
) -> None:
    if protocol == "debate_interactive":
        await run_all(protocol, judge="human")
    else:
        await run_all(protocol)
    engines = assisted["engines"]
    async with judging(size=(140, 45), engines=engines, assistance=assisted["assistance"]) as j:
        seen = [j.text]
        for key in ("enter", "7", "0", "q", "a", "1", "question_mark", "escape", "v", "escape"):
            await j.press(key)
            seen.append(j.text)
        await j.see("Debater for ")
        for text in seen:
            assert not SEATS.search(text), text


async def test_each_turn_stands_under_the_option_that_it_defends(run_all, judging, store) -> None:
    await run_all("debate_single_turn")
    [transcript] = store.transcripts()
    letters = names_of(transcript)
    async with judging(size=(100, 40)) as j:
        await j.press("enter")
        await j.see("round 1")
        for turn in transcript.spoken():
            option = transcript.debate.orders.defended_by(turn.seat)
            words = transcript.question.options[option].text
            assert f"Debater for {letters[turn.seat]} · round 1 · {words}" in j.text
            assert re.search(rf"{letters[turn.seat]} [█░]+ not yet  {words}", j.text)


async def test_speeches_that_use_the_names_of_seats_stand_as_they_are_with_who_that_is(
    run_all, judging, store
) -> None:
    await run_all("debate_single_turn", rules=RULES)
    [transcript] = store.transcripts()
    letters = names_of(transcript)
    async with judging(size=(140, 40)) as j:
        await j.press("enter")
        await j.see("As Debater A says", "debater b errs")
        await j.see(
            f"“Debater A” is the debater for {letters[Seat.A]}, "
            f"“Debater B” is the debater for {letters[Seat.B]}."
        )


async def test_line_mode_says_who_a_name_of_a_seat_is(run_all, store) -> None:
    await run_all("debate_single_turn", rules=RULES)
    [transcript] = store.transcripts()
    written: list[str] = []
    lines = iter(["1", "quit"])
    desk = Desk(store, JudgingSettings.parse({"judge": "anna", "store": store.url}))
    await run_linear(desk, read=lambda _: next(lines, None), write=written.append)
    text = "\n".join(written)
    assert "Turn 1. Debater for " in text
    assert text.count(f"“Debater A” is the debater for {names_of(transcript)[Seat.A]}") == 2


async def test_the_live_view_names_debaters_by_what_they_defend(run_all, store) -> None:
    await run_all("debate_single_turn")
    [transcript] = store.transcripts()
    out = io.StringIO()
    with DebateView(Console(file=out, width=80), transcript.debate, transcript.question) as live:
        replay(transcript, live)
    text = out.getvalue()
    assert "Debater for A, round 1" in text
    assert "Debater for B, round 1" in text
    assert not SEATS.search(text)


async def test_only_names_that_are_used_are_explained(run_all, store) -> None:
    await run_all("debate_single_turn")
    [transcript] = store.transcripts()
    letter = names_of(transcript)[Seat.B]
    assert named_by_seat(transcript.debate, ["It is there."]) == ""
    assert named_by_seat(transcript.debate, ["DEBATER  B's point"]) == (
        f"In these words “Debater B” is the debater for {letter}."
    )
    assert named_by_seat(transcript.debate, ["Debater Ada says", "debater C"]) == ""


async def test_a_consultant_keeps_its_name(run_all, judging, store) -> None:
    await run_all("consultancy_single_turn", rules=RULES)
    [transcript] = store.transcripts()
    assert transcript.debate.protocol.speaker_role is Role.CONSULTANT
    async with judging() as j:
        await j.press("enter")
        await j.see("Consultant · round 1 · for ")
        assert "In these words" not in j.text
