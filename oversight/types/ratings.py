"""Feedback on responses, by people and models, and the preferences that come of it.

Feedback says which of two responses is better, how well one keeps to principles, or whether a
criticism is right and the revision better; every act of a person on the way there is kept too. A
preference is responses to one and the same prompt, ranked, with the source of each.
"""

from __future__ import annotations

import operator
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, JsonValue, Tag, model_validator

from oversight.ids import content_id, text_id
from oversight.types.samples import (
    AgentSpec,
    Belief,
    JudgeKind,
    Prompt,
    Record,
    Sample,
    Verdict,
    is_none,
)

MAX_STRENGTH = 3
MAX_SCORE = 5


class Task(StrEnum):
    """Questions that are asked about the words of a debate or a response."""

    PAIRS = "pairs"
    """A choice of the better of two responses to one prompt."""
    PRINCIPLES = "principles"
    """A score of one response for each principle of a constitution."""
    REVISIONS = "revisions"
    """A verdict on a criticism, and on its revision against the first speech."""


GUARDED, FLAGGED = "guard", "flagged"
"""The data set under which calls of a guard are kept, and the task of people who look at those on
which a check acted."""


class Preferred(StrEnum):
    LEFT = "left"
    RIGHT = "right"
    TIE = "tie"
    BOTH_BAD = "both_bad"


class PairAnswer(Record):
    """The better of the two: the first one of the rating's `turn_ids` stood left."""

    task: Literal[Task.PAIRS] = Task.PAIRS
    preferred: Preferred
    strength: int | None = Field(default=None, ge=1, le=MAX_STRENGTH)
    """1 slightly, 2 clearly, 3 much; of a preference only."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        decided = self.preferred in (Preferred.LEFT, Preferred.RIGHT)
        if decided != (self.strength is not None):
            raise ValueError(f"preferred={self.preferred.value!r} with strength={self.strength!r}")
        return self


class PrinciplesAnswer(Record):
    """A score for every principle of a constitution."""

    task: Literal[Task.PRINCIPLES] = Task.PRINCIPLES
    constitution: str
    fingerprint: str
    """Id of the principles as they read then."""
    scores: dict[str, int | None] = Field(min_length=1)
    """By the principle's id: 1 breaks it, 5 keeps it fully, None where it does not apply."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for principle, score in self.scores.items():
            if score is not None and not 1 <= score <= MAX_SCORE:
                raise ValueError(f"scores.{principle} = {score} is not among 1 to {MAX_SCORE}")
        return self


class CriticismIs(StrEnum):
    RIGHT = "right"
    PARTLY = "partly"
    WRONG = "wrong"


class RevisionIs(StrEnum):
    BETTER = "better"
    SAME = "same"
    WORSE = "worse"


class RevisionAnswer(Record):
    """Answer on a criticism and on the revision that answers it."""

    task: Literal[Task.REVISIONS] = Task.REVISIONS
    criticism: CriticismIs
    revision: RevisionIs
    """Than the speech that was criticised."""


PREFERENCES = (Preferred.LEFT.value, Preferred.RIGHT.value)
CRITICISMS = tuple(each.value for each in CriticismIs)
REVISIONS = (RevisionIs.BETTER.value, RevisionIs.WORSE.value)
NOT_APPLICABLE = "none"
SCORES = (*(str(score) for score in range(1, MAX_SCORE + 1)), NOT_APPLICABLE)


class SoftAnswer(Record):
    """A model's probabilities of the answers to one question."""

    values: tuple[str, ...] = Field(min_length=2)
    """Answers that it could give, which `belief` is over."""
    listing: tuple[int, ...]
    """Indices of the values in the order in which they were listed, as A, B and so on."""
    belief: Belief

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sorted(self.listing) != list(range(len(self.values))):
            raise ValueError(f"listing={self.listing!r} is no order of {len(self.values)} values")
        probs = self.belief.probs
        if probs is not None and len(probs) != len(self.values):
            raise ValueError(f"{len(probs)} probabilities of {len(self.values)} values")
        return self

    @property
    def probs(self) -> dict[str, float] | None:
        """Probability of each value; None where the answer says nothing that can be read."""
        if self.belief.verdict in (Verdict.INVALID, Verdict.ABSTAIN) or self.belief.probs is None:
            return None
        return dict(zip(self.values, self.belief.probs, strict=True))


class ModelAnswer(Record):
    """A model's word on an item: a probability of every answer, in place of one of them."""

    task: Task
    answers: dict[str, SoftAnswer] = Field(min_length=1)
    """By the question: `preferred` of pairs, `criticism` and `revision` of revisions, and of
    principles the principle's id."""


TASK_NAME = r"^[a-z][a-z0-9_-]{0,39}$"


class OwnAnswer(Record):
    """A person's answer in a task from outside the package, which is read without its code."""

    task: str = Field(pattern=TASK_NAME)
    """The name that the task gives itself."""
    fields: dict[str, JsonValue]
    """The task's own answer record."""
    turns: Task | None = Field(default=None, exclude_if=lambda each: each is None)
    """Of a task that makes training rows: whose turns it asks about, two candidates (pairs),
    single responses (principles), or a revision and what it revises."""
    preference: float | None = Field(
        default=None, ge=0.0, le=1.0, allow_inf_nan=False, exclude_if=lambda each: each is None
    )
    """The answer as a number for training: the probability that of two candidates the first one
    shown is better, or that the revision is; of a single response its score. None: nothing."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.task in set(Task):
            raise ValueError(f"task={self.task!r} is a task of the package, with its own record")
        if self.preference is not None and self.turns is None:
            raise ValueError(f"preference={self.preference} without turns that it is about")
        return self


class PrinciplesApplied(Record):
    """The principles of a constitution that something was rated, criticised or revised by."""

    constitution: str
    fingerprint: str
    """Id of the whole constitution as it read then."""
    principles: dict[str, str] = Field(min_length=1)
    """Texts by id, in the order in which they were read out."""
    requests: dict[str, str] = Field(default_factory=dict, exclude_if=operator.not_)
    """By the same ids, requests in the constitution's own words: of a critique for the revision
    that follows it, of a comparison the question that is asked."""
    violated: tuple[str, ...] = Field(default=(), exclude_if=operator.not_)
    """Of a critique that asks by each principle apart: ids of those by which it found a fault; the
    revision after it is asked for by these alone."""


def _kind_of_answer(given: Any) -> str:
    """The class of an answer: of a model's own, or by the task."""
    if isinstance(given, Record):
        if isinstance(given, OwnAnswer):
            return "own"
        return "model" if isinstance(given, ModelAnswer) else str(getattr(given, "task", ""))
    if not isinstance(given, dict):
        return ""
    if "fields" in given:
        return "own"
    return "model" if "answers" in given else str(given.get("task", ""))


Answer = Annotated[
    Annotated[PairAnswer, Tag(Task.PAIRS.value)]
    | Annotated[PrinciplesAnswer, Tag(Task.PRINCIPLES.value)]
    | Annotated[RevisionAnswer, Tag(Task.REVISIONS.value)]
    | Annotated[ModelAnswer, Tag("model")]
    | Annotated[OwnAnswer, Tag("own")],
    Discriminator(_kind_of_answer),
]


class Feedback(Record):
    """The final word of a person or a model on one item, in one revision.

    A person answers once, whatever the order shown, and may revise it. A model is asked once in
    each order, and under each principle: each of these is a record of its own.
    """

    debate_id: str
    item: str
    """Id of what was rated, see `item_id`."""
    turn_ids: tuple[str, ...] = Field(min_length=1)
    """The turns that were shown, in the order in which the rater was shown them."""
    judge: str
    """Pseudonym of a person, or the agent and model that rated."""
    # Not written down unless they are set: ratings by people stay what they were.
    kind: JudgeKind = Field(
        default=JudgeKind.HUMAN, exclude_if=lambda each: each is JudgeKind.HUMAN
    )
    agent: AgentSpec | None = Field(default=None, exclude_if=lambda each: each is None)
    """Of a model: the agent that was asked, with its settings and engine."""
    under: PrinciplesApplied | None = Field(default=None, exclude_if=lambda each: each is None)
    """Of a model: the principle that it was asked under; of the task principles, all of them."""
    swapped: bool = Field(default=False, exclude_if=operator.not_)
    """Of a model: asked with the two responses, and answers that are listed, the other
    way round."""
    revision: int = Field(default=0, ge=0)
    answer: Answer
    samples: tuple[Sample, ...] = Field(default=(), exclude_if=operator.not_)
    """Of a model: its calls, token for token."""
    rationale: str = ""
    study: str = ""
    """Name of the study that it was made in."""
    sent_at: str = ""
    """UTC, ISO 8601."""
    active_s: float | None = None
    """Seconds of active attention, of a person."""
    unseen: dict[str, float] | None = Field(default=None, exclude_if=lambda each: each is None)
    """Of `turn_ids`, those that had not been on the screen completely, each with the share that
    had. None: nobody recorded that."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        is_model = isinstance(self.answer, ModelAnswer)
        if is_model and (self.kind is JudgeKind.HUMAN or self.agent is None):
            raise ValueError("a model's answer needs the kind of the agent that gave it, and agent")
        if self.kind is JudgeKind.HUMAN and (self.agent or self.under or self.samples):
            raise ValueError("agent, under and samples are of a model, and kind is 'human'")
        return self

    @property
    def task(self) -> Task | str:
        """A task of the package, or the name of one from outside."""
        return self.answer.task

    @property
    def is_persons(self) -> bool:
        """Given by a person, not by a model."""
        return self.kind is JudgeKind.HUMAN

    @property
    def constitution(self) -> str:
        """Of the task principles: the name of the constitution, which is part of the item."""
        if isinstance(self.answer, PrinciplesAnswer):
            return self.answer.constitution
        by_rules = self.task is Task.PRINCIPLES and self.under is not None
        return self.under.constitution if by_rules and self.under else ""

    @cached_property
    def rater(self) -> str:
        """Identity of the rater: two models of one name and other settings are two raters."""
        if self.agent is None:
            return self.judge
        return rater_of(self.agent)

    @cached_property
    def place(self) -> tuple[str, ...]:
        """The item and the rater, and of a model the principle and order: equal for revisions."""
        if self.agent is None:
            return (self.item, self.judge)
        return place_of(self.item, self.rater, self.under, swapped=self.swapped)

    @cached_property
    def id(self) -> str:
        if self.agent is None:
            return content_id("rating", self.task, self.item, self.judge, self.revision)
        return feedback_id(self.task, self.place, self.revision)


def rater_of(agent: AgentSpec) -> str:
    """Id of a model that rates: its agent, settings and engine."""
    return content_id("rater", agent.model_dump(mode="json"))


def place_of(
    item: str, rater: str, under: PrinciplesApplied | None, *, swapped: bool
) -> tuple[str, ...]:
    """The identity of one question to a model, known before it has answered."""
    rules = ""
    if under is not None:
        asked = (under.principles, under.requests) if under.requests else (under.principles,)
        rules = content_id("under", *asked)
    return (item, rater, rules, "swapped" if swapped else "")


def feedback_id(task: str, place: tuple[str, ...], revision: int = 0) -> str:
    """Id of what a model answers at that place."""
    return content_id("feedback", task, *place, revision)


def item_id(task: str, turn_ids: tuple[str, ...], constitution: str = "") -> str:
    """Id of one thing to be rated: the same turns are the same item, in whichever order shown."""
    return text_id("rating item", str(task), constitution, *sorted(turn_ids))


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
    margin: float | None = Field(default=None, exclude_if=is_none)
    """Of a pair: by how much the first response's reward should lead."""
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
