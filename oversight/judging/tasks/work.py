"""The state of a judge's work on one item: a pure fold over its events, as in `judging.work`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from oversight.types import RatingAct, RatingEvent


@dataclass(frozen=True)
class Draft:
    """What can be taken back: the rating as it stands."""

    answers: Mapping[str, str] = field(default_factory=dict)
    """By the name of the question."""
    rationale: str = ""


@dataclass(frozen=True)
class Work:
    """A judge's work on one item."""

    shown: tuple[str, ...] | None = None
    """Ids of the turns, in the order drawn when the item was first opened; None before."""
    study: str = ""
    draft: Draft = Draft()
    before: tuple[Draft, ...] = ()
    """Earlier drafts, which undoing leads back to."""
    move: str = ""
    """The typing of a rationale that is going on: its many events are taken back as one."""
    active_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds of active attention by panel."""
    num_sent: int = 0
    """Ratings sent: the revision of the next one."""
    is_open: bool = True
    """False after sending, until it is reopened."""
    skipped: bool = False

    @property
    def can_undo(self) -> bool:
        """Whether anything can be taken back."""
        return bool(self.before)


def fold(events: Iterable[RatingEvent], start: Work | None = None) -> Work:
    """The work that `events` come to, in the order in which they were written."""
    work = start or Work()
    for event in events:
        work = apply(work, event)
    return work


def apply(work: Work, event: RatingEvent) -> Work:
    """The work after one more event."""
    change = _CHANGES.get(event.kind)
    return change(work, event.data) if change else work


Data = Mapping[str, Any]


def _opened(work: Work, data: Data) -> Work:
    if work.shown is not None:
        return work
    return replace(work, shown=tuple(data["shown"]), study=str(data.get("study", "")))


def _draft(work: Work, move: str, **changes: Any) -> Work:
    changed = replace(work.draft, **changes)
    if changed == work.draft:
        return work
    if move and move == work.move:
        return replace(work, draft=changed)
    return replace(work, draft=changed, before=(*work.before, work.draft), move=move)


def _answered(work: Work, data: Data) -> Work:
    given = {**work.draft.answers, **data["answers"]}
    return _draft(work, "", answers={k: str(v) for k, v in given.items() if v is not None})


def _rationale(work: Work, data: Data) -> Work:
    return _draft(work, str(data.get("move", "")), rationale=str(data["text"]))


def _attention(work: Work, data: Data) -> Work:
    total = dict(work.active_s)
    for panel, seconds in data["panels"].items():
        total[panel] = total.get(panel, 0.0) + max(float(seconds), 0.0)
    return replace(work, active_s=total)


def _undone(work: Work, _: Data) -> Work:
    if not work.before:
        return work
    return replace(work, draft=work.before[-1], before=work.before[:-1], move="")


def _sent(work: Work, data: Data) -> Work:
    # Two windows may have sent the same revision: it counts once.
    num_sent = max(work.num_sent, int(data["revision"]) + 1)
    return replace(work, num_sent=num_sent, is_open=False, before=(), move="", skipped=False)


_CHANGES: dict[RatingAct, Callable[[Work, Data], Work]] = {
    RatingAct.OPENED: _opened,
    RatingAct.ANSWERED: _answered,
    RatingAct.RATIONALE: _rationale,
    RatingAct.ATTENTION: _attention,
    RatingAct.UNDONE: _undone,
    RatingAct.SENT: _sent,
    RatingAct.REOPENED: lambda work, _: replace(work, is_open=True),
    RatingAct.SKIPPED: lambda work, _: replace(work, skipped=True),
    RatingAct.UNSKIPPED: lambda work, _: replace(work, skipped=False),
}
