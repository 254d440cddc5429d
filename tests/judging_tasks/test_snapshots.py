"""Every rating screen as it was last looked at, at 80 × 24 and 140 × 45 cells, dark and light.

What a snapshot is: `tests/tui/pictures.py`. After a change that is meant:

    UPDATE_SNAPSHOTS=1 pytest tests/judging_tasks/test_snapshots.py

and look at the difference before it is committed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from oversight.types import Task
from tests.tui.pictures import at_each_size, looks_as_kept

FOLDER = Path(__file__).parent / "snapshots"
LONG = (
    "The log is short and I go through it line by line. It begins in the morning: "
    "<quote>At nine Ada carried the brass lamp to the attic.</quote> So far both sides agree.\n\n"
    "Then comes what my opponent leaves out. <quote>At ten Bo carried the brass lamp down to the "
    "cellar.</quote> Nobody carried it anywhere after that, and nothing in the log says that "
    "anybody came back for it before the day was over.\n\n"
    "The last line is about sweeping. Who sweeps a cellar in the dark of noon sees the floor and "
    "not the shelves, and <quote>Cy looked on every shelf</quote> is nowhere to be read. That "
    "nothing was found does not say that nothing was there.\n\n"
    "So the lamp went up, came down, and stayed down. I ask the judge to read the second line once "
    "more, as all else in this question hangs on it."
)
OTHER_LONG = LONG.replace("line by line", "from its end").replace("my opponent", "the other side")

Screen = Callable[[Any], Awaitable[None]]


# --- two responses ---------------------------------------------------------------------


async def pairs_queue(s: Any) -> None:
    await s.see("Enter takes the pair")


async def pairs(s: Any) -> None:
    await s.press("enter")
    await s.see("Which of the two", "Left", "both bad")


async def pairs_unanswered(s: Any) -> None:
    await pairs(s)
    await s.press("enter")
    await s.see("Say first which is better")


async def pairs_answered(s: Any) -> None:
    await pairs(s)
    await s.press("right", "right")
    await s.see("Right is clearly better. Enter sends it.")


async def pairs_undone(s: Any) -> None:
    await pairs_answered(s)
    await s.press("u")
    await s.see("Taken back.")


async def pairs_quotes(s: Any) -> None:
    await pairs_answered(s)
    await s.press("q", "right_square_bracket", "c")
    await s.see("Quotes, in the order")


async def pairs_why(s: Any) -> None:
    await pairs_answered(s)
    await s.press("v")
    await s.see("Why? What was it that decided?")
    await s.press(*"quotes")


async def pairs_keys(s: Any) -> None:
    await pairs(s)
    await s.press("question_mark")
    await s.see("Esc goes back")


async def pairs_sent(s: Any) -> None:
    await pairs_answered(s)
    await s.press("enter")
    await s.see("✓ 1 sent.")


async def pairs_queue_begun(s: Any) -> None:
    await pairs_sent(s)
    await s.press("s")
    await s.see("day 2")
    await s.press("left", "escape")
    await s.see("1 begun", "1 skipped", "1 done")


async def pairs_reopened(s: Any) -> None:
    await pairs_queue_begun(s)
    await s.press("down", "down", "down", "enter")
    await s.see("Sent. r revises it")


async def pairs_long(s: Any) -> None:
    await s.press("down", "down", "enter")
    await s.see("Which of the two", "day 2")


async def pairs_long_below(s: Any) -> None:
    await pairs_long(s)
    await s.press("pagedown", "pagedown")
    await s.see("Right")


# --- a response by principles ----------------------------------------------------------


async def principles_queue(s: Any) -> None:
    await s.see("Enter takes the response")


async def principles(s: Any) -> None:
    await s.press("down", "enter")
    await s.see("How well does it keep", "words folded", "8 to go")


async def principles_answered(s: Any) -> None:
    await principles(s)
    await s.press("4", "5", "0", "z")
    await s.see("5 to go", "before: Debater for B · round 1 · the cellar")


async def principles_keys(s: Any) -> None:
    await principles(s)
    await s.press("question_mark")
    await s.see("Esc goes back")


# --- a criticism and its revision ------------------------------------------------------


async def revisions_queue(s: Any) -> None:
    await s.see("Enter takes the revision")


async def revisions(s: Any) -> None:
    await s.press("enter")
    await s.see("Is the criticism right?", "First speech")


async def revisions_answered(s: Any) -> None:
    await revisions(s)
    await s.press("2", "right")
    await s.see("The criticism is partly right.")


async def revisions_keys(s: Any) -> None:
    await revisions(s)
    await s.press("question_mark")
    await s.see("Esc goes back")


SCREENS: dict[str, tuple[Task, Screen]] = {
    each.__name__: (task, each)
    for task, screens in {
        Task.PAIRS: (
            *(pairs_queue, pairs, pairs_unanswered, pairs_answered, pairs_undone, pairs_quotes),
            *(pairs_why, pairs_keys, pairs_sent, pairs_queue_begun, pairs_reopened),
            *(pairs_long, pairs_long_below),
        ),
        Task.PRINCIPLES: (principles_queue, principles, principles_answered, principles_keys),
        Task.REVISIONS: (revisions_queue, revisions, revisions_answered, revisions_keys),
    }.items()
    for each in screens
}


@at_each_size
@pytest.mark.parametrize("name", SCREENS)
async def test_a_screen_looks_as_it_did(name, size, records, rating) -> None:
    task, walk = SCREENS[name]
    if task is Task.PAIRS:
        records.best_of()
        records.best_of("It is in the attic.", "It is in the cellar.")
        records.best_of(LONG, OTHER_LONG)
        records.best_of()
    elif task is Task.PRINCIPLES:
        records.debate()
    else:
        records.critique()
    async with rating(task, size, name="pilot") as screen:
        await walk(screen)
        await looks_as_kept(screen, FOLDER, name)


@at_each_size
@pytest.mark.parametrize("task", list(Task))
async def test_an_empty_queue_looks_as_it_did(task, size, rating) -> None:
    async with rating(task, size) as screen:
        await screen.see("in this store.")
        await looks_as_kept(screen, FOLDER, f"{task}_empty")


async def test_too_small_a_terminal_looks_as_it_did(records, rating) -> None:
    records.best_of()
    async with rating(Task.PAIRS, (50, 12)) as screen:
        await screen.see("Make it larger")
        await looks_as_kept(screen, FOLDER, "too_small")
