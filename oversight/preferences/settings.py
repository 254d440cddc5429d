"""Criteria of a preference: settings of the step from judged debates to rows."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from oversight.config.settings import Settings
from oversight.types.preferences import PreferenceKind


class PreferenceSettings(Settings):
    """Choice of the rows that are made of judged debates, and of those left out."""

    kinds: tuple[PreferenceKind, ...] = Field(default=get_args(PreferenceKind), min_length=1)
    """`sides`: the two sides' answers to one prompt. `siblings`: best-of-N candidates. What people
    or models rated: `pairs` of candidates, candidates by `principles`, `revisions` against first
    speeches."""
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
    """Whose feedback counts, of pairs, principles and revisions: that of people, of models, or of
    both alike."""
    min_margin: float = Field(default=0.0, ge=0.0, lt=0.5)
    """Sides, pairs, revisions: how far the belief in the winner must lie from 0.5."""
    min_score_gap: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Siblings, principles: how far apart the scores of a pair must lie."""
    unseen: bool = Field(default=True, exclude_if=bool)
    """Judgments and ratings of people before whom some turns had never stood completely on the
    screen count as well. What a model gave, and what nobody recorded, counts in any case."""
    ties: bool = True
    """Make rows of ties as well; the pair layout of the export leaves them out."""
    weight: Literal["equal", "per_prompt", "margin"] = "equal"
    """Weight of a row: 1; 1 shared by all rows of one prompt in one debate; or twice the
    belief's distance from 0.5 (sides, pairs, revisions) and the score gap (siblings,
    principles)."""
