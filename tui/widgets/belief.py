"""The judge's belief: a bar for each option, all coupled, moved by keys or by typing a number."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

from rich.text import Text
from textual.events import Click
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static

from oversight.judging.judgment import coupled
from oversight.text.terminal import rich_text

BAR_WIDTH = 20
BAR_AT = 4
"""Cells of a line before its bar."""
TYPE_S = 1.0
"""How long a single digit waits for a second one."""
MOVE_S = 1.5
"""Movements closer together than this are one, for undoing."""


class BeliefBar(Static):
    """Shows a belief, and says how the judge changes it."""

    class Changed(Message):
        """The judge wants another belief."""

        def __init__(self, probs: tuple[float, ...], move: str) -> None:
            super().__init__()
            self.probs = probs
            """In the question's own order."""
            self.move = move
            """The same for all changes of one movement."""

    def __init__(self, options: Sequence[tuple[str, str, int]], id: str | None = None) -> None:
        """For options (letter, text, index in the question's order), as they are listed."""
        super().__init__(id=id)
        self._options = list(options)
        self._probs: tuple[float, ...] | None = None
        self._selected = 0
        self._typed = ""
        self._typing: Timer | None = None
        self._move, self._moved_at = "", 0.0
        self._is_new = True

    def show(self, probs: tuple[float, ...] | None) -> None:
        """Show a belief, in the question's own order; None before one was given."""
        self._probs = probs
        self._draw()

    def select_next(self) -> None:
        """Change the belief in the next option from now on."""
        self.apply_typed()
        self._selected = (self._selected + 1) % len(self._options)
        self._draw()

    def change(self, by: float) -> None:
        """Move the selected option's belief."""
        index = self._options[self._selected][2]
        now = 1 / len(self._options) if self._probs is None else self._probs[index]
        self._set(now + by)

    def type_digit(self, digit: str) -> None:
        """Take a digit of a belief in percent; two are taken at once, one after a second."""
        self._typed += digit
        if self._typing is not None:
            self._typing.stop()
        if len(self._typed) == 2:
            self.apply_typed()
        else:
            self._typing = self.set_timer(TYPE_S, self.apply_typed)
            self._draw()

    def apply_typed(self) -> None:
        """Take what was typed so far."""
        typed, self._typed = self._typed, ""
        if self._typing is not None:
            self._typing.stop()
            self._typing = None
        if typed:
            self._set(int(typed) / 100)
            self._draw()

    def drop_typed(self) -> bool:
        """Forget a digit that waits for a second one; whether there was one."""
        typed, self._typed = self._typed, ""
        if self._typing is not None:
            self._typing.stop()
            self._typing = None
        if typed:
            self._draw()
        return bool(typed)

    def end_move(self) -> None:
        """Make the next change a movement of its own."""
        self._moved_at = 0.0

    def on_click(self, event: Click) -> None:
        """A click on a bar sets it."""
        offset = event.get_content_offset(self)
        if offset is not None and offset.y < len(self._options):
            self._selected = offset.y
            place = (offset.x - BAR_AT + 0.5) / BAR_WIDTH
            if 0 <= place <= 1:
                self._set(place)
            self._draw()

    def _set(self, value: float) -> None:
        now = time.monotonic()
        if now - self._moved_at > MOVE_S:
            self._move = uuid.uuid4().hex[:8]
        self._moved_at = now
        index = self._options[self._selected][2]
        # Shown at once: a second key must not start from what stood before the first.
        self._probs = coupled(self._probs, len(self._options), index, value)
        self.post_message(self.Changed(self._probs, self._move))

    def _draw(self) -> None:
        whole = Text(no_wrap=True, overflow="ellipsis")
        for place, (label, text, index) in enumerate(self._options):
            is_selected = place == self._selected
            probability = None if self._probs is None else self._probs[index]
            whole.append("\n" if place else "")
            whole.append(f"{'▸' if is_selected else ' '} {label} ", style="bold")
            whole.append_text(_bar(probability))
            if self._typed and is_selected:
                whole.append(f" {self._typed}_ %  ", style="reverse")
            else:
                whole.append(" not yet  " if probability is None else f" {probability:4.0%}  ")
            whole.append_text(rich_text(" ".join(text.split())))
        self.update(whole, layout=self._is_new)
        self._is_new = False


def _bar(p: float | None) -> Text:
    filled = 0 if p is None else round(p * BAR_WIDTH)
    return Text("█" * filled + "░" * (BAR_WIDTH - filled), style="yellow")
