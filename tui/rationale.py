"""A rationale while it is typed: written down every so often, so that a kill costs no sentence."""

from __future__ import annotations

import time
import uuid

from textual.message_pump import MessagePump
from textual.timer import Timer

from oversight.judging.log import JudgingLog
from oversight.types import EventKind

TYPING_S = 0.3
"""How often what is being typed is written down."""


class Rationale:
    """Keeps the draft of a rationale."""

    def __init__(self, acts: JudgingLog, clock: MessagePump) -> None:
        """A draft in `acts`; `clock` has the timer that writes it down."""
        self._acts = acts
        self._clock = clock
        self._text: str | None = None
        self._move = ""
        self._written_at = 0.0
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Begin to type: all of it is taken back as one."""
        self._move = uuid.uuid4().hex[:8]

    def keep(self, text: str) -> None:
        """Keep `text`, soon."""
        self._text = text
        if time.monotonic() - self._written_at >= TYPING_S:
            self.write()
        elif self._timer is None:
            self._timer = self._clock.set_timer(TYPING_S, self.write)

    def write(self) -> None:
        """Keep it now."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self._text is not None and self._text != self._acts.work.draft.rationale:
            self._written_at = time.monotonic()
            self._acts.add(EventKind.RATIONALE, text=self._text, move=self._move)
