"""A screen that asks for more room where the terminal is too small."""

from __future__ import annotations

from typing import TypeVar

from rich.text import Text
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import Static

MIN_WIDTH, MIN_HEIGHT = 60, 16

T = TypeVar("T")


class RoomyScreen(Screen[T]):
    """Has a Static `too-small`, which shows instead of all else while there is too little room."""

    def on_resize(self, event: Resize) -> None:
        """Ask for more room, or show all again."""
        width, height = event.size
        self.set_class(width < MIN_WIDTH or height < MIN_HEIGHT, "-too-small")
        for shown in self.query("#too-small").results(Static):
            shown.update(
                Text(
                    f"This terminal has {width} × {height} cells; this screen needs "
                    f"{MIN_WIDTH} × {MIN_HEIGHT}. Make it larger. Your work is kept."
                )
            )
