"""What a person's work on any item is: a draft that can be taken back, sent, and opened again.

The work is a pure fold over its events, and everything that a screen shows of a person's own doing
is read from it. Nothing is kept elsewhere: after a kill, in another terminal or in a second window
the same events give the same state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

from oversight.types import (
    AttentionPaid,
    ChangeUndone,
    ItemReopened,
    ItemSkipped,
    ItemUnskipped,
    JudgmentSent,
    RatingSent,
    RationaleGiven,
    Record,
)

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


D = TypeVar("D")


@dataclass(frozen=True)
class DraftWork(Generic[D]):
    """What judging and rating share."""

    draft: D
    study: str = ""
    before: tuple[D, ...] = ()
    """Earlier drafts, which undoing leads back to."""
    move: str = ""
    """The movement of a slider, or the typing of a rationale, that is going on: its many events
    are taken back as one."""
    active_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds of active attention by panel."""
    seen: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    """By the turn's id: what of it has been on the person's screen."""
    num_sent: int = 0
    """How often it was sent: the revision of the next time."""
    is_open: bool = True
    """False after sending, until it is reopened."""
    skipped: bool = False

    @property
    def can_undo(self) -> bool:
        """Whether anything can be taken back."""
        return bool(self.before)


W = TypeVar("W", bound=DraftWork[Any])
Changes = Mapping[type[Record], Callable[[W, Any], W]]
"""By the class of an act: the work after it."""


class Happened(Protocol):
    """An event."""

    @property
    def act(self) -> Record:
        """What happened."""


def fold_events(work: W, events: Iterable[Happened], changes: Changes[W]) -> W:
    """The work after `events`, in the order in which they were written.

    Acts whose class is not in `changes` change nothing.
    """
    for event in events:
        change = changes.get(type(event.act))
        if change is not None:
            work = change(work, event.act)
    return work


def drafted(work: W, move: str, **changes: Any) -> W:
    """The draft changed so; changes of one `move` are taken back together."""
    changed = replace(work.draft, **changes)
    if changed == work.draft:
        return work
    if move and move == work.move:
        return replace(work, draft=changed)
    return replace(work, draft=changed, before=(*work.before, work.draft), move=move)


def _rationale(work: W, act: RationaleGiven) -> W:
    return drafted(work, act.move, rationale=act.text)


def _attention(work: W, act: AttentionPaid) -> W:
    total = dict(work.active_s)
    for panel, seconds in act.panels.items():
        total[panel] = total.get(panel, 0.0) + max(seconds, 0.0)
    seen = dict(work.seen)
    for turn, spans in act.seen.items():
        seen[turn] = joined((*seen.get(turn, ()), *spans))
    return replace(work, active_s=total, seen=seen)


def _undone(work: W, _: ChangeUndone) -> W:
    if not work.before:
        return work
    return replace(work, draft=work.before[-1], before=work.before[:-1], move="")


def sent(work: W, act: JudgmentSent | RatingSent) -> W:
    """The work once it has been sent."""
    # Two windows may have sent the same revision: it counts once.
    num_sent = max(work.num_sent, act.revision + 1)
    return replace(work, num_sent=num_sent, is_open=False, before=(), move="", skipped=False)


SHARED_CHANGES: Changes[Any] = {
    RationaleGiven: _rationale,
    AttentionPaid: _attention,
    ChangeUndone: _undone,
    ItemReopened: lambda work, _: replace(work, is_open=True),
    ItemSkipped: lambda work, _: replace(work, skipped=True),
    ItemUnskipped: lambda work, _: replace(work, skipped=False),
}
"""Changes of the work by the acts that judging and rating share."""
