"""The state of a judge's work on one debate: a fold over its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from oversight.judging.folding import SHARED_CHANGES, Changes, DraftWork, drafted, fold_events, sent
from oversight.types import (
    AssistantAnswered,
    AssistantAsked,
    BeliefGiven,
    DebateActed,
    DebateOpened,
    JudgeInformed,
    JudgingEvent,
    JudgmentSent,
    QuoteLeanedOn,
    Turn,
    TurnsRevealed,
    Verdict,
    VerdictChosen,
    WordsDrafted,
)

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
class JudgmentDraft:
    """The judgment as it stands, each change of which can be taken back."""

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
class JudgingWork(DraftWork[JudgmentDraft]):
    """A judge's work on one debate."""

    draft: JudgmentDraft = JudgmentDraft()
    swapped: bool | None = None
    """As drawn when the debate was first opened; None before."""
    arm: str | None = None
    revealed: int = -1
    """The last step whose turns were shown."""
    words: str = ""
    """To the speakers, not yet sent."""
    acted: Mapping[tuple[int, str], DebateActed] = field(default_factory=dict)
    """Acts in a live debate that were sent to it: by (step, act)."""
    assistance: tuple[Assisted, ...] = ()
    informed: bool = False
    """The judge has been told which option is right."""

    @property
    def seat(self) -> str | None:
        """The seat on which this person has acted in a live debate: they hold no other one."""
        return next((each.seat for each in self.acted.values()), None)

    def has_said(self, turn: Turn) -> bool:
        """Whether the turn is this person's own."""
        act = self.acted.get((turn.step, turn.act.value))
        return act is not None and act.seat == turn.seat.value


def fold(events: Iterable[JudgingEvent], start: JudgingWork | None = None) -> JudgingWork:
    """The work that `events` come to, in the order in which they were written."""
    return fold_events(start or JudgingWork(), events, _CHANGES)


def apply(work: JudgingWork, event: JudgingEvent) -> JudgingWork:
    """The work after one more event."""
    return fold([event], work)


def _opened(work: JudgingWork, act: DebateOpened) -> JudgingWork:
    if work.swapped is not None:
        return work
    return replace(work, swapped=act.swapped, arm=act.arm, study=act.study)


def _revealed(work: JudgingWork, act: TurnsRevealed) -> JudgingWork:
    return replace(work, revealed=max(work.revealed, act.step))


def _belief(work: JudgingWork, act: BeliefGiven) -> JudgingWork:
    return drafted(work, act.move, beliefs={**work.draft.beliefs, act.step: act.probs})


def _verdict(work: JudgingWork, act: VerdictChosen) -> JudgingWork:
    return drafted(work, "", verdict=act.verdict)


def _leaned(work: JudgingWork, act: QuoteLeanedOn) -> JudgingWork:
    picked = (act.turn, act.quote)
    kept = tuple(each for each in work.draft.leaned_on if each != picked)
    return drafted(work, "", leaned_on=(*kept, picked) if act.on else kept)


def _drafted(work: JudgingWork, act: WordsDrafted) -> JudgingWork:
    return replace(work, words=act.text)


def _acted(work: JudgingWork, act: DebateActed) -> JudgingWork:
    key = (act.step, act.act.value)
    if key in work.acted:
        return work
    return replace(work, acted={**work.acted, key: act}, words="")


def _asked(work: JudgingWork, act: AssistantAsked) -> JudgingWork:
    asked = Assisted(act.number, act.kind, act.request, act.text)
    return replace(work, assistance=(*work.assistance, asked))


def _assisted(work: JudgingWork, act: AssistantAnswered) -> JudgingWork:
    answered = tuple(
        replace(each, text=act.text, shown_at=act.shown_at, error=act.error)
        if each.number == act.number
        else each
        for each in work.assistance
    )
    return replace(work, assistance=answered)


def _sent(work: JudgingWork, act: JudgmentSent) -> JudgingWork:
    return replace(sent(work, act), informed=work.informed or act.informs)


def _informed(work: JudgingWork, _: JudgeInformed) -> JudgingWork:
    return replace(work, informed=True)


_CHANGES: Changes[JudgingWork] = {
    **SHARED_CHANGES,
    DebateOpened: _opened,
    TurnsRevealed: _revealed,
    BeliefGiven: _belief,
    VerdictChosen: _verdict,
    QuoteLeanedOn: _leaned,
    WordsDrafted: _drafted,
    DebateActed: _acted,
    AssistantAsked: _asked,
    AssistantAnswered: _assisted,
    JudgmentSent: _sent,
    JudgeInformed: _informed,
}
