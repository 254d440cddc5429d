"""Every screen as it was last looked at, at 80 × 24 and 140 × 45 cells, dark and light.

A snapshot is a text file: the screen's words, then each line's styles as runs (`12a 3b`: twelve
cells in style a, three in b) with what each letter means, dark and light. After a change that is
meant:

    UPDATE_SNAPSHOTS=1 pytest tests/tui/test_snapshots.py

and look at the difference before it is committed.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from difflib import unified_diff
from itertools import groupby
from pathlib import Path
from string import ascii_letters
from typing import Any

import pytest
from rich.style import Style
from textual.color import Color
from textual.widgets import Input, TextArea

from oversight import protocols

FOLDER = Path(__file__).parent / "snapshots"
SIZES = ((80, 24), (140, 45))
THEMES = ("textual-dark", "textual-light")
LETTERS = ascii_letters
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


async def empty(j: Any) -> None:
    await j.see("Nothing to judge")


SCREENS: dict[str, Screen] = {
    each.__name__: each
    for each in (queue, debate, quotes, assistant, choice, verdict, sent, keys, live, source, empty)
}


# --- what a picture is -----------------------------------------------------------------


def _colour(value: Any) -> str:
    if value is None or value.triplet is None:
        return "default" if value is None else str(value.name)
    return Color(*value.triplet).hex.lower()


def _looks(style: Style | None) -> str:
    if style is None:
        return "none"
    words = [f"{_colour(style.color)} on {_colour(style.bgcolor)}"]
    words += [
        w for w in ("bold", "dim", "italic", "underline", "strike", "reverse") if getattr(style, w)
    ]
    return " ".join(words)


def words_of(j: Any) -> list[str]:
    """The lines of the screen."""
    return [line.rstrip() for line in j.text.split("\n")]


def styles_of(j: Any) -> list[str]:
    """Runs of styles a line, and a legend."""
    letters: dict[str, str] = {}
    lines = []
    for strip in j.app.screen._compositor.render_strips():
        cells = [
            letters.setdefault(_looks(segment.style), LETTERS[len(letters)])
            for segment in strip
            for _ in range(segment.cell_length)
        ]
        lines.append(" ".join(f"{len(list(run))}{letter}" for letter, run in groupby(cells)))
    return [*lines, *(f"{letter} = {looks}" for looks, letter in letters.items())]


async def picture(j: Any) -> str:
    """The screen as text, in both themes."""
    for cursor in [*j.app.screen.query(TextArea), *j.app.screen.query(Input)]:
        cursor.cursor_blink = False
    parts = []
    for theme in THEMES:
        j.app.theme = theme
        await j.pilot.pause()
        await j.pilot.pause(0.1)
        if not parts:
            parts.append("\n".join(words_of(j)))
        parts.append("\n".join([f"--- {theme}", *styles_of(j)]))
    return "\n".join(parts) + "\n"


def compare(name: str, size: tuple[int, int], shown: str) -> None:
    path = FOLDER / f"{name}_{size[0]}x{size[1]}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(shown, "utf-8")
    assert path.exists(), f"no snapshot {path.name}: UPDATE_SNAPSHOTS=1 writes it"
    kept = path.read_text("utf-8")
    if shown != kept:
        changes = unified_diff(kept.split("\n"), shown.split("\n"), path.name, "now", lineterm="")
        pytest.fail("\n".join([*changes, "If it is meant: UPDATE_SNAPSHOTS=1"]), pytrace=False)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", SCREENS)
async def test_a_screen_looks_as_it_did(name, size, run_all, judging, assisted, speakers) -> None:
    given = dict(assisted)
    if name == "live":
        await run_all(INTERACTIVE, judge="human")
        given = {"engines": {"e": speakers(latency_s=1000.0)}}
    elif name != "empty":
        protocol = protocols.load("debate").model_copy(update={"judge_sees_source": True})
        await run_all(protocol, num=3 if name == "queue" else 1)
    async with judging(size=size, name="pilot", **given) as j:
        await SCREENS[name](j)
        compare(name, size, await picture(j))


async def test_too_small_a_terminal_looks_as_it_did(run_all, judging) -> None:
    await run_all("debate")
    async with judging(size=(50, 12)) as j:
        await j.see("Make it larger")
        compare("too_small", (50, 12), await picture(j))
