"""Beliefs, and who holds them: how an answer was read, by which kind of judge, agent and engine."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, JsonValue, model_validator

from oversight.types.samples import Record, SharedRecord


class JudgeKind(StrEnum):
    MODEL = "model"
    LEXICAL = "lexical"
    HUMAN = "human"


class Verdict(StrEnum):
    """Readings of a belief. INVALID: the judge's answer could not be read at all."""

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
    """The judge's answer as it was written."""

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


class EngineSpec(Record):
    """An engine by name, with its settings as given."""

    engine: str
    settings: dict[str, JsonValue] = Field(default_factory=dict)


class AgentSpec(SharedRecord):
    """An agent by name, with its settings and the engine it thinks with."""

    agent: str
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    engine: EngineSpec | None = None
