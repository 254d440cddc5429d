"""The records that every part reads and writes, and the two protocols: Agent and Engine.

Records are frozen pydantic models: they cross a boundary (the store, a file,
the wire) and are checked there. What lives only between two calls of one
process (`Request`, `Completion`, `View`, `Draft`) is a frozen dataclass.

Indices of options are always in the question's own order. What a judge or a
debater *saw* first is kept apart, in `Orders`.
"""

from __future__ import annotations

from oversight.types.agents import Agent, Draft, Help, HelpRequest, View
from oversight.types.engines import Capabilities, Chunk, Completion, Engine, Request, Sampling
from oversight.types.judging import EventKind, JudgingEvent
from oversight.types.preferences import Labelled, Preference, Provenance, Response
from oversight.types.protocols import (
    Act,
    Orders,
    OversightProtocol,
    Role,
    ScheduledStep,
    Seat,
    Slot,
    Step,
)
from oversight.types.questions import Option, Question, Source
from oversight.types.ratings import (
    CriticismIs,
    PairAnswer,
    Preferred,
    PrinciplesAnswer,
    Rating,
    RatingAct,
    RatingEvent,
    RevisionAnswer,
    RevisionIs,
    Task,
)
from oversight.types.records import Record
from oversight.types.samples import (
    FinishReason,
    Message,
    NoAnswer,
    Prompt,
    PromptRecord,
    Purpose,
    Sample,
    Usage,
)
from oversight.types.transcripts import (
    AgentSpec,
    Belief,
    BeliefMethod,
    Debate,
    EngineSpec,
    JudgeKind,
    Judgment,
    Outcome,
    OutcomeStatus,
    Quote,
    QuoteStatus,
    Stored,
    Transcript,
    Turn,
    Verdict,
)

__all__ = [
    "Act",
    "Agent",
    "AgentSpec",
    "Belief",
    "BeliefMethod",
    "Capabilities",
    "Chunk",
    "Completion",
    "CriticismIs",
    "Debate",
    "Draft",
    "Engine",
    "EngineSpec",
    "EventKind",
    "FinishReason",
    "Help",
    "HelpRequest",
    "JudgeKind",
    "JudgingEvent",
    "Judgment",
    "Labelled",
    "Message",
    "NoAnswer",
    "Option",
    "Orders",
    "Outcome",
    "OutcomeStatus",
    "OversightProtocol",
    "PairAnswer",
    "Preference",
    "Preferred",
    "PrinciplesAnswer",
    "Prompt",
    "PromptRecord",
    "Provenance",
    "Purpose",
    "Question",
    "Quote",
    "QuoteStatus",
    "Rating",
    "RatingAct",
    "RatingEvent",
    "Record",
    "Request",
    "Response",
    "RevisionAnswer",
    "RevisionIs",
    "Role",
    "Sample",
    "Sampling",
    "ScheduledStep",
    "Seat",
    "Slot",
    "Source",
    "Step",
    "Stored",
    "Task",
    "Transcript",
    "Turn",
    "Usage",
    "Verdict",
    "View",
]
