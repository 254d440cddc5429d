"""Options and questions of many words: nothing that is needed is pushed off the screen."""

from __future__ import annotations

from typing import Any

import pytest

from oversight.types import Option
from tests.tui import conftest

SMALL = (80, 24)
LONG = "of the old house by the river, where nobody goes in winter, " * 7


@pytest.fixture
def wordy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Questions whose options, and if asked for whose text, are long."""

    def make(text: str = "Where is the brass lamp?") -> None:
        plain = conftest.make_question
        options = (Option(text=f"the attic {LONG} END1"), Option(text=f"the cellar {LONG} END2"))
        changes = {"options": options, "text": text}
        monkeypatch.setattr(
            conftest, "make_question", lambda number: plain(number).model_copy(update=changes)
        )

    return make


@pytest.mark.parametrize("size", [SMALL, (60, 24), (140, 45)])
async def test_boxes_with_long_options_keep_their_keys_in_sight(
    run_all, judging, wordy, size
) -> None:
    wordy()
    await run_all("debate_single_turn")
    async with judging(size=size) as j:
        await j.press("enter", "7", "0")
        await j.press("v")
        if "answer anyway (y)" in j.text:
            await j.press("y")
        await j.see("Your judgment", "Why? What was it", "Ctrl+S sends", "Ctrl+B/F2 as")
        assert "A  70%" in j.text
        assert "B  30%" in j.text
        await j.type("because")
        assert "because" in j.text
        await j.press("ctrl+s")
        await j.see("✓ Sent.", "Right is", "Enter next item")


async def test_turns_of_long_names_that_are_unread_are_asked_about_with_keys_in_sight(
    run_all, judging, wordy
) -> None:
    wordy()
    await run_all(latency_s=0.0, rules=[{"pattern": ".", "answer": "A lamp was seen. " * 200}])
    async with judging(size=SMALL, stepped=False) as j:
        await j.press("enter", "7", "0", "v")
        await j.see("never on your screen", "Read them (Enter) or answer anyway (y)?")


async def test_a_question_longer_than_its_room_says_which_key_shows_it_with_its_options(
    run_all, judging, wordy
) -> None:
    wordy("Where is the brass lamp, considering all that was said of it that day? " * 12)
    await run_all("debate_single_turn")
    async with judging(size=SMALL) as j:
        await j.press("enter")
        await j.see("Debater for", "… i shows the question and the options in full")
        await j.press("i")
        await j.pilot.press("end")
        await j.see("END1", "END2")
        await j.press("escape")
        await j.see("Debater for")


async def test_a_question_that_fits_once_the_terminal_is_wider_is_whole(
    run_all, judging, wordy
) -> None:
    wordy("Where is the brass lamp, considering all that was said of it that day? " * 3)
    await run_all("debate_single_turn")
    async with judging(size=SMALL) as j:
        await j.press("enter")
        await j.see("i shows the question")
        await j.pilot.resize_terminal(200, 45)
        await j.see("END1", "END2")
        assert "i shows the question" not in j.text


async def test_a_tab_in_a_question_does_not_reach_the_terminal(run_all, judging, wordy) -> None:
    wordy("Where is\tthe brass lamp?")
    await run_all("naive")
    async with judging(size=(140, 45)) as j:
        await j.press("enter")
        await j.see("What you are asked")
        assert "\t" not in j.text
