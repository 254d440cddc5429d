"""The state of someone's work on an item of a task: a fold over its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from oversight.judging import folding
from oversight.judging.folding import Change, Data, DraftWork, drafted, shared_changes
from oversight.types import RatingAct, RatingEvent


@dataclass(frozen=True)
class Draft:
    """What can be taken back: the rating as it stands."""

    answers: Mapping[str, str] = field(default_factory=dict)
    """By the name of the question."""
    rationale: str = ""


@dataclass(frozen=True)
class Work(DraftWork[Draft]):
    """Someone's work on one item."""

    draft: Draft = Draft()
    shown: tuple[str, ...] | None = None
    """Ids of the turns, in the order drawn when the item was first opened; None before."""


def fold(events: Iterable[RatingEvent], start: Work | None = None) -> Work:
    """The work that `events` come to, in the order in which they were written."""
    return folding.fold(start or Work(), events, _CHANGES)


def apply(work: Work, event: RatingEvent) -> Work:
    """The work after one more event."""
    return fold([event], work)


def _opened(work: Work, data: Data) -> Work:
    if work.shown is not None:
        return work
    return replace(work, shown=tuple(data["shown"]), study=str(data.get("study", "")))


def _answered(work: Work, data: Data) -> Work:
    given = {**work.draft.answers, **data["answers"]}
    return drafted(work, "", answers={k: str(v) for k, v in given.items() if v is not None})


_CHANGES: dict[RatingAct, Change[Work]] = {
    **shared_changes(RatingAct),
    RatingAct.OPENED: _opened,
    RatingAct.ANSWERED: _answered,
}
