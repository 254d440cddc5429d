"""A rationale while it is typed: written down every so often, so that a kill costs no sentence."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from textual.message_pump import MessagePump
from textual.timer import Timer

TYPING_S = 0.3
"""How often what is being typed is written down."""


class Rationale:
    """Keeps the draft of a rationale."""

    def __init__(self, note: Callable[[str, str], None], clock: MessagePump) -> None:
        """A draft that `note` writes down, given its text and the name of the movement that all of
        its typing is; `clock` has the timer that does so."""
        self._note = note
        self._clock = clock
        self._text: str | None = None
        self._move = ""
        self._noted_at = 0.0
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Begin to type: all of it is taken back as one."""
        self._text = None
        self._move = uuid.uuid4().hex[:8]

    def keep(self, text: str) -> None:
        """Keep `text`, soon."""
        self._text = text
        if time.monotonic() - self._noted_at >= TYPING_S:
            self.write()
        elif self._timer is None:
            self._timer = self._clock.set_timer(TYPING_S, self.write)

    def write(self) -> None:
        """Keep it now."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self._text is not None:
            self._noted_at = time.monotonic()
            self._note(self._text, self._move)
            self._text = None
