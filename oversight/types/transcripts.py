"""Questions, and debates on them: turns, judgments and all else that is recorded of one.

A question has options of which one is right; an open prompt has none.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Self

from pydantic import Field, JsonValue, model_validator

from oversight.ids import canonical_json, canonical_object, content_id, encoded_id, text_id
from oversight.types.protocols import Act, Orders, OversightProtocol, Role, Seat, Stance
from oversight.types.ratings import Feedback, PrinciplesApplied
from oversight.types.samples import (
    FREE_JSON,
    AgentSpec,
    Belief,
    JudgeKind,
    Message,
    Prompt,
    Record,
    Sample,
    is_none,
)


class Source(Record):
    """A text that debaters quote from and that the judge may not see whole."""

    title: str = ""
    text: str = Field(min_length=1)

    @cached_property
    def id(self) -> str:
        return content_id("source", self.title, self.text)


class Option(Record):
    """One possible answer, with a ready-made argument for it where the data set has one."""

    text: str = Field(min_length=1)
    argument: str | None = None


class Question(Record):
    """A question with at least two options, one of them right where that is known; or an open
    prompt, which has none: the last message of a chat."""

    id: str = Field(min_length=1)
    dataset: str
    split: str = ""
    text: str
    options: tuple[Option, ...] = ()
    correct: int | None = None
    source: Source | None = None
    meta: dict[str, JsonValue] = Field(default_factory=dict)
    # Not written down unless it is set: ids of questions without it stay what they were.
    history: tuple[Message, ...] = Field(default=(), exclude_if=operator.not_)
    """Of an open prompt: the chat before it, a system message first if there is one."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.text.strip():
            raise ValueError("text is empty")
        if len(self.options) == 1:
            raise ValueError(
                "a question needs at least two options, here are 1 (options takes at least 2, or "
                "none for an open prompt)"
            )
        if self.correct is not None and not 0 <= self.correct < len(self.options):
            if not self.options:
                raise ValueError(f"correct={self.correct}: an open prompt has no right option")
            raise ValueError(f"correct={self.correct} is no index of {len(self.options)} options")
        texts = [option.text.strip() for option in self.options]
        if not all(texts):
            raise ValueError("an option is empty")
        if len(set(texts)) < len(texts):
            raise ValueError("two options have the same text")
        if self.history:
            self._check_history()
        return self

    def _check_history(self) -> None:
        if self.options:
            raise ValueError("history goes with an open prompt, which has no options")
        before = ""
        for number, message in enumerate(self.history):
            if not message.content.strip():
                raise ValueError(f"history.{number} is empty")
            if message.role == "system" and number:
                raise ValueError(f"history.{number}: a system message stands first, or nowhere")
            if message.role == before:
                raise ValueError(f"history.{number}: two messages of the {before} in a row")
            before = message.role
        if before == "user":
            raise ValueError(
                "the history ends with a message of the user, and the text is the user's as well: "
                "an answer stands between the two"
            )

    @property
    def is_open(self) -> bool:
        """True of an open prompt: there are no options, so that nothing is right or decided."""
        return not self.options

    @cached_property
    def chat(self) -> Prompt:
        """The question as a chat that a model goes on with: the history, then the text, behind
        the source if there is one."""
        return chat_prompt(self.history, self.source, self.text)

    @cached_property
    def fingerprint(self) -> str:
        """Id of the whole content: a changed question is another question."""
        body = self.model_dump(mode="json", exclude={"source"})
        return content_id("question", body, self.source.id if self.source else None)


def chat_prompt(history: tuple[Message, ...], source: Source | None, text: str) -> Prompt:
    """The chat with `text` as the user's last message, behind the source if there is one."""
    parts = (f"{source.text}\n\n", text) if source else (text,)
    return Prompt(messages=(*history, Message(role="user", parts=parts)))


class QuoteStatus(StrEnum):
    VERIFIED = "verified"
    NEAR = "near"
    UNVERIFIED = "unverified"
    TOO_SHORT = "too_short"


class Quote(Record):
    """Words that a speaker claims stand in the source, and where they were found there."""

    start: int
    end: int
    """Span of the quoted words in the turn's text, tags excluded (characters, end exclusive)."""
    text: str
    """The words as the speaker wrote them."""
    status: QuoteStatus
    source_start: int | None = None
    source_end: int | None = None
    source_text: str | None = None
    """The source's own words: equal up to folding if verified, the nearest ones if near."""
    similarity: float | None = None
    """Of a near miss: 0 to 1."""


class Defect(StrEnum):
    """A fault of the form of a response, a critique or a revision by a model."""

    PREAMBLE = "preamble"
    """It announces the answer before giving it."""
    REFUSED = "refused"
    """It declines to criticise or to revise."""
    SPEAKS_OF_CRITIQUE = "speaks_of_critique"
    """A revision that talks about the critique, or about its own changes, to the critic."""
    IMITATES_FORMAT = "imitates_format"
    """It writes out labels or tags of another turn."""
    REPEATED = "repeated"
    """A revision that is the answer before it, word for word, without having said so."""


class Turn(Record):
    """One act of one seat. The public text is what the others may see, and nothing else is."""

    debate_id: str
    step: int
    round: int
    seat: Seat
    role: Role
    act: Act
    candidate: int = 0
    chosen: bool = True
    """False for a best-of-N sibling that was not picked: kept, never part of the transcript."""
    score: float | None = None
    """The chooser's probability of the speaker's option after this candidate; of a response, how
    good the chooser finds it, from 0 to 1. Of a critique with a free stance, the critic's own
    probability that the option defended is right."""
    text: str = ""
    reasoning: str = ""
    """Private: never shown to the other side or the judge."""
    quotes: tuple[Quote, ...] = ()
    belief: Belief | None = None
    ends: bool = False
    """The judge ended the debate with this turn."""
    unchanged: bool = Field(default=False, exclude_if=operator.not_)
    """A critique that found no fault; or a revision that found nothing to change: its text is that
    of the response before it."""
    stance: Stance | None = Field(default=None, exclude_if=is_none)
    """Of a critique with a free stance; None where the critic's answer could not be read."""
    under: PrinciplesApplied | None = Field(default=None, exclude_if=is_none)
    """Of a critique or its revision: the principles that it was asked for by."""
    defects: tuple[Defect, ...] = Field(default=(), exclude_if=operator.not_)
    """Of a critique or a revision by a model: faults of its form, which training leaves out."""
    samples: tuple[Sample, ...] = ()
    seconds: float = 0.0

    @property
    def argues(self) -> bool:
        """True if it is a speech for the option that its seat defends."""
        return self.act.argues(self.role)

    @cached_property
    def id(self) -> str:
        place = (self.debate_id, str(self.step), self.seat, self.act, str(self.candidate))
        return text_id("turn", *place)


class Debate(Record):
    """All that determines a debate. Its id is the hash of it: the same again is the same debate.

    `debate` names every kind of protocol run here, a consultancy or a direct
    judgment as well.
    """

    question_id: str
    question_fingerprint: str
    protocol: OversightProtocol
    agents: dict[Role, AgentSpec]
    orders: Orders
    seed: int

    @cached_property
    def id(self) -> str:
        own = self.model_dump(mode="json", exclude=SHARED_FIELDS)
        texts = {name: canonical_json(value) for name, value in own.items()}
        texts["protocol"] = self.protocol.canonical
        agents = {role.value: spec.canonical for role, spec in self.agents.items()}
        texts["agents"] = canonical_object(agents)
        return encoded_id(f'["debate",{canonical_object(texts)}]')

    @property
    def body(self) -> str:
        """Its JSON text as the store keeps it."""
        own = self.model_dump(exclude=SHARED_FIELDS)
        texts = {name: FREE_JSON.encode(value) for name, value in own.items()}
        texts["protocol"] = self.protocol.body
        specs = (f'"{role.value}":{spec.body}' for role, spec in self.agents.items())
        texts["agents"] = f"{{{','.join(specs)}}}"
        named = (f'"{name}":{texts[name]}' for name in type(self).model_fields if name in texts)
        return f"{{{','.join(named)}}}"


SHARED_FIELDS = {"protocol", "agents"}
"""Fields of a debate that thousands of debates have in common."""


class OutcomeStatus(StrEnum):
    COMPLETE = "complete"
    FAILED = "failed"


class Outcome(Record):
    """End of one attempt at a debate. Complete at most once; failed attempts are kept."""

    debate_id: str
    status: OutcomeStatus
    error: str = ""
    cause: str = Field(default="", exclude_if=operator.not_)
    """Of a failure: its kind in a word, by which failures are counted."""
    seconds: float = 0.0
    ended_at: str = ""
    """UTC, ISO 8601."""


class Judgment(Record):
    """A judge's final word on a debate, and the way there."""

    debate_id: str
    judge: str
    """Pseudonym of a person, or the agent and model that judged."""
    kind: JudgeKind
    agent: AgentSpec | None = Field(default=None, exclude_if=is_none)
    """Of a further judge, which is none of the debate's agents: as it was asked."""
    orders: Orders
    swapped: bool = False
    """Judged with the sides shown the other way round than drawn."""
    revision: int = 0
    trajectory: tuple[tuple[int, Belief], ...] = ()
    """Belief after each step at which one was asked for: (step, belief)."""
    final: Belief
    rationale: str = ""
    leaned_on: tuple[tuple[str, int], ...] = ()
    """Quotes it leaned on: (turn id, index into that turn's quotes)."""
    assistance: tuple[str, ...] = ()
    """Assistance that was shown, by kind."""
    # Not written down unless they are set: judgments without them stay what they were.
    arm: str | None = Field(default=None, exclude_if=operator.not_)
    """Of a study of assistance: the kind that was drawn for this item, used or not."""
    study: str = Field(default="", exclude_if=operator.not_)
    """Name of the study that it was made in."""
    sent_at: str = Field(default="", exclude_if=operator.not_)
    """Time at which a person sent it: UTC, ISO 8601."""
    informed: bool = Field(default=False, exclude_if=operator.not_)
    """A revision by somebody who has been told which option is right: kept, and not counted."""
    samples: tuple[Sample, ...] = ()
    active_s: float | None = None
    """Seconds of active attention, of a person."""
    unseen: dict[str, float] | None = Field(default=None, exclude_if=is_none)
    """By id the turns that had not been on the person's screen completely when they sent this, each
    with the share that had. None: nobody recorded that."""

    @cached_property
    def id(self) -> str:
        return content_id("judgment", self.debate_id, self.judge, self.swapped, self.revision)


@dataclass(frozen=True, slots=True)
class Transcript:
    """A debate with everything recorded for it, read from the store."""

    debate: Debate
    question: Question
    turns: tuple[Turn, ...]
    """All turns, siblings included, in order of (step, seat, candidate)."""
    judgments: tuple[Judgment, ...] = ()
    outcome: Outcome | None = None
    ratings: tuple[Feedback, ...] = ()
    """Feedback of people and models on its turns, every revision."""

    def spoken(self) -> tuple[Turn, ...]:
        """The turns that stand: siblings that were not chosen left out."""
        return tuple(turn for turn in self.turns if turn.chosen)


class RunStart(Record):
    """One start of a run: a command that makes records, and all it was started with.

    A run is what its starts have in common, its name: a command that goes on with a run adds a
    start to it. No record's id depends on a run, and one record may belong to several.
    """

    run: str
    """Name of the run."""
    named: bool
    """True if a person gave the name; else it was made of the time and the command."""
    tags: dict[str, str] = Field(default_factory=dict)
    at: str
    """UTC, ISO 8601."""
    action: str
    """The subcommand, such as `debate`."""
    command: str
    """The command line as a shell takes it, secrets taken out."""
    recipe: str | None = None
    """The recipe's path, as it was given."""
    settings_id: str = ""
    """Hash of all settings, defaults filled in."""
    models: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    git: str | None = None
    """Commit of the working directory, with `+changes` where it was edited."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of oversight, Python, and the model libraries that are loaded."""

    @cached_property
    def id(self) -> str:
        """Id of the content."""
        return content_id("run", self.model_dump(mode="json"))
