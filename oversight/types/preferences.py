"""Preferences: responses to one and the same prompt, ranked, and where each comes from."""

from __future__ import annotations

import operator
from functools import cached_property
from typing import Literal, Self

from pydantic import Field, model_validator

from oversight.ids import content_id
from oversight.types.ratings import TASK_NAME
from oversight.types.samples import Prompt, Record

PreferenceKind = Literal["sides", "siblings", "pairs", "principles", "revisions"]
"""Two sides of a debate or best-of-N candidates, by judgments and scores; or, of people or models
that rated: two responses, responses by principles, a revision and the speech before it."""

SELF_CRITIQUE = "self_critique"
"""Kind of a last revision and the first response, which nobody has compared."""


class Response(Record):
    """One response to a prompt, token-exact where an engine sampled it."""

    text: str
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    """Of `token_ids`, as the sampler gave them: at the temperature that it sampled at, not at 1."""
    # Nothing that says which row it is: ids stay what they were before it was kept.
    logprobs_temperature: float | None = Field(default=None, exclude=True)
    """The T for which `logprobs` are log softmax(logits / T); None where that is not known."""
    turn_id: str | None = None
    score: float | None = None


class Provenance(Record):
    """Origin of a preference."""

    question_id: str
    debate_id: str
    protocol: str
    judgment_ids: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()
    principle_id: str | None = None
    # Not written down unless they are set: ids of rows without them stay what they were.
    rating_ids: tuple[str, ...] = Field(default=(), exclude_if=operator.not_)
    """Of rows that feedback of people or models made."""
    num_unseen: tuple[int | None, ...] = Field(default=(), exclude_if=operator.not_)
    """For each of `judges`, how many turns had not been on their screen completely; null for one
    of whom nobody recorded it."""
    constitution: str = Field(default="", exclude_if=operator.not_)
    principle_ids: tuple[str, ...] = Field(default=(), exclude_if=operator.not_)
    """By which responses were scored."""


class Labelled(Record):
    """One response that was called good or bad, by itself: an unpaired row."""

    prompt: Prompt
    prompt_ids: tuple[int, ...] | None = None
    response: Response
    label: bool
    p: float | None = None
    """Belief that it is good, where a judge gave one."""
    weight: float = Field(default=1.0, ge=0.0)
    provenance: Provenance

    @cached_property
    def id(self) -> str:
        return content_id("labelled", self.model_dump(mode="json"))


class GivenResponse(Record):
    """One response that is learnt as it stands: nobody called it good, or compared it."""

    prompt: Prompt
    prompt_ids: tuple[int, ...] | None = None
    response: Response
    provenance: Provenance

    @cached_property
    def id(self) -> str:
        return content_id("given", self.model_dump(mode="json"))


class Preference(Record):
    """Responses to one and the same prompt, ranked, or with a soft label."""

    kind: str = Field(pattern=TASK_NAME)
    """A `PreferenceKind`, or the name of a task from outside the package."""
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
