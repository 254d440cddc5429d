"""A screen as text, in both themes, and what it is held against.

A snapshot is a text file: the screen's words, then each line's styles as runs (`12a 3b`: twelve
cells in style a, three in b) with what each letter means, dark and light.
"""

from __future__ import annotations

import os
from difflib import unified_diff
from itertools import groupby
from pathlib import Path
from string import ascii_letters
from typing import Any, Protocol

import pytest
from rich.style import Style
from textual.app import App
from textual.color import Color
from textual.pilot import Pilot
from textual.widgets import Input, TextArea

SIZES = ((80, 24), (140, 45))
THEMES = ("textual-dark", "textual-light")
LETTERS = ascii_letters

at_each_size = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")


class Driven(Protocol):
    """An app in a test."""

    app: App[None]
    pilot: Pilot[None]

    @property
    def text(self) -> str:
        """The words on the screen, line by line."""
        ...


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


def words_of(driven: Driven) -> list[str]:
    """The lines of the screen."""
    return [line.rstrip() for line in driven.text.split("\n")]


def styles_of(driven: Driven) -> list[str]:
    """Runs of styles a line, and a legend."""
    letters: dict[str, str] = {}
    lines = []
    for strip in driven.app.screen._compositor.render_strips():
        cells = [
            letters.setdefault(_looks(segment.style), LETTERS[len(letters)])
            for segment in strip
            for _ in range(segment.cell_length)
        ]
        lines.append(" ".join(f"{len(list(run))}{letter}" for letter, run in groupby(cells)))
    return [*lines, *(f"{letter} = {looks}" for looks, letter in letters.items())]


async def picture(driven: Driven) -> str:
    """The screen as text, in both themes."""
    screen = driven.app.screen
    for cursor in [*screen.query(TextArea), *screen.query(Input)]:
        cursor.cursor_blink = False
    parts = []
    for theme in THEMES:
        driven.app.theme = theme
        await driven.pilot.pause()
        await driven.pilot.pause(0.1)
        if not parts:
            parts.append("\n".join(words_of(driven)))
        parts.append("\n".join([f"--- {theme}", *styles_of(driven)]))
    return "\n".join(parts) + "\n"


async def looks_as_kept(driven: Driven, folder: Path, name: str) -> None:
    """Fail unless the screen is as in `folder`; UPDATE_SNAPSHOTS=1 keeps it as it is now."""
    size = driven.app.size
    _compare(folder / f"{name}_{size.width}x{size.height}.txt", await picture(driven))


def _compare(path: Path, shown: str) -> None:
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(shown, "utf-8")
    assert path.exists(), f"no snapshot {path.name}: UPDATE_SNAPSHOTS=1 writes it"
    kept = path.read_text("utf-8")
    if shown != kept:
        changes = unified_diff(kept.split("\n"), shown.split("\n"), path.name, "now", lineterm="")
        pytest.fail("\n".join([*changes, "If it is meant: UPDATE_SNAPSHOTS=1"]), pytrace=False)
