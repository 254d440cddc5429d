"""A screen that asks for more room where the terminal is too small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from rich.text import Text
from textual.binding import ActiveBinding
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import Static

MIN_WIDTH, MIN_HEIGHT = 60, 16

T = TypeVar("T")


class RoomyScreen(Screen[T]):
    """Has a Static `too-small`, which shows instead of all else while there is too little room.

    In the line at its foot stand only keys that do something as things are.
    """

    def offers(self, name: str) -> bool:
        """Whether the key of that name does something now."""
        return True

    @property
    def active_bindings(self) -> dict[str, ActiveBinding]:
        """All keys that are bound; those that do nothing now are kept from the foot."""
        return {
            key: each
            if not each.binding.show or self.offers(each.binding.id or "")
            else each._replace(binding=replace(each.binding, show=False))
            for key, each in super().active_bindings.items()
        }

    def show_foot(self) -> None:
        """Draw the foot anew if other keys are to stand there."""
        shown = [each.binding.action for each in self.active_bindings.values() if each.binding.show]
        if shown != self._foot:
            self._foot = shown
            self.refresh_bindings()

    _foot: Sequence[str] = ()

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
