"""A person's work at one item, folded from events: a draft to take back, send, and open again.

The work is a pure fold over its events, and everything that a screen shows of a person's own doing
is read from it. Nothing is kept elsewhere: after a kill, in another terminal or in a second window
the same events give the same state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from oversight.types import (
    AssistantAnswered,
    AssistantAsked,
    AttentionPaid,
    BeliefGiven,
    ChangeUndone,
    DebateActed,
    DebateOpened,
    ItemReopened,
    ItemSkipped,
    ItemUnskipped,
    JudgeInformed,
    JudgingEvent,
    JudgmentSent,
    QuestionsAnswered,
    QuoteLeanedOn,
    RatingEvent,
    RatingOpened,
    RatingSent,
    RationaleGiven,
    Record,
    Turn,
    TurnsRevealed,
    Verdict,
    VerdictChosen,
    WordsDrafted,
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
    """The turns that were not shown completely, each with the share that was shown."""
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
        """Part of the time since the last sign of life that is counted already."""

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
    """Work on any item."""

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
    """Parts of turns that have been on the person's screen, by the turn's id."""
    num_sent: int = 0
    """Number of times that it was sent: the revision of the next time."""
    is_open: bool = True
    """False after sending, until it is reopened."""
    skipped: bool = False

    @property
    def can_undo(self) -> bool:
        """True if anything can be taken back."""
        return bool(self.before)


Picked = tuple[str, int]
"""A quote: (turn id, index into that turn's quotes)."""


@dataclass(frozen=True)
class AssistantExchange:
    """An answer of the assistant, or its failure."""

    number: int
    kind: str
    request: str
    asked: str = ""
    text: str = ""
    shown_at: str = ""
    error: str = ""


@dataclass(frozen=True)
class JudgmentDraft:
    """The judgment as it stands, each change of which can be taken back."""

    beliefs: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    """The last belief that was given after each step, by step."""
    verdict: Verdict = Verdict.DECIDED
    rationale: str = ""
    leaned_on: tuple[Picked, ...] = ()

    @property
    def probs(self) -> tuple[float, ...] | None:
        """The belief as it stands now, or None before the first."""
        return self.beliefs[max(self.beliefs)] if self.beliefs else None


@dataclass(frozen=True)
class JudgingWork(DraftWork[JudgmentDraft]):
    """A judge's work on one debate."""

    draft: JudgmentDraft = JudgmentDraft()
    swapped: bool | None = None
    """True if the sides are shown swapped, as drawn on first opening; None before."""
    arm: str | None = None
    revealed: int = -1
    """The last step whose turns were shown."""
    words: str = ""
    """Words to the speakers that are not sent yet."""
    acted: Mapping[tuple[int, str], DebateActed] = field(default_factory=dict)
    """Acts in a live debate that were sent to it: by (step, act)."""
    assistance: tuple[AssistantExchange, ...] = ()
    informed: bool = False
    """The judge has been told which option is right."""

    @property
    def seat(self) -> str | None:
        """The seat on which this person has acted in a live debate: they hold no other one."""
        return next((each.seat for each in self.acted.values()), None)

    def has_said(self, turn: Turn) -> bool:
        """True if the turn is this person's own."""
        act = self.acted.get((turn.step, turn.act.value))
        return act is not None and act.seat == turn.seat.value


@dataclass(frozen=True)
class RatingDraft:
    """The rating as it stands, each change of which can be taken back."""

    answers: Mapping[str, str] = field(default_factory=dict)
    """Values by the question's name."""
    rationale: str = ""


@dataclass(frozen=True)
class RatingWork(DraftWork[RatingDraft]):
    """Someone's work on one item."""

    draft: RatingDraft = RatingDraft()
    shown: tuple[str, ...] | None = None
    """Ids of the turns, in the order drawn when the item was first opened; None before."""


W = TypeVar("W", bound=DraftWork[Any])


def fold(
    events: Iterable[JudgingEvent | RatingEvent], start: JudgingWork | None = None
) -> JudgingWork:
    """The work of a judge that `events` come to, in the order in which they were written."""
    return _fold(events, start or JudgingWork())


def fold_ratings(
    events: Iterable[JudgingEvent | RatingEvent], start: RatingWork | None = None
) -> RatingWork:
    """The work of a rater that `events` come to, in the order in which they were written."""
    return _fold(events, start or RatingWork())


def apply(work: W, event: JudgingEvent | RatingEvent) -> W:
    """The work after one more event."""
    return _fold([event], work)


def _fold(events: Iterable[JudgingEvent | RatingEvent], work: W) -> W:
    for event in events:
        change = _CHANGES.get(type(event.act))
        if change is not None:
            work = change(work, event.act)
    return work


def _drafted(work: W, move: str, **changes: Any) -> W:
    """The draft changed so; changes of one `move` are taken back together."""
    changed = replace(work.draft, **changes)
    if changed == work.draft:
        return work
    if move and move == work.move:
        return replace(work, draft=changed)
    return replace(work, draft=changed, before=(*work.before, work.draft), move=move)


def _rationale(work: W, act: RationaleGiven) -> W:
    return _drafted(work, act.move, rationale=act.text)


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


def _sent(work: W, act: JudgmentSent | RatingSent) -> W:
    # Two windows may have sent the same revision: it counts once.
    num_sent = max(work.num_sent, act.revision + 1)
    return replace(work, num_sent=num_sent, is_open=False, before=(), move="", skipped=False)


def _debate_opened(work: JudgingWork, act: DebateOpened) -> JudgingWork:
    if work.swapped is not None:
        return work
    return replace(work, swapped=act.swapped, arm=act.arm, study=act.study)


def _revealed(work: JudgingWork, act: TurnsRevealed) -> JudgingWork:
    return replace(work, revealed=max(work.revealed, act.step))


def _belief(work: JudgingWork, act: BeliefGiven) -> JudgingWork:
    return _drafted(work, act.move, beliefs={**work.draft.beliefs, act.step: act.probs})


def _verdict(work: JudgingWork, act: VerdictChosen) -> JudgingWork:
    return _drafted(work, "", verdict=act.verdict)


def _leaned(work: JudgingWork, act: QuoteLeanedOn) -> JudgingWork:
    picked = (act.turn, act.quote)
    kept = tuple(each for each in work.draft.leaned_on if each != picked)
    return _drafted(work, "", leaned_on=(*kept, picked) if act.on else kept)


def _words(work: JudgingWork, act: WordsDrafted) -> JudgingWork:
    return replace(work, words=act.text)


def _acted(work: JudgingWork, act: DebateActed) -> JudgingWork:
    key = (act.step, act.act.value)
    if key in work.acted:
        return work
    return replace(work, acted={**work.acted, key: act}, words="")


def _asked(work: JudgingWork, act: AssistantAsked) -> JudgingWork:
    asked = AssistantExchange(act.number, act.kind, act.request, act.text)
    return replace(work, assistance=(*work.assistance, asked))


def _assisted(work: JudgingWork, act: AssistantAnswered) -> JudgingWork:
    answered = tuple(
        replace(each, text=act.text, shown_at=act.shown_at, error=act.error)
        if each.number == act.number
        else each
        for each in work.assistance
    )
    return replace(work, assistance=answered)


def _judgment_sent(work: JudgingWork, act: JudgmentSent) -> JudgingWork:
    return replace(_sent(work, act), informed=work.informed or act.informs)


def _informed(work: JudgingWork, _: JudgeInformed) -> JudgingWork:
    return replace(work, informed=True)


def _item_opened(work: RatingWork, act: RatingOpened) -> RatingWork:
    if work.shown is not None:
        return work
    return replace(work, shown=act.shown, study=act.study)


def _answered(work: RatingWork, act: QuestionsAnswered) -> RatingWork:
    given = {**work.draft.answers, **act.answers}
    return _drafted(work, "", answers={k: v for k, v in given.items() if v is not None})


_CHANGES: Mapping[type[Record], Callable[[Any, Any], Any]] = {
    RationaleGiven: _rationale,
    AttentionPaid: _attention,
    ChangeUndone: _undone,
    ItemReopened: lambda work, _: replace(work, is_open=True),
    ItemSkipped: lambda work, _: replace(work, skipped=True),
    ItemUnskipped: lambda work, _: replace(work, skipped=False),
    DebateOpened: _debate_opened,
    TurnsRevealed: _revealed,
    BeliefGiven: _belief,
    VerdictChosen: _verdict,
    QuoteLeanedOn: _leaned,
    WordsDrafted: _words,
    DebateActed: _acted,
    AssistantAsked: _asked,
    AssistantAnswered: _assisted,
    JudgmentSent: _judgment_sent,
    JudgeInformed: _informed,
    RatingOpened: _item_opened,
    QuestionsAnswered: _answered,
    RatingSent: _sent,
}
"""By the class of an act: the work after it. Acts of other classes change nothing."""
