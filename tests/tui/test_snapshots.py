"""Every judging screen as it was last looked at, at 80 × 24 and 140 × 45 cells, dark and light.

What a snapshot is: `pictures.py`. After a change that is meant:

    UPDATE_SNAPSHOTS=1 pytest tests/tui/test_snapshots.py

and look at the difference before it is committed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from oversight import protocols
from tests.tui.pictures import at_each_size, looks_as_kept

FOLDER = Path(__file__).parent / "snapshots"
INTERACTIVE = "debate_interactive"

Screen = Callable[[Any], Awaitable[None]]


# --- from the queue to each screen -----------------------------------------------------


async def queue(j: Any) -> None:
    await j.see("Enter judges:")


async def debate(j: Any) -> None:
    await j.press("enter")
    await j.see("How probable")
    await j.press("7", "0", "enter", "j", "right_square_bracket")
    await j.see("round 2", "▶")


async def quotes(j: Any) -> None:
    await debate(j)
    await j.press("space", "q", "c")
    await j.see("Quotes, in the order", "★")


async def assistant(j: Any) -> None:
    await debate(j)
    await j.press("a")
    await j.see("Ask the assistant")
    await j.press("1")
    await j.see("Both quote the log")


async def choice(j: Any) -> None:
    await debate(j)
    await j.press("a")
    await j.see("Ask the assistant")


async def verdict(j: Any) -> None:
    await j.press("enter")
    await j.see("How probable")
    await j.press("7", "0", "enter", "enter", "right_square_bracket", "space", "v")
    await j.see("Your judgment")
    await j.type("the log says so")


async def sent(j: Any) -> None:
    await verdict(j)
    await j.press("ctrl+s")
    await j.see("Sent", "Right is")


async def keys(j: Any) -> None:
    await debate(j)
    await j.press("question_mark")
    await j.see("Esc goes back")


async def live(j: Any) -> None:
    await j.press("enter")
    await j.see("Set your belief")
    await j.press("7", "0", "enter")
    await j.see("Ask the speakers")
    await j.press("enter")
    await j.type("who saw it")
    await j.press("ctrl+s")
    side = j.app.screen.live
    await j.until(lambda: len(side.writing) == 2)
    for seat, writing in side.writing.items():
        writing.text = f"These words of side {seat.value.upper()} are <quote>being written"
    side.has_news = True
    await j.see("of side A", "of side B", "write …")


async def source(j: Any) -> None:
    await debate(j)
    await j.press("w")
    await j.see("At noon Cy")


async def search(j: Any) -> None:
    await debate(j)
    await j.press("slash")
    await j.type("lamp")
    await j.see("Search", "Enter takes it")


async def found(j: Any) -> None:
    await search(j)
    await j.press("enter")
    await j.see("matches; n and N move")


async def arguing(j: Any) -> None:
    await j.press("enter")
    await j.see("You are Debater for ")


async def writing(j: Any) -> None:
    await arguing(j)
    await j.press("enter")
    await j.type("ten comes after nine")
    await j.see("Ctrl+S sends", "after nine")


async def empty(j: Any) -> None:
    await j.see("Nothing to judge")


SCREENS: dict[str, Screen] = {
    each.__name__: each
    for each in (
        *(queue, debate, quotes, assistant, choice, verdict, sent, keys, source, search, found),
        *(live, arguing, writing, empty),
    )
}


@at_each_size
@pytest.mark.parametrize("name", SCREENS)
async def test_a_screen_looks_as_it_did(name, size, run_all, judging, assisted, speakers) -> None:
    given = dict(assisted)
    if name == "live":
        await run_all(INTERACTIVE, judge="human")
        given = {"engines": {"e": speakers(latency_s=1000.0)}}
    elif name in ("arguing", "writing"):
        await run_all("debate_single_turn", judge="human", debater="human")
    elif name != "empty":
        protocol = protocols.load("debate").model_copy(update={"judge_sees_source": True})
        await run_all(protocol, num=3 if name == "queue" else 1)
    async with judging(size=size, name="pilot", **given) as j:
        await SCREENS[name](j)
        await looks_as_kept(j, FOLDER, name)


async def test_too_small_a_terminal_looks_as_it_did(run_all, judging) -> None:
    await run_all("debate")
    async with judging(size=(50, 12)) as j:
        await j.see("Make it larger")
        await looks_as_kept(j, FOLDER, "too_small")
