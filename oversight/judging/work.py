"""The state of a judge's work on one item: a pure fold over its events.

Everything that a screen shows of the judge's own doing is read from here, and nothing is kept
elsewhere: after a kill, in another terminal or in a second window, the same events give the
same state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from oversight.types import EventKind, JudgingEvent, Verdict

Picked = tuple[str, int]
"""A quote: (turn id, index into that turn's quotes)."""


@dataclass(frozen=True)
class Assisted:
    """An answer of the assistant, or its failure."""

    number: int
    kind: str
    request: str
    asked: str = ""
    text: str = ""
    shown_at: str = ""
    error: str = ""


@dataclass(frozen=True)
class Draft:
    """What can be taken back: the judgment as it stands."""

    beliefs: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    """By step: the last belief that was given with this much of the debate read."""
    verdict: Verdict = Verdict.DECIDED
    rationale: str = ""
    leaned_on: tuple[Picked, ...] = ()

    @property
    def probs(self) -> tuple[float, ...] | None:
        """The belief as it stands now, or None before the first."""
        return self.beliefs[max(self.beliefs)] if self.beliefs else None


@dataclass(frozen=True)
class Work:
    """A judge's work on one item."""

    swapped: bool | None = None
    """As drawn when the item was first opened; None before."""
    arm: str | None = None
    study: str = ""
    draft: Draft = Draft()
    before: tuple[Draft, ...] = ()
    """Earlier drafts, which undoing leads back to."""
    move: str = ""
    """The movement of a slider, or the typing of a rationale, that is going on: its many events
    are taken back as one."""
    revealed: int = -1
    """The last step whose turns were shown."""
    words: str = ""
    """To the speakers, not yet sent."""
    acted: Mapping[tuple[int, str], Mapping[str, Any]] = field(default_factory=dict)
    """Acts in a live debate that were sent to it: by (step, act)."""
    assistance: tuple[Assisted, ...] = ()
    active_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds of active attention by panel."""
    num_sent: int = 0
    """Judgments sent: the revision of the next one."""
    informed: bool = False
    """The judge has been told which option is right."""
    is_open: bool = True
    """False after sending, until it is reopened."""
    skipped: bool = False

    @property
    def seat(self) -> str | None:
        """The seat on which this person has acted in a live debate: they hold no other one."""
        return next((str(each.get("seat", "")) for each in self.acted.values()), None)

    @property
    def can_undo(self) -> bool:
        """Whether anything can be taken back."""
        return bool(self.before)


def fold(events: Iterable[JudgingEvent], start: Work | None = None) -> Work:
    """The work that `events` come to, in the order in which they were written."""
    work = start or Work()
    for event in events:
        work = apply(work, event)
    return work


def apply(work: Work, event: JudgingEvent) -> Work:
    """The work after one more event. Events of another version's kinds change nothing."""
    change = _CHANGES.get(event.kind)
    return change(work, event.data) if change else work


Data = Mapping[str, Any]


def _opened(work: Work, data: Data) -> Work:
    if work.swapped is not None:
        return work
    return replace(
        work,
        swapped=bool(data.get("swapped", False)),
        arm=data.get("arm"),
        study=str(data.get("study", "")),
    )


def _revealed(work: Work, data: Data) -> Work:
    return replace(work, revealed=max(work.revealed, int(data["step"])))


def _draft(work: Work, move: str, **changes: Any) -> Work:
    changed = replace(work.draft, **changes)
    if changed == work.draft:
        return work
    if move and move == work.move:
        return replace(work, draft=changed)
    return replace(work, draft=changed, before=(*work.before, work.draft), move=move)


def _belief(work: Work, data: Data) -> Work:
    beliefs = {**work.draft.beliefs, int(data["step"]): tuple(map(float, data["probs"]))}
    return _draft(work, str(data.get("move", "")), beliefs=beliefs)


def _verdict(work: Work, data: Data) -> Work:
    return _draft(work, "", verdict=Verdict(data["verdict"]))


def _rationale(work: Work, data: Data) -> Work:
    return _draft(work, str(data.get("move", "")), rationale=str(data["text"]))


def _leaned(work: Work, data: Data) -> Work:
    picked = (str(data["turn"]), int(data["quote"]))
    kept = tuple(each for each in work.draft.leaned_on if each != picked)
    return _draft(work, "", leaned_on=(*kept, picked) if data["on"] else kept)


def _drafted(work: Work, data: Data) -> Work:
    return replace(work, words=str(data["text"]))


def _acted(work: Work, data: Data) -> Work:
    key = (int(data["step"]), str(data["act"]))
    if key in work.acted:
        return work
    return replace(work, acted={**work.acted, key: dict(data)}, words="")


def _asked(work: Work, data: Data) -> Work:
    asked = Assisted(
        int(data["number"]), str(data["kind"]), str(data["request"]), str(data.get("text", ""))
    )
    return replace(work, assistance=(*work.assistance, asked))


def _assisted(work: Work, data: Data) -> Work:
    number = int(data["number"])
    answered = tuple(
        replace(
            each,
            text=str(data.get("text", "")),
            shown_at=str(data.get("shown_at", "")),
            error=str(data.get("error", "")),
        )
        if each.number == number
        else each
        for each in work.assistance
    )
    return replace(work, assistance=answered)


def _attention(work: Work, data: Data) -> Work:
    panels: Mapping[str, float] = data["panels"]
    total = dict(work.active_s)
    for panel, seconds in panels.items():
        total[panel] = total.get(panel, 0.0) + max(float(seconds), 0.0)
    return replace(work, active_s=total)


def _undone(work: Work, _: Data) -> Work:
    if not work.before:
        return work
    return replace(work, draft=work.before[-1], before=work.before[:-1], move="")


def _sent(work: Work, data: Data) -> Work:
    # Two windows may have sent the same revision: it counts once.
    num_sent = max(work.num_sent, int(data["revision"]) + 1)
    return replace(
        work,
        num_sent=num_sent,
        informed=work.informed or bool(data.get("informs", False)),
        is_open=False,
        before=(),
        move="",
        skipped=False,
    )


def _informed(work: Work, _: Data) -> Work:
    return replace(work, informed=True)


def _reopened(work: Work, _: Data) -> Work:
    return replace(work, is_open=True)


def _skipped(work: Work, _: Data) -> Work:
    return replace(work, skipped=True)


def _unskipped(work: Work, _: Data) -> Work:
    return replace(work, skipped=False)


_CHANGES: dict[EventKind, Callable[[Work, Data], Work]] = {
    EventKind.OPENED: _opened,
    EventKind.REVEALED: _revealed,
    EventKind.BELIEF: _belief,
    EventKind.VERDICT: _verdict,
    EventKind.RATIONALE: _rationale,
    EventKind.LEANED: _leaned,
    EventKind.DRAFTED: _drafted,
    EventKind.ACTED: _acted,
    EventKind.ASKED: _asked,
    EventKind.ASSISTED: _assisted,
    EventKind.ATTENTION: _attention,
    EventKind.UNDONE: _undone,
    EventKind.SENT: _sent,
    EventKind.INFORMED: _informed,
    EventKind.REOPENED: _reopened,
    EventKind.SKIPPED: _skipped,
    EventKind.UNSKIPPED: _unskipped,
}
