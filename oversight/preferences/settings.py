"""Settings of an export: choice of transcripts and responses, and reasons for leaving some out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from statistics import fmean
from typing import Literal, Protocol, Self, get_args

from pydantic import Field, field_validator, model_validator

from oversight.config import Settings
from oversight.panels.values import Rule, combined
from oversight.registry import nearest
from oversight.text.thoughts import divide
from oversight.types import Feedback, FinishReason, PromptRecord, Purpose, Response, Sample, Turn
from oversight.types.ratings import SELF_CRITIQUE, TASK_NAME, PreferenceKind

KINDS: tuple[str, ...] = get_args(PreferenceKind)
NAMED = (*KINDS, SELF_CRITIQUE)
"""All kinds of the package, those included that are made only where they are named."""
PERSONS, MODELS = "persons", "models"
MISSPELT = 0.7
"""Likeness to a kind of the package from which a name is taken for that kind, misspelt."""


class PreferenceSettings(Settings):
    """Choice of the rows that are made of judged debates, and of those left out."""

    kinds: tuple[str, ...] = Field(default=KINDS, min_length=1)
    """`sides`: the two sides' answers to one prompt. `siblings`: best-of-N candidates. Ratings
    of people or models: `pairs` of candidates, candidates by `principles`, `revisions` against
    first speeches. Ratings in a task of your own: its name. All five: all of your own as well.
    `self_critique`, which has to be named: the last revision before the first response to an open
    prompt, though nobody has compared them."""
    label: Literal["judge", "truth"] = "judge"
    """Source of the winner: the judges' belief, or the question's known right answer.
    Siblings argue for one and the same option, so `truth` cannot rank them; nor what was rated."""
    siblings: Literal["best_worst", "best_all", "all_pairs", "kwise"] = "best_worst"
    """Rows made of N scored candidates: one pair, N - 1 pairs, all pairs, or one row of N."""
    judges: tuple[str, ...] = ()
    """Names of the judges whose rulings and ratings count; none means all of them."""
    raters: Literal["all", "persons", "models"] = Field(
        default="all", exclude_if=lambda value: value == "all"
    )
    """Raters of pairs, principles and revisions whose feedback counts: people, models, or both
    alike."""
    rater_weights: dict[str, float] = Field(
        default_factory=dict, exclude_if=lambda value: not value
    )
    """Weight of a rater's word among those on one item: of `persons`, of `models`, and of raters by
    their names, which come first; 1 for all others."""
    combine: Literal["mean"] | Rule = Field(
        default="mean", exclude_if=lambda value: value == "mean"
    )
    """Sides, pairs, revisions, speeches: how several judges' or raters' words on one item become
    one. `mean`: of their beliefs. `majority`: the share of them on either side. Over `groups`,
    each by its mean belief: `weighted` (the mean, groups alike), `maximin` (by the group that
    likes it least), `nash` and `bridging` (products)."""
    groups: dict[str, str] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """Group of a judge or rater by name, or of all other `persons` or `models`; whoever is in none
    does not count where `combine` is over groups."""
    min_group: int = Field(default=1, ge=1, exclude_if=lambda value: value == 1)
    """Judges or raters of every group whose word on an item can be read, where `combine` is over
    groups; an item with fewer makes no row."""
    clamp: float = Field(default=1.0, ge=0.5, le=1.0, exclude_if=lambda value: value == 1.0)
    """Pairs, revisions: the most that a model's probability under one principle counts as, and 1
    minus it the least; 0.6 is usual where it writes a rationale first."""
    min_margin: float = Field(default=0.0, ge=0.0, lt=0.5)
    """Sides, pairs, revisions: how far the belief in the winner must lie from 0.5."""
    min_score_gap: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Siblings, principles: how far apart the scores of a pair must lie."""
    unseen: bool = Field(default=True, exclude_if=bool)
    """Judgments and ratings of people before whom some turns had never stood completely on the
    screen count as well. Feedback of models counts in any case, and so do readings not recorded."""
    ties: bool = True
    """Make rows of ties as well; the pair layout of the export leaves them out."""
    weight: Literal["equal", "per_prompt", "margin"] = "equal"
    """Weight of a row: 1; 1 shared by all rows of one prompt in one debate; or twice the
    belief's distance from 0.5 (sides, pairs, revisions) and the score gap (siblings,
    principles)."""
    margin: float = Field(default=0.0, ge=0.0, exclude_if=lambda value: value == 0.0)
    """Margin of a pair, by which the better response's reward should lead (Touvron et al. 2023,
    arXiv:2307.09288, eq. 2): this times what `weight = "margin"` says. At 0 rows have none."""

    defects: bool = Field(default=False, exclude_if=lambda value: not value)
    """Take revisions with defects of form as well: preambles, refusals, talk about the critique."""

    @field_validator("kinds")
    @classmethod
    def _known(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what is neither a kind nor a name that a task may have, and what is misspelt."""
        for name in kinds:
            near = get_close_matches(name, NAMED, n=1, cutoff=MISSPELT)
            if name not in NAMED and (near or not re.match(TASK_NAME, name)):
                raise ValueError(f"{name!r} is unknown.{nearest(name, NAMED)}")
        return kinds

    @field_validator("rater_weights")
    @classmethod
    def _positive(cls, weights: dict[str, float]) -> dict[str, float]:
        for name, weight in weights.items():
            if not weight > 0.0:
                raise ValueError(
                    f"{name} = {weight}: a weight is more than 0; raters and judges leave some out"
                )
        return weights

    @model_validator(mode="after")
    def _has_groups(self) -> Self:
        if self.over_groups and len(set(self.groups.values())) < 2:
            raise ValueError(
                f"combine = {self.combine!r} is over two groups or more, and groups = "
                f"{self.groups!r}: name each judge's group, such as "
                "groups = { anna = 'nurses', models = 'models' }"
            )
        return self

    @property
    def over_groups(self) -> bool:
        """True if an item's word is made of groups' words."""
        return self.combine not in ("mean", "majority")

    def group_of(self, judge: str, *, is_person: bool) -> str | None:
        """The group of a judge or rater; None of one in no group."""
        return self.groups.get(judge, self.groups.get(PERSONS if is_person else MODELS))

    def counts(self, judge: str, *, is_person: bool) -> bool:
        """False of a judge or rater in no group, where rows are made over groups."""
        return not self.over_groups or self.group_of(judge, is_person=is_person) is not None

    def combined(
        self,
        probs: Sequence[Sequence[float]],
        groups: Sequence[str | None],
        weights: Sequence[float],
    ) -> tuple[float, ...] | Reason:
        """One probability of each alternative from several judges', by `combine`, or why there is
        none.

        Args:
            probs: Each judge's probabilities, of those who count.
            groups: Each judge's group, as `group_of` gives it.
            weights: Each judge's weight.
        """
        if self.combine == "mean":
            return tuple(fmean(column, weights) for column in zip(*probs, strict=True))
        if self.over_groups:
            numbers = Counter(groups)
            if any(numbers[group] < self.min_group for group in self.groups.values()):
                return Reason.MISSING_GROUP
        found = combined(probs, [group or "" for group in groups], self.combine, weights)
        return Reason.CONTRADICTING if found is None else found

    def margin_of(self, distance: float) -> float | None:
        """The margin of a pair whose label is so far from a tie, 0 to 1; None where rows have
        none."""
        return self.margin * distance if self.margin else None

    def weight_of(self, rating: Feedback) -> float:
        """The weight of a rater's word among others on the same item."""
        kind = PERSONS if rating.is_persons else MODELS
        return self.rater_weights.get(rating.judge, self.rater_weights.get(kind, 1.0))

    def takes(self, task: str) -> bool:
        """Return whether ratings of the task make rows; of one from outside, unless others are
        named."""
        return task in self.kinds or (task not in KINDS and set(KINDS) <= set(self.kinds))

    @property
    def own_tasks(self) -> tuple[str, ...]:
        """Names of tasks from outside the package among `kinds`."""
        return tuple(name for name in self.kinds if name not in NAMED)


class Reason(StrEnum):
    """Reasons why something judged did not become a row."""

    NO_RULING = "no_ruling"
    """No judge whose rulings count has judged the debate."""
    UNSEEN = "unseen"
    """A person's judgment or rating was given while turns had not been on their screen
    completely, and such are not asked for."""
    INVALID = "invalid"
    """Sides: no judge's answer could be read. Ratings: a model's answer could not be, in one of the
    orders that it was asked in."""
    ABSTAIN = "abstain"
    """Sides: those judges whose answers could be read abstained."""
    NO_TRUTH = "no_truth"
    """The right answer is unknown, or neither side defended it; or siblings and ratings
    under `truth`."""
    MISSING_GROUP = "missing_group"
    """Rows are made over groups, and a group has fewer readable words on the item than asked
    for."""
    CONTRADICTING = "contradicting"
    """Of every option some group is certain that it is the worse one, so no rule over groups can
    choose."""
    NEITHER_BELIEVED = "neither_believed"
    """The judges gave both sides' options probability 0 (a third option took it all)."""
    NO_COMMON_PROMPT = "no_common_prompt"
    """Two sides spoke in one step, or a candidate stood beside others, but they did not answer
    the same prompt. So it is with candidates that each wrote private notes of their own first."""
    NO_PROMPT = "no_prompt"
    """Siblings of a speaker that no engine sampled: there is no prompt to learn from."""
    SEVERAL_SAMPLES = "several_samples"
    """A speech was put together from several samples: not one response to one prompt."""
    CANCELLED = "cancelled"
    """The response was cut off by a cancelled call."""
    EMPTY = "empty"
    """A response holds no words."""
    IDENTICAL = "identical"
    """Responses to be compared have the same text."""
    UNCHANGED = "unchanged"
    """A revision found nothing to change: it is the response once more."""
    DEFECTIVE = "defective"
    """A revision, or a critique that it answers, has a defect of form, and such are not asked
    for."""
    UNSCORED = "unscored"
    """A sibling has no score."""
    BELOW_MARGIN = "below_margin"
    """The judges' belief is nearer to 0.5, or the scores nearer together, than asked for."""
    TIE = "tie"
    """A tie, and ties are not asked for."""
    BOTH_BAD = "both_bad"
    """A rating said that both responses are bad: neither is to be learnt from."""
    SAYS_NOTHING = "says_nothing"
    """An answer in a task of one's own prefers neither response, and makes them no tie."""
    ALONE = "alone"
    """A response was scored by principles and none of its siblings was."""
    DUPLICATE = "duplicate"
    """The same row from the same debate was there before."""


@dataclass
class Dropped:
    """A counter by reason, filled while rows are made."""

    counts: Counter[Reason] = field(default_factory=Counter)
    by_task: Counter[str] = field(default_factory=Counter)
    """Items rated in tasks from outside the package that do not say how rows are made."""

    def add(self, reason: Reason, number: int = 1) -> None:
        """Count `number` more for `reason`."""
        if number:
            self.counts[reason] += number

    @property
    def total(self) -> int:
        """Number dropped, for all reasons together."""
        return self.counts.total() + self.by_task.total()

    def to_json(self) -> dict[str, int]:
        """Counts by reason, the commonest first; then by tasks that make no rows."""
        counts = {reason.value: number for reason, number in self.counts.most_common()}
        tasks = {f"task {name!r} makes no rows": n for name, n in self.by_task.most_common()}
        return counts | tasks


WORDS: dict[Reason, str] = {
    Reason.NO_RULING: "No judge has judged the debate: run `oversight debate` again to finish it, "
    "or judge it (`oversight judge`)",
    Reason.UNSEEN: "A person judged or rated before all turns had been on their screen: keep such "
    "with --set unseen=true",
    Reason.INVALID: "The judge's or rater's answer could not be read: `oversight show ID --prompts`"
    " has its words; give it more max_tokens, or another model",
    Reason.ABSTAIN: "The judges abstained: ask another judge (--judge, --judge-model)",
    Reason.NO_TRUTH: "The right answer is unknown, or no side defended it: take --set label=judge, "
    "or a data set that marks what is right",
    Reason.MISSING_GROUP: "A group has too few judges who ruled on the item: let more of it judge, "
    "or lower --set min_group",
    Reason.CONTRADICTING: "Groups are certain of opposite things, so none can be chosen: take "
    "--set combine=weighted",
    Reason.NEITHER_BELIEVED: "The judges believed neither side's option: take questions of two "
    "options, or --set label=truth",
    Reason.NO_COMMON_PROMPT: "The responses do not answer one and the same prompt, as two sides of "
    "a debate never do: run a protocol with candidates (debate_best_of_n, self_critique_best_of_n)"
    ", or take --layout unpaired",
    Reason.NO_PROMPT: "No engine sampled the speech, so there is no prompt to learn from: let a "
    "model speak (--model)",
    Reason.SEVERAL_SAMPLES: "A speech was put together from several samples: run it with an agent "
    "that says it in one",
    Reason.CANCELLED: "The response was cut off by a cancelled call: run the debate again",
    Reason.EMPTY: "A response holds no words: raise max_tokens where thoughts use it up",
    Reason.IDENTICAL: "Both responses have the same words: sample with a higher temperature, or "
    "more candidates",
    Reason.UNCHANGED: "The revision is the response once more: nothing is to be learnt from the "
    "two; `oversight diff --all` shows what the critique found",
    Reason.DEFECTIVE: "A revision or its critique has a defect of form: keep such with "
    "--set defects=true, or read them with `oversight diff`",
    Reason.UNSCORED: "A candidate has no score: run its debate again, so that the judge chooses",
    Reason.BELOW_MARGIN: "The judges were nearer to 0.5, or the scores nearer together, than asked "
    "for: lower --set min_margin or --set min_score_gap",
    Reason.TIE: "It is a tie: keep such with --set ties=true, or in the layout kwise",
    Reason.BOTH_BAD: "A rating said that both responses are bad: sample better candidates",
    Reason.SAYS_NOTHING: "The answer in a task of your own prefers neither response: let its "
    "`preference` give a number, 0.5 for a tie",
    Reason.ALONE: "A response was scored, and none beside it: rate its siblings too "
    "(`oversight rate principles`)",
    Reason.DUPLICATE: "The same row from the same debate was there before: nothing is lost",
}
"""A sentence for people on each reason, and what to do about it."""


def in_words(reasons: Iterable[tuple[str, int]], within: str = "") -> list[tuple[int, str]]:
    """Counts by reason, as `Dropped.to_json` gives them, with a sentence for people.

    Args:
        reasons: One that names a task is in words already.
        within: Dotted place of these settings in those of the command, such as "data.preferences.".
    """
    known = {
        reason.value: words.replace("--set ", f"--set {within}") for reason, words in WORDS.items()
    }
    return [(number, known.get(name, name)) for name, number in reasons]


def explained(dropped: Dropped, kinds: Iterable[str], *, is_empty: bool) -> list[str]:
    """Sentences on what became no row, or on why there is no row at all, and what to do."""
    if dropped.total or not is_empty:
        return [f"{n:,} dropped: {reason}" for n, reason in in_words(dropped.to_json().items())]
    return [
        f"Nothing there can be compared ({', '.join(kinds)}): run a protocol with candidates "
        "(oversight debate --protocol debate_best_of_n), rate what was said (oversight rate "
        "pairs), or take --layout unpaired"
    ]


class PromptOf(Protocol):
    """Gives the stored prompt of an id, as `Store.prompt` does."""

    def __call__(self, prompt_id: str, /, *, num_tokens: int | None = None) -> PromptRecord:
        """The prompt, in the token ids of which there are `num_tokens`."""
        ...


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """Context that a sample answered: a prompt, as some model's tokens.

    One prompt read by two vocabularies is two sequences of ids; responses to
    them are not compared, as a row holds one.
    """

    prompt_id: str
    num_tokens: int | None
    """None where the engine did not count, 0 where it gave no token ids."""

    def read(self, prompt_of: PromptOf) -> PromptRecord:
        """The stored prompt."""
        return prompt_of(self.prompt_id, num_tokens=self.num_tokens)


def asked(sample: Sample) -> PromptTokens:
    """The context that `sample` answered."""
    if not sample.token_ids:
        return PromptTokens(sample.prompt_id, 0)
    return PromptTokens(sample.prompt_id, sample.usage.prompt_tokens or None)


def speech(turn: Turn) -> Sample | None:
    """The one sample that holds the turn's speech, or None if there are none or several."""
    found = [sample for sample in turn.samples if sample.purpose is Purpose.SPEECH]
    return found[0] if len(found) == 1 else None


def num_speech_samples(turn: Turn) -> int:
    """Number of samples that the turn's speech was made of."""
    return sum(sample.purpose is Purpose.SPEECH for sample in turn.samples)


def response(turn: Turn) -> Response:
    """The answer: the sampled text, tokens and log-probabilities, or the spoken words.

    Where an engine sampled the speech, the text is the sample's own, white
    space included, without the thoughts in it: those are private. The token ids
    are all that was sampled, thoughts included, as that is what the model did
    with the prompt; a model that learnt the words alone would unlearn to think.
    Without ids the row is its text, for the trainer to encode.
    """
    sample = speech(turn)
    if sample is None:
        return Response(text=turn.text, turn_id=turn.id, score=turn.score)
    has_ids = bool(sample.token_ids)
    return Response(
        text=divide(sample.text, sample.opened).text,
        token_ids=sample.token_ids if has_ids else None,
        logprobs=sample.logprobs if has_ids else None,
        logprobs_temperature=sample.logprobs_temperature if has_ids else None,
        turn_id=turn.id,
        score=turn.score,
    )


def flaw(turn: Turn) -> Reason | None:
    """The reason why the turn cannot be a response, or None if it can."""
    if num_speech_samples(turn) > 1:
        return Reason.SEVERAL_SAMPLES
    sample = speech(turn)
    if sample is not None and sample.finish_reason is FinishReason.CANCELLED:
        return Reason.CANCELLED
    return None if response(turn).text.strip() else Reason.EMPTY
