"""The state of a judge's work on one debate: a fold over its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from oversight.judging import folding
from oversight.judging.folding import Change, Data, DraftWork, drafted, shared_changes
from oversight.types import EventKind, JudgingEvent, Turn, Verdict

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
class Work(DraftWork[Draft]):
    """A judge's work on one debate."""

    draft: Draft = Draft()
    swapped: bool | None = None
    """As drawn when the debate was first opened; None before."""
    arm: str | None = None
    revealed: int = -1
    """The last step whose turns were shown."""
    words: str = ""
    """To the speakers, not yet sent."""
    acted: Mapping[tuple[int, str], Mapping[str, Any]] = field(default_factory=dict)
    """Acts in a live debate that were sent to it: by (step, act)."""
    assistance: tuple[Assisted, ...] = ()
    informed: bool = False
    """The judge has been told which option is right."""

    @property
    def seat(self) -> str | None:
        """The seat on which this person has acted in a live debate: they hold no other one."""
        return next((str(each.get("seat", "")) for each in self.acted.values()), None)

    def has_said(self, turn: Turn) -> bool:
        """Whether the turn is this person's own."""
        act = self.acted.get((turn.step, turn.act.value))
        return act is not None and act.get("seat") == turn.seat.value


def fold(events: Iterable[JudgingEvent], start: Work | None = None) -> Work:
    """The work that `events` come to, in the order in which they were written."""
    return folding.fold(start or Work(), events, _CHANGES)


def apply(work: Work, event: JudgingEvent) -> Work:
    """The work after one more event."""
    return fold([event], work)


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


def _belief(work: Work, data: Data) -> Work:
    beliefs = {**work.draft.beliefs, int(data["step"]): tuple(map(float, data["probs"]))}
    return drafted(work, str(data.get("move", "")), beliefs=beliefs)


def _verdict(work: Work, data: Data) -> Work:
    return drafted(work, "", verdict=Verdict(data["verdict"]))


def _leaned(work: Work, data: Data) -> Work:
    picked = (str(data["turn"]), int(data["quote"]))
    kept = tuple(each for each in work.draft.leaned_on if each != picked)
    return drafted(work, "", leaned_on=(*kept, picked) if data["on"] else kept)


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


def _sent(work: Work, data: Data) -> Work:
    informed = work.informed or bool(data.get("informs", False))
    return replace(folding.sent(work, data), informed=informed)


def _informed(work: Work, _: Data) -> Work:
    return replace(work, informed=True)


_CHANGES: dict[EventKind, Change[Work]] = {
    **shared_changes(EventKind),
    EventKind.OPENED: _opened,
    EventKind.REVEALED: _revealed,
    EventKind.BELIEF: _belief,
    EventKind.VERDICT: _verdict,
    EventKind.LEANED: _leaned,
    EventKind.DRAFTED: _drafted,
    EventKind.ACTED: _acted,
    EventKind.ASKED: _asked,
    EventKind.ASSISTED: _assisted,
    EventKind.SENT: _sent,
    EventKind.INFORMED: _informed,
}
