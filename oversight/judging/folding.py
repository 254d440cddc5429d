"""What a person's work on any item is: a draft that can be taken back, sent, and opened again.

The work is a pure fold over its events, and everything that a screen shows of a person's own doing
is read from it. Nothing is kept elsewhere: after a kill, in another terminal or in a second window
the same events give the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

from oversight.judging.attention import Span, joined
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


def fold(work: W, events: Iterable[Happened], changes: Changes[W]) -> W:
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
"""What acts do that judging and rating both have."""
