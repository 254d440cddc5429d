"""Counts of what did not become a preference row, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Reason(StrEnum):
    """Why something judged did not become a row."""

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
    UNSCORED = "unscored"
    """A sibling has no score."""
    BELOW_MARGIN = "below_margin"
    """The judges' belief is nearer to 0.5, or the scores nearer together, than asked for."""
    TIE = "tie"
    """A tie, and ties are not asked for."""
    BOTH_BAD = "both_bad"
    """A rating said that both responses are bad: neither is to be learnt from."""
    ALONE = "alone"
    """A response was scored by principles and none of its siblings was."""
    DUPLICATE = "duplicate"
    """The same row from the same debate was there before."""


@dataclass
class Dropped:
    """A counter by reason, filled while rows are made."""

    counts: Counter[Reason] = field(default_factory=Counter)

    def add(self, reason: Reason, number: int = 1) -> None:
        """Count `number` more for `reason`."""
        if number:
            self.counts[reason] += number

    @property
    def total(self) -> int:
        """Number dropped, for all reasons together."""
        return self.counts.total()

    def to_json(self) -> dict[str, int]:
        """Counts by reason, the commonest first."""
        return {reason.value: number for reason, number in self.counts.most_common()}
