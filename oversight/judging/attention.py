"""What a person attended to: seconds by panel, and what of each turn was on their screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

Span = tuple[float, float]
"""A stretch of a turn, each end as a share of its whole length: (0, 1) is all of it."""

WHOLE: tuple[Span, ...] = ((0.0, 1.0),)


def joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The same stretches in order, with those that touch or overlap made one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return tuple(found)


def unseen(seen: Mapping[str, Iterable[Span]], turns: Iterable[str]) -> dict[str, float]:
    """Of these turns those that were not shown completely, each with the share that was shown."""
    shares = {turn: sum(end - start for start, end in seen.get(turn, ())) for turn in turns}
    return {turn: min(round(share, 3), 0.999) for turn, share in shares.items() if share < 1.0}


class Attention:
    """Counts for one panel at a time. A sign of life is a key, a scroll or a movement.

    The time between two signs counts for the panel of the earlier one, but no more of it than
    `idle_s`: who goes for a coffee is not reading.
    """

    def __init__(self, idle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_s = idle_s
        self._clock = clock
        self._panel: str | None = None
        self._last = 0.0
        self._seconds: dict[str, float] = {}
        self._counted = 0.0
        """Of the time since the last sign of life, what is counted already."""

    def touch(self, panel: str) -> None:
        """A sign of life at `panel`."""
        self._count()
        self._panel = panel
        self._counted = 0.0

    def take(self) -> dict[str, float]:
        """Seconds by panel since the last time they were taken."""
        self._count()
        taken = {name: round(s, 3) for name, s in self._seconds.items() if s >= 0.001}
        self._seconds = {}
        return taken

    def stop(self) -> dict[str, float]:
        """Take what there is, and count on only from the next sign of life."""
        taken = self.take()
        self._panel = None
        return taken

    def _count(self) -> None:
        now = self._clock()
        if self._panel is not None:
            passed = min(max(now - self._last, 0.0), self._idle_s - self._counted)
            if passed > 0:
                self._seconds[self._panel] = self._seconds.get(self._panel, 0.0) + passed
                self._counted += passed
        self._last = now
