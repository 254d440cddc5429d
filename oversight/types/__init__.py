"""The records that every part reads and writes, and the two protocols: Agent and Engine.

Records are frozen pydantic models: they cross a boundary (the store, a file,
the wire) and are checked there. What lives only between two calls of one
process (`Request`, `Completion`, `View`, `Draft`) is a frozen dataclass.

Indices of options are always in the question's own order. What a judge or a
debater *saw* first is kept apart, in `Orders`.
"""

from __future__ import annotations

from oversight.types.agents import Agent, Draft, Help, HelpRequest, RatingRequest, View
from oversight.types.beliefs import (
    AgentSpec,
    Belief,
    BeliefMethod,
    EngineSpec,
    JudgeKind,
    Verdict,
)
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
    AskedUnder,
    CriticismIs,
    Feedback,
    ModelAnswer,
    PairAnswer,
    Preferred,
    PrinciplesAnswer,
    RatingAct,
    RatingEvent,
    RevisionAnswer,
    RevisionIs,
    SoftAnswer,
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
    Debate,
    Judgment,
    Outcome,
    OutcomeStatus,
    Quote,
    QuoteStatus,
    Stored,
    Transcript,
    Turn,
)

__all__ = [
    "Act",
    "Agent",
    "AgentSpec",
    "AskedUnder",
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
    "Feedback",
    "FinishReason",
    "Help",
    "HelpRequest",
    "JudgeKind",
    "JudgingEvent",
    "Judgment",
    "Labelled",
    "Message",
    "ModelAnswer",
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
    "RatingAct",
    "RatingEvent",
    "RatingRequest",
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
    "SoftAnswer",
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
