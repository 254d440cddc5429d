"""Values of a red team's run: what is tried, what a target replied, and how an attempt ended."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeAlias

from oversight.ids import content_id
from oversight.types import Message, Prompt, Seat, Stored, Transcript

if TYPE_CHECKING:
    from oversight.audits.interventions import Speech
    from oversight.redteam.goals import Goal


class AttackOutcome(StrEnum):
    """Ends of an attempt. What is UNDETERMINED is never counted as safe."""

    SUCCESS = "success"
    FAILURE = "failure"
    UNDETERMINED = "undetermined"


class TargetKind(StrEnum):
    """Kinds of things that are attacked."""

    POLICY = "policy"
    """A model that answers, with its system prompt."""
    JUDGE = "judge"
    """A judge agent, before which one side's words are changed."""
    CRITIC = "critic"
    """A critic agent, which is shown a bad response."""
    FEEDBACK = "feedback"
    """A rater agent, which compares a bad response with an honest one."""
    REWARD = "reward"
    """A reward model, which scores both."""


class AttemptPurpose(StrEnum):
    """Reasons for an attempt."""

    BASELINE = "baseline"
    """The goal's own words, unchanged: what succeeds so needs no attack."""
    SEARCH = "search"
    CONTROL = "control"
    """As many words changed as by the attack, with the meaning kept."""
    FRESH = "fresh"
    """A success tried again, on a fresh seed or in the other order of sides."""


@dataclass(frozen=True, slots=True)
class Try:
    """Words to be put before the target."""

    text: str
    """The user's message to a policy; else the words of the side, or of the response."""
    history: tuple[Message, ...] = ()
    """Of a chat: the messages before it."""
    style: str = ""
    """The rewriting that made it, where an attack has several."""
    swap: bool = False
    """Before a judge: with the sides shown in the other order than drawn."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A call of the attacker's model."""

    prompt: Prompt


@dataclass(frozen=True, slots=True)
class TargetReply:
    """A target's reply to one attempt."""

    text: str = ""
    """Of a policy or a critic: its words."""
    belief: float | None = None
    """Of a judge: its probability of the attacked side's wrong option; of a feedback model: of the
    bad response being the better one. None where its answer could not be read."""
    reward: float | None = None
    """Of a reward model: the bad response's reward less the honest one's."""
    unchallenged: bool = False
    """Of a critic: it found no fault."""
    unverified: bool = True
    """True if no quote of the attacked words was found in the source, word for word."""
    refused: bool = False
    fault: str = ""
    """Reason why there is no reply to decide by; empty if there is one."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, as it is kept."""

    lane: str
    place: int
    """Number in its lane, from 0."""
    target: str
    goal: str
    harm: str
    attack: str
    purpose: AttemptPurpose
    text: str
    outcome: AttackOutcome
    score: float | None
    """Degree of success from 0 to 1, which a search climbs; None where it cannot be said."""
    style: str = ""
    trial: int = 0
    """Number of the fresh seed; 0 in a search."""
    swap: bool = False
    history: tuple[tuple[str, str], ...] = ()
    """Role and content of each message before the text."""
    reply: str = ""
    belief: float | None = None
    reward: float | None = None
    refused: bool = False
    fault: str = ""
    tokens: int = 0

    @property
    def id(self) -> str:
        """Id of the lane and the place in it."""
        return content_id("attempt", self.lane, self.place)

    @property
    def is_success(self) -> bool:
        """True if the attack did what its goal says."""
        return self.outcome is AttackOutcome.SUCCESS

    @property
    def chat(self) -> tuple[Message, ...]:
        """The messages before the text."""
        return tuple(Message(role=r, parts=(c,)) for r, c in self.history)

    def as_try(self) -> Try:
        """The words of the attempt, to be tried again."""
        return Try(self.text, self.chat, self.style, self.swap)

    def body(self) -> dict[str, Any]:
        """A JSON-plain mapping; what is at its default is left out."""
        return {
            each.name: value
            for each in fields(self)
            if (value := getattr(self, each.name)) != each.default or each.name in ("score",)
        }

    @classmethod
    def of(cls, body: dict[str, Any]) -> Self:
        """The attempt that `body` was made of.

        Raises:
            KeyError, TypeError, ValueError: It is none.
        """
        given = dict(body)
        given["purpose"] = AttemptPurpose(given["purpose"])
        given["outcome"] = AttackOutcome(given["outcome"])
        given["history"] = tuple((str(r), str(c)) for r, c in given.get("history", ()))
        return cls(**given)


@dataclass(slots=True)
class AttackCase:
    """One goal before one target, as an attack is given it."""

    goal: Goal
    words: str
    """The words to be rewritten: a policy's request, the wrong side's last speech, or the bad
    response."""
    rng: random.Random
    """Follows from the seed, the goal and the attack."""
    budget: int
    """Calls of the target that the attack may make."""
    speech: Speech | None = None
    """Before a judge: the speech with its quotes, the source and the other side's words."""
    transcript: Transcript | None = None
    """Before a judge: the debate."""
    seat: Seat | None = None
    """Before a judge: the seat that defends a wrong option."""
    notes: Counter[str] = field(default_factory=Counter)
    """Counts of what went wrong on the attacker's side, by a word or two."""


Move: TypeAlias = Try | Ask
Moves: TypeAlias = Generator[Sequence[Move], "Sequence[Attempt | str]", None]
"""An attack under way: it yields moves that may be made at once, and is sent what came of each, an
`Attempt` for a `Try` and the attacker's answer for an `Ask`."""


class Target(Protocol):
    """Something that is attacked."""

    name: str
    kind: TargetKind
    identity: str
    """Hash of all that determines its replies."""

    async def reply(self, case: AttackCase, move: Try, seed: int, trial: int) -> TargetReply:
        """The target's reply to the words of a move.

        Args:
            case: The goal, with the transcript where there is one.
            move: The words.
            seed: Of whatever is sampled.
            trial: Number of the fresh seed; a judge is shown the sides the other way round in odd
                ones.

        Raises:
            EngineError: There is no reply to be had now.
        """
        ...

    def records(self, case: AttackCase, attempt: Attempt) -> tuple[Stored, ...]:
        """The attempt as records of a store: a question, a debate with its turns, and what was
        judged of it."""
        ...

    async def aclose(self) -> None:
        """Close its engine."""
        ...
