"""The acts of people while they judge and rate: the log from which all else is made.

Every kind of act is a class of its own; `AnyJudgingAct` and `AnyRatingAct` are the unions of those
of a judge and of a rater, told apart by `event`. A row of the store holds an act as `kind` and
`data`; of its fields those that were given, so that rows of earlier versions, which had fewer,
stay what they are.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from oversight.ids import text_id
from oversight.types.protocols import Act
from oversight.types.ratings import Feedback
from oversight.types.samples import PromptRecord, Record, Sample, Verdict
from oversight.types.transcripts import Debate, Judgment, Outcome, Question, Turn

Spans = tuple[tuple[float, float], ...]
"""Stretches of a turn, each end as a share of its length."""


class EventKind(StrEnum):
    """Kinds of judging events."""

    OPENED = "opened"
    REVEALED = "revealed"
    BELIEF = "belief"
    VERDICT = "verdict"
    RATIONALE = "rationale"
    LEANED = "leaned"
    DRAFTED = "drafted"
    ACTED = "acted"
    ASKED = "asked"
    ASSISTED = "assisted"
    ATTENTION = "attention"
    UNDONE = "undone"
    SENT = "sent"
    INFORMED = "informed"
    REOPENED = "reopened"
    SKIPPED = "skipped"
    UNSKIPPED = "unskipped"
    CLOSED = "closed"


class RatingAct(StrEnum):
    """Kinds of rating events."""

    OPENED = "opened"
    ANSWERED = "answered"
    RATIONALE = "rationale"
    ATTENTION = "attention"
    UNDONE = "undone"
    SENT = "sent"
    REOPENED = "reopened"
    SKIPPED = "skipped"
    UNSKIPPED = "unskipped"
    CLOSED = "closed"


# --- acts of judging and of rating --------------------------------------------------------


class RationaleGiven(Record):
    """The rationale as it stands now."""

    event: Literal["rationale"] = "rationale"
    text: str
    move: str = ""
    """The same for one sitting of typing: it is taken back as one."""


class AttentionPaid(Record):
    """Attention was paid since the last such event."""

    event: Literal["attention"] = "attention"
    panels: dict[str, float]
    """Seconds of active attention by panel."""
    seen: dict[str, Spans] = Field(default_factory=dict)
    """By the turn's id, the stretches of its words that came onto the screen."""


class ChangeUndone(Record):
    """The last act that can be taken back was taken back."""

    event: Literal["undone"] = "undone"


class ItemReopened(Record):
    """A judgment that was sent is being revised."""

    event: Literal["reopened"] = "reopened"


class ItemSkipped(Record):
    """The item was put off by this person."""

    event: Literal["skipped"] = "skipped"


class ItemUnskipped(Record):
    """An item that was put off is to come again."""

    event: Literal["unskipped"] = "unskipped"


class ItemClosed(Record):
    """The item was left."""

    event: Literal["closed"] = "closed"


# --- acts of judging ----------------------------------------------------------------------


class DebateOpened(Record):
    """A debate was taken up, with what was drawn for it."""

    event: Literal["opened"] = "opened"
    swapped: bool = False
    """The sides are shown the other way round."""
    arm: str | None = None
    """Of the study: which help there is."""
    study: str = ""


class TurnsRevealed(Record):
    """Turns up to this step were shown."""

    event: Literal["revealed"] = "revealed"
    step: int


class BeliefGiven(Record):
    """The belief was changed."""

    event: Literal["belief"] = "belief"
    step: int
    """The last one that had been shown by then."""
    probs: tuple[float, ...]
    """In the question's own order."""
    move: str = ""
    """The same for all events of one movement of the slider."""
    unseen: dict[str, float] = Field(default_factory=dict)
    """Of the turns that were shown by then, those that had not been on the judge's screen
    completely, each with the share that had."""


class VerdictChosen(Record):
    """The verdict of the judgment was chosen."""

    event: Literal["verdict"] = "verdict"
    verdict: Verdict


class QuoteLeanedOn(Record):
    """A quote was picked or put back."""

    event: Literal["leaned"] = "leaned"
    turn: str
    """Its id."""
    quote: int
    """Index among its quotes."""
    on: bool


class WordsDrafted(Record):
    """Words to the speakers that are not sent yet."""

    event: Literal["drafted"] = "drafted"
    step: int
    text: str


class DebateActed(Record):
    """An act was given to a live debate that waited for it."""

    event: Literal["acted"] = "acted"
    step: int
    seat: str = ""
    act: Act
    text: str = ""
    probs: tuple[float, ...] | None = None
    ends: bool = False
    """The debate ends with it."""
    unseen: dict[str, float] = Field(default_factory=dict)
    """As with a belief."""


class AssistantAsked(Record):
    """The assistant was asked."""

    event: Literal["asked"] = "asked"
    number: int
    """Its answer has the same."""
    kind: str
    """Kind of assistant, as the study names it."""
    request: str
    """For what, see `Help`."""
    text: str = ""
    """The judge's own words."""
    turn: str | None = None
    """Id of the turn that it is about."""


class AssistantAnswered(Record):
    """The assistant answered, or failed to with an error."""

    event: Literal["assisted"] = "assisted"
    number: int
    kind: str = ""
    text: str = ""
    shown_at: str = ""
    """Time at which its first word was on the screen, as `at`; empty if none was."""
    error: str = ""
    samples: tuple[Sample, ...] = ()


class JudgmentSent(Record):
    """A judgment was sent."""

    event: Literal["sent"] = "sent"
    revision: int
    informs: bool = False
    """The judge is told then what is right."""
    unseen: dict[str, float] | None = None
    """As with a belief; None: nobody recorded that."""


class JudgeInformed(Record):
    """The judge knows what is right, from another debate on the question."""

    event: Literal["informed"] = "informed"


# --- acts of rating -----------------------------------------------------------------------


class RatingOpened(Record):
    """An item to be rated was taken up."""

    event: Literal["opened"] = "opened"
    shown: tuple[str, ...] = ()
    """Ids of its turns in the order that was drawn; none: as they are listed."""
    study: str = ""


class QuestionsAnswered(Record):
    """Answers as they stand now."""

    event: Literal["answered"] = "answered"
    answers: dict[str, str | None]
    """By the question's name; None takes one back."""
    unseen: dict[str, float] = Field(default_factory=dict)
    """Of the turns that are asked about, those that had not been on the screen completely by
    then, each with the share that had."""


class RatingSent(Record):
    """A rating was sent."""

    event: Literal["sent"] = "sent"
    revision: int
    unseen: dict[str, float] | None = None
    """As with an answer; None: nobody recorded that."""


# --- events -------------------------------------------------------------------------------

SharedAct: typing.TypeAlias = (
    RationaleGiven
    | AttentionPaid
    | ChangeUndone
    | ItemReopened
    | ItemSkipped
    | ItemUnskipped
    | ItemClosed
)
AnyJudgingAct: typing.TypeAlias = (
    SharedAct
    | DebateOpened
    | TurnsRevealed
    | BeliefGiven
    | VerdictChosen
    | QuoteLeanedOn
    | WordsDrafted
    | DebateActed
    | AssistantAsked
    | AssistantAnswered
    | JudgmentSent
    | JudgeInformed
)
AnyRatingAct: typing.TypeAlias = SharedAct | RatingOpened | QuestionsAnswered | RatingSent


class _PersonEvent(Record):
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

    @property
    def data(self) -> dict[str, JsonValue]:
        """The act's fields as they stand in the store."""
        return _fields(self.__dict__["act"])

    @model_validator(mode="before")
    @classmethod
    def _from_row(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "kind" not in given:
            return given
        rest = {key: value for key, value in given.items() if key not in ("kind", "data")}
        fields = given.get("data", {})
        if not isinstance(fields, Mapping):
            raise ValueError("data is no object")
        if "event" in fields:
            raise ValueError("data.event is no field of any act")
        return {**rest, "act": {**fields, "event": given["kind"]}}

    @model_serializer(mode="wrap")
    def _to_row(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        row: dict[str, Any] = dump(self)
        if row.pop("act", None) is None:
            return row
        first: dict[str, Any] = {name: row[name] for name in ("debate_id", "item") if name in row}
        return {**first, **row, "kind": self.__dict__["act"].event, "data": self.data}


def _fields(act: Record) -> dict[str, JsonValue]:
    dumped = act.model_dump(mode="json", exclude={"event"})
    return {name: value for name, value in dumped.items() if name in act.model_fields_set}


class JudgingEvent(_PersonEvent):
    """An act of a judge."""

    act: Annotated[AnyJudgingAct, Field(discriminator="event")]

    @property
    def kind(self) -> EventKind:
        """Kind of act."""
        return EventKind(self.act.event)

    @cached_property
    def id(self) -> str:
        place = (self.debate_id, self.judge, self.session, str(self.number))
        return text_id("judging event", *place)


class RatingEvent(_PersonEvent):
    """An act of a person who rates."""

    item: str
    act: Annotated[AnyRatingAct, Field(discriminator="event")]

    @property
    def kind(self) -> RatingAct:
        """Kind of act."""
        return RatingAct(self.act.event)

    @cached_property
    def id(self) -> str:
        return text_id("rating event", self.item, self.judge, self.session, str(self.number))


Stored: typing.TypeAlias = (
    Question
    | Debate
    | Turn
    | Judgment
    | Outcome
    | PromptRecord
    | JudgingEvent
    | Feedback
    | RatingEvent
)
"""Records that the store takes."""
