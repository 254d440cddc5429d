"""Acts of a person who judges, one by one: the log from which everything else is made."""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property

from pydantic import Field, JsonValue

from oversight.ids import text_id
from oversight.types.records import Record


class EventKind(StrEnum):
    """Kinds of judging events, with the fields that their `data` has."""

    OPENED = "opened"
    """The item was taken up: `swapped`, `arm` and `study` as they were drawn."""
    REVEALED = "revealed"
    """Turns up to this step were shown: `step`."""
    BELIEF = "belief"
    """The sliders were moved: `step`, `probs` in the question's own order, `move`, the same for all
    events of one movement, and `unseen`: of the turns that were shown by then, those that had not
    been on the judge's screen completely, each with the share that had."""
    VERDICT = "verdict"
    """The judgment that is to be sent: `verdict`."""
    RATIONALE = "rationale"
    """The rationale as it stands now: `text`, and `move` as with a belief."""
    LEANED = "leaned"
    """A quote was picked or put back: `turn`, `quote`, `on`."""
    DRAFTED = "drafted"
    """Words to the speakers that are not sent yet: `step`, `text`."""
    ACTED = "acted"
    """An act in a live debate: `step`, `seat`, `act`, `text`, `probs`, `ends`, and `unseen` as with
    a belief."""
    ASKED = "asked"
    """The assistant was asked: `number`, `request`, `text`."""
    ASSISTED = "assisted"
    """The assistant's answer: `number`, `kind`, `text`, `shown_at`, `error`."""
    ATTENTION = "attention"
    """Since the last such event: `panels`, seconds of active attention by panel, and `seen`, by
    turn the stretches of its words that came onto the screen, as shares of its length."""
    UNDONE = "undone"
    """The last act that can be taken back was taken back."""
    SENT = "sent"
    """A judgment was sent: `revision`, `informs`: the judge is told then what is right, and
    `unseen` as with a belief."""
    INFORMED = "informed"
    """The judge knows what is right, from another debate on the question."""
    REOPENED = "reopened"
    """A judgment that was sent is being revised."""
    SKIPPED = "skipped"
    """The item was put off by this judge."""
    UNSKIPPED = "unskipped"
    CLOSED = "closed"
    """The item was left."""


class JudgingEvent(Record):
    """One act of a person at one item, written down as it happens."""

    debate_id: str
    judge: str
    """Pseudonym."""
    session: str
    """One opening of the item on one screen; two windows are two sessions."""
    number: int = Field(ge=0)
    """Place within the session."""
    at: str
    """UTC, ISO 8601 with milliseconds."""
    kind: EventKind
    data: dict[str, JsonValue] = Field(default_factory=dict)

    @cached_property
    def id(self) -> str:
        place = (self.debate_id, self.judge, self.session, str(self.number))
        return text_id("judging event", *place)
