"""The records that every part reads and writes, and the two protocols: Agent and Engine.

Records are frozen pydantic models: they cross a boundary (the store, a file,
the wire) and are checked there. What lives only between two calls of one
process (`Request`, `Completion`, `View`, `Draft`) is a frozen dataclass.

Indices of options are always in the question's own order. What a judge or a
debater *saw* first is kept apart, in `Orders`.
"""

from __future__ import annotations

import typing
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from oversight.ids import content_id, text_id


class Record(BaseModel):
    """Base of all stored records: immutable, and unknown keys are an error."""

    # Numbers that are not finite stay what they are in JSON: as null they could not be read back.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with changes; ids cached from the old content do not come along."""
        copied = super().model_copy(update=update, deep=deep)
        values = copied.__dict__
        if len(values) > len(type(copied).model_fields):
            for name in values.keys() - type(copied).model_fields.keys():
                del values[name]
        return copied


# --- questions ---------------------------------------------------------------


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
    """A question with at least two options, one of them right where that is known."""

    id: str = Field(min_length=1)
    dataset: str
    split: str = ""
    text: str
    options: tuple[Option, ...] = Field(min_length=2)
    correct: int | None = None
    source: Source | None = None
    meta: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.text.strip():
            raise ValueError("text is empty")
        if self.correct is not None and not 0 <= self.correct < len(self.options):
            raise ValueError(f"correct={self.correct} is no index of {len(self.options)} options")
        texts = [option.text.strip() for option in self.options]
        if not all(texts):
            raise ValueError("an option is empty")
        if len(set(texts)) < len(texts):
            raise ValueError("two options have the same text")
        return self

    @cached_property
    def fingerprint(self) -> str:
        """Id of the whole content: a changed question is another question."""
        body = self.model_dump(mode="json", exclude={"source"})
        return content_id("question", body, self.source.id if self.source else None)


# --- protocols: who acts when ------------------------------------------------


class Seat(StrEnum):
    """A place in a debate. A consultant sits at A."""

    A = "a"
    B = "b"
    JUDGE = "judge"


class Role(StrEnum):
    """What the agent on a seat is there for."""

    DEBATER = "debater"
    CONSULTANT = "consultant"
    JUDGE = "judge"
    SCORER = "scorer"


class Act(StrEnum):
    """What a slot asks of its seat."""

    SPEAK = "speak"
    ASK = "ask"
    BELIEVE = "believe"
    DECIDE = "decide"


class Slot(Record):
    """One seat's part in a step."""

    seat: Seat
    act: Act = Act.SPEAK
    candidates: int = Field(default=1, ge=1, le=64)
    """Best-of-N: how many candidates are sampled; one is chosen, the rest are kept as siblings."""
    may_end: bool = False
    """The judge may end the debate with this act."""


class Step(Record):
    """Slots that act at the same time and cannot see one another."""

    slots: tuple[Slot, ...] = Field(min_length=1)


class OversightProtocol(Record):
    """A debate, consultancy or direct judgment as data: a list of steps, and who may see what.

    The final judgment always follows the last step, or the step at which the
    judge ended the debate.
    """

    name: str
    graph: str
    description: str = ""
    opening: tuple[Step, ...] = ()
    round: tuple[Step, ...] = ()
    rounds: int = Field(default=0, ge=0, le=100)
    speakers_see_source: bool = True
    judge_sees_source: bool = False
    beliefs_public: bool = False
    """Whether speakers see the judge's beliefs of earlier steps."""
    swap: bool = False
    """Judge a second time with the options and the sides shown the other way round."""
    choose_by: Role = Role.JUDGE
    """Which agent picks the best of N candidates: the judge or a scorer of its own."""
    max_words: int = Field(default=150, ge=1)
    """How long a speech should be, told to the speakers."""

    def schedule(self) -> tuple[ScheduledStep, ...]:
        """All steps in order, each with its round (0 is the opening)."""
        steps = [(0, step) for step in self.opening]
        steps += [(number, step) for number in range(1, self.rounds + 1) for step in self.round]
        return tuple(
            ScheduledStep(index=index, round=number, slots=step.slots)
            for index, (number, step) in enumerate(steps)
        )

    @cached_property
    def speakers(self) -> tuple[Seat, ...]:
        """The seats that speak, A before B."""
        seats = {s.seat for step in self.opening + self.round for s in step.slots}
        return tuple(seat for seat in (Seat.A, Seat.B) if seat in seats)

    @property
    def speaker_role(self) -> Role:
        return Role.DEBATER if len(self.speakers) > 1 else Role.CONSULTANT


@dataclass(frozen=True, slots=True)
class ScheduledStep:
    """A step at its place in the unrolled schedule."""

    index: int
    round: int
    slots: tuple[Slot, ...]


class Orders(Record):
    """The three orders of a debate, drawn apart from one another and each recorded."""

    options: tuple[int, ...]
    """Option indices in the order in which they are listed to everyone."""
    defends: tuple[int, ...]
    """Option index that seat A defends, then the one that B defends."""
    shown: tuple[Seat, ...]
    """Seats in the order in which the judge reads words that were spoken at the same time."""

    def swapped(self) -> Orders:
        """The same debate as the judge sees it the other way round; who defends what stays."""
        return Orders(
            options=self.options[::-1], defends=self.defends, shown=tuple(reversed(self.shown))
        )

    def defended_by(self, seat: Seat) -> int:
        """Index of the option that `seat` defends."""
        return self.defends[0 if seat is Seat.A else 1]


# --- prompts and samples -----------------------------------------------------


class Message(Record):
    """One chat message; its content is the concatenation of its parts.

    Parts are the pieces that a prompt grew by. Prompts of one debate share
    their first parts, which the store keeps once.
    """

    role: Literal["system", "user", "assistant"]
    parts: tuple[str, ...]

    @property
    def content(self) -> str:
        return "".join(self.parts)


class Prompt(Record):
    """What a model was asked, as chat messages."""

    messages: tuple[Message, ...] = Field(min_length=1)

    @cached_property
    def id(self) -> str:
        return text_id(*(text for m in self.messages for text in (m.role, m.content)))

    def chat(self) -> list[dict[str, str]]:
        """The form that chat templates and chat servers take."""
        return [{"role": message.role, "content": message.content} for message in self.messages]


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


class Usage(Record):
    """Token counts of one call."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None
    """Prompt tokens that were served from a cache, where the engine says so."""


class Purpose(StrEnum):
    """What a sample was drawn for."""

    SPEECH = "speech"
    REASONING = "reasoning"
    BELIEF = "belief"
    QUESTION = "question"


class Sample(Record):
    """What an engine returned for one call, with the sampler's own log-probabilities."""

    purpose: Purpose
    engine: str
    model: str
    prompt_id: str
    """Id of the stored prompt; the store gives back its messages and token ids."""
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...] | None = None
    """Natural log-probabilities of `token_ids` under the distribution sampled from."""
    finish_reason: FinishReason
    usage: Usage = Usage()
    seconds: float = 0.0


# --- transcript --------------------------------------------------------------


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


class Verdict(StrEnum):
    """How a belief is to be read. INVALID: the judge's answer could not be read at all."""

    DECIDED = "decided"
    TIE = "tie"
    ABSTAIN = "abstain"
    INVALID = "invalid"


class BeliefMethod(StrEnum):
    LOGPROBS = "logprobs"
    PARSED = "parsed"
    LEXICAL = "lexical"
    HUMAN = "human"
    AVERAGED = "averaged"


class Belief(Record):
    """A judge's distribution over the options at one moment."""

    verdict: Verdict
    method: BeliefMethod
    probs: tuple[float, ...] | None = None
    """Probability of each option, in the question's own order, summing to 1; None if unreadable."""
    mass: float | None = None
    """Probability that the judge's model gave to any option before normalising, where known."""
    raw: str = ""
    """What the judge wrote, as it is."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        readable = self.verdict in (Verdict.DECIDED, Verdict.TIE)
        if readable and self.probs is None:
            raise ValueError(f"a {self.verdict} belief needs probs")
        if self.probs is not None:
            if any(not 0.0 <= p <= 1.0 for p in self.probs):
                raise ValueError(f"probs={self.probs!r} are not probabilities")
            if abs(sum(self.probs) - 1.0) > 1e-6:
                raise ValueError(f"probs={self.probs!r} do not sum to 1")
        return self

    @property
    def choice(self) -> int | None:
        """Index of the option believed most, or None unless decided."""
        if self.verdict is not Verdict.DECIDED or self.probs is None:
            return None
        return max(range(len(self.probs)), key=self.probs.__getitem__)


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
    """The chooser's probability of the speaker's option after this candidate."""
    text: str = ""
    reasoning: str = ""
    """Private: never shown to the other side or the judge."""
    quotes: tuple[Quote, ...] = ()
    belief: Belief | None = None
    ends: bool = False
    """The judge ended the debate with this turn."""
    samples: tuple[Sample, ...] = ()
    seconds: float = 0.0

    @cached_property
    def id(self) -> str:
        place = (self.debate_id, str(self.step), self.seat, self.act, str(self.candidate))
        return text_id("turn", *place)


class EngineSpec(Record):
    """An engine by name, with its settings as given."""

    engine: str
    settings: dict[str, JsonValue] = Field(default_factory=dict)


class AgentSpec(Record):
    """An agent by name, with its settings and the engine it thinks with."""

    agent: str
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    engine: EngineSpec | None = None


class Debate(Record):
    """What determines a debate. Its id is the hash of it: the same again is the same debate.

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
        return content_id("debate", self.model_dump(mode="json"))


class OutcomeStatus(StrEnum):
    COMPLETE = "complete"
    FAILED = "failed"


class Outcome(Record):
    """How one attempt at a debate ended. Complete at most once; failed attempts are kept."""

    debate_id: str
    status: OutcomeStatus
    error: str = ""
    seconds: float = 0.0
    ended_at: str = ""
    """UTC, ISO 8601."""


class JudgeKind(StrEnum):
    MODEL = "model"
    LEXICAL = "lexical"
    HUMAN = "human"


class Judgment(Record):
    """A judge's final word on a debate, and the way there."""

    debate_id: str
    judge: str
    """Pseudonym of a person, or the agent and model that judged."""
    kind: JudgeKind
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
    """What assistance was shown, by kind."""
    samples: tuple[Sample, ...] = ()
    active_s: float | None = None
    """Seconds of active attention, of a person."""

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

    def spoken(self) -> tuple[Turn, ...]:
        """The turns that stand: siblings that were not chosen left out."""
        return tuple(turn for turn in self.turns if turn.chosen)


# --- preferences -------------------------------------------------------------


class Response(Record):
    """One response to a prompt, token-exact where an engine sampled it."""

    text: str
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    turn_id: str | None = None
    score: float | None = None


class Provenance(Record):
    """Where a preference comes from."""

    question_id: str
    debate_id: str
    protocol: str
    judgment_ids: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()
    principle_id: str | None = None


class Preference(Record):
    """Responses to one and the same prompt, ranked, or with a soft label."""

    kind: Literal["sides", "siblings"]
    prompt: Prompt
    prompt_ids: tuple[int, ...] | None = None
    responses: tuple[Response, ...] = Field(min_length=2)
    ranks: tuple[int, ...]
    """Rank of each response, 0 is best; equal ranks are a tie."""
    soft_label: float | None = None
    """Of a pair: probability that the first response is the better one."""
    weight: float = Field(default=1.0, ge=0.0)
    provenance: Provenance

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.ranks) != len(self.responses):
            raise ValueError("ranks and responses differ in number")
        return self

    @cached_property
    def id(self) -> str:
        return content_id("preference", self.model_dump(mode="json"))


# --- engines -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample one completion."""

    max_tokens: int = 256
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    choices: tuple[str, ...] = ()
    """If given, the text of the completion is one of these, exactly."""
    logprobs: bool = False
    """Give the log-probability of every sampled token."""
    top_logprobs: int = 0
    """Also give the most likely alternatives at each position, at most this many."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a model."""

    prompt: Prompt
    sampling: Sampling = Sampling()
    id: str = ""
    """Unique among the requests in flight; what `Engine.cancel` takes."""
    route: str = ""
    """Requests of one route go to the same replica, whose prefix cache then holds."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of a model. `prompt_ids` and `token_ids` are always there."""

    request_id: str
    text: str
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    engine: str
    model: str
    seconds: float
    logprobs: tuple[float, ...] | None = None
    """Natural log-probability of each of `token_ids` in the distribution sampled from."""
    top: tuple[tuple[tuple[str, float], ...], ...] = ()
    """Per position the likeliest tokens before any mask: (token text, log-probability)."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a streamed completion; the last one carries the whole completion."""

    text: str
    completion: Completion | None = None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do beyond giving text and token ids."""

    logprobs: bool = False
    choices: bool = False


@typing.runtime_checkable
class Engine(typing.Protocol):
    """Something that completes prompts. Cancelling the awaiting task cancels the work as well."""

    name: str
    model: str
    capabilities: Capabilities

    async def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions in the order of `requests`.

        Raises:
            EngineError: One of the requests could not be answered; the message says which.
        """
        ...

    def stream(self, request: Request) -> AsyncIterator[Chunk]:
        """The completion piece by piece; the last chunk carries it whole."""
        ...

    async def cancel(self, request_id: str) -> None:
        """End a request in flight; it returns what it has, with finish reason CANCELLED."""
        ...

    async def aclose(self) -> None:
        """Give back what the engine holds; it cannot be used afterwards."""
        ...


# --- agents ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class View:
    """What one seat may know when it acts. Which option is right is not in it."""

    debate_id: str
    question: str
    options: tuple[str, ...]
    """Texts of the options, in the question's own order."""
    orders: Orders
    source: Source | None
    """None where this seat may not see it."""
    turns: tuple[Turn, ...]
    """The turns that this seat may see, in reading order; private reasoning is removed."""
    seat: Seat
    role: Role
    act: Act
    step: int
    round: int
    num_rounds: int
    max_words: int
    seed: int
    side: int | None = None
    """Index of the option that this seat defends; None for a judge."""
    argument: str | None = None
    """A ready-made argument for its side, which the speaker's first turn gives word for word."""
    candidate: int = 0
    notes: str | None = None
    """Private notes that this seat has written for this turn already. Best-of-N candidates share
    them, so that all are answers to one and the same prompt."""
    may_end: bool = False
    emit: Callable[[str], None] | None = None
    """Takes the public words as they are written, for a live display."""


@dataclass(frozen=True, slots=True)
class PromptRecord:
    """A prompt as it was sent, with the ids that the engine read it as."""

    prompt: Prompt
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """What an agent gives back; the graph verifies its quotes and makes a turn of it."""

    text: str = ""
    reasoning: str = ""
    belief: Belief | None = None
    ends: bool = False
    rationale: str = ""
    samples: tuple[Sample, ...] = ()
    prompts: tuple[PromptRecord, ...] = field(default=())


@typing.runtime_checkable
class Agent(typing.Protocol):
    """Something that can take a seat: from what it may see to what it says."""

    name: str
    kind: JudgeKind
    """How its judgments are to be filed, if it judges."""

    async def act(self, view: View) -> Draft:
        """One act: a speech, a question, or a belief, as `view.act` asks."""
        ...


Stored: typing.TypeAlias = Question | Debate | Turn | Judgment | Outcome | PromptRecord
"""What the store takes."""
