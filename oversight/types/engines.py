"""The Engine protocol: something that completes prompts, and what goes in and comes out."""

from __future__ import annotations

import typing
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from oversight.types.protocols import Act, Orders, Role, Seat, Stance
from oversight.types.ratings import PrinciplesApplied, SoftAnswer, Task
from oversight.types.samples import (
    Belief,
    FinishReason,
    JudgeKind,
    Message,
    Prompt,
    PromptRecord,
    Sample,
    Usage,
)
from oversight.types.transcripts import Defect, Source, Turn


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings for sampling one completion."""

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

    def temperature_of_logprobs(self, is_tempered: bool | None) -> float | None:
        """The T for which log-probabilities of these samples are log softmax(logits / T).

        None where there is no such number: nobody knows if the temperature is in them, or they
        are of a distribution that `top_p` has cut.

        Args:
            is_tempered: True if they are taken after temperature and top-p, False if before; None
                if nobody knows. Those of a greedy call are the model's own.
        """
        if is_tempered is False or self.temperature == 0.0:
            return 1.0
        if self.top_p < 1.0:
            return None
        return self.temperature if is_tempered or self.temperature == 1.0 else None


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
    """One answer of a model. Servers that give no token ids leave them empty."""

    request_id: str
    text: str
    """The answer as it was written; its reader divides off thoughts that are marked in it."""
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    usage: Usage
    engine: str
    model: str
    seconds: float
    logprobs: tuple[float, ...] | None = None
    """Natural log-probability of each of `token_ids`, as the engine gives it; of which
    distribution it is, `logprobs_temperature` says."""
    top: tuple[tuple[tuple[str, float], ...], ...] = ()
    """Per position the likeliest tokens before any mask: (token text, log-probability)."""
    reasoning: str = ""
    """The thought, where a server gives it apart from the text."""
    opened: bool | None = None
    """True if the prompt itself opened a thought, which the text goes on with; None if unknown."""
    logprobs_temperature: float | None = None
    """The T for which `logprobs` are log softmax(logits / T): the temperature sampled at, or 1 of
    a greedy call or a server that leaves it out. None where no such number is known: after top-p
    below 1, under a mask of choices, or of a server of which nobody said."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a streamed completion; the last one carries the whole completion."""

    text: str
    completion: Completion | None = None
    opened: bool | None = None
    """As of the completion that it is a piece of."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Abilities of an engine beyond giving text and token ids."""

    logprobs: bool = False
    choices: bool = False
    is_served: bool = False
    """It asks a server that somebody else runs, and takes none of this process's processors and
    memory: several such engines can be asked at the same time."""


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


class Help(StrEnum):
    """Kinds of help that a judge can ask an assistant for."""

    SUMMARY = "summary"
    """A summary of each side, in brief."""
    CRUXES = "cruxes"
    """On which points the answer turns."""
    CHECK = "check"
    """A check of a claim against the quotes: `text` is the claim."""
    UNANSWERED = "unanswered"
    """The points that a side did not answer."""
    AGAINST = "against"
    """The best case against the judge's belief: `belief`."""
    CRITIQUE = "critique"
    """Criticism of one turn: `turn`."""
    CRITIQUES = "critiques"
    """Criticism of both sides alike."""
    FREE = "free"
    """A free question: `text`."""


@dataclass(frozen=True, slots=True)
class HelpRequest:
    """Request of a judge to an assistant."""

    help: Help
    text: str = ""
    turn: Turn | None = None
    belief: Belief | None = None


@dataclass(frozen=True, slots=True)
class RatingRequest:
    """A question to a rater about turns of a debate."""

    task: Task
    turns: tuple[Turn, ...]
    """In the order in which they are shown: two candidates, one speech, or a speech or response,
    its criticism and the revision (of which the two compared stand first and last)."""
    under: PrinciplesApplied | None = None
    """The principle to rate by; of the task principles, those to be scored one by one."""
    swapped: bool = False
    """The turns stand the other way round than they did, and so is what is listed to choose
    from."""


@dataclass(frozen=True, slots=True)
class View:
    """Knowledge of one seat when it acts. Which option is right is not in it."""

    debate_id: str
    question: str
    options: tuple[str, ...]
    """Texts of the options, in the question's own order; none of an open prompt."""
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
    """Index of the option that this seat defends; None for a judge, a critic or a responder."""
    argument: str | None = None
    """A ready-made argument for its side, which the speaker's first turn gives word for word."""
    candidate: int = 0
    notes: str | None = None
    """Private notes that this seat has written for this turn already. Best-of-N candidates share
    them, so that all are answers to one and the same prompt."""
    may_end: bool = False
    request: HelpRequest | None = None
    """The judge's request, of an assistant."""
    rating: RatingRequest | None = None
    """The question, of a rater."""
    emit: Callable[[str], None] | None = None
    """Takes the public words as they are written, for a live display."""
    history: tuple[Message, ...] = ()
    """Of an open prompt: the chat before it."""
    examples: tuple[str, ...] = ()
    """Of a red team: prompts of the kind that it is to write more of."""
    free_stance: bool = False
    """Of a critic of speeches: it chooses whether to object or to agree."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Answer of an agent; the graph verifies its quotes and makes a turn of it."""

    text: str = ""
    reasoning: str = ""
    belief: Belief | None = None
    ends: bool = False
    score: float | None = None
    """Quality of the last response, from 0 to 1; None where that cannot be said."""
    unchanged: bool = False
    """A critique that finds no fault; or a revision that finds nothing to change, whose text is
    that of the response before."""
    stance: Stance | None = None
    """Of a critique with a free stance, with the probability of the option defended as `score`."""
    under: PrinciplesApplied | None = None
    """The principles that a critique or a revision was asked for by."""
    defects: tuple[Defect, ...] = ()
    """Faults of the form of a critique or a revision."""
    rationale: str = ""
    answers: dict[str, SoftAnswer] = field(default_factory=dict)
    """Of a rater: its answers by question."""
    samples: tuple[Sample, ...] = ()
    prompts: tuple[PromptRecord, ...] = field(default=())


@typing.runtime_checkable
class Agent(typing.Protocol):
    """Something that can take a seat: from what it may see to what it says."""

    name: str
    kind: JudgeKind
    """Kind of judge that its judgments are filed under, if it judges."""

    async def act(self, view: View) -> Draft:
        """One act: a speech, a response, a critique, a question, a belief, or a rating, as
        `view.act` asks."""
        ...
