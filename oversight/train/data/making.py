"""From encoded rows to examples, one function for each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from oversight.train.data.cells import MISSING, BadRow
from oversight.train.data.detecting import Kind
from oversight.train.data.encoding import EMPTY, Encoder
from oversight.train.data.formats import EQUAL
from oversight.train.data.records import Answered, Row, Whole
from oversight.train.data.settings import DataSettings
from oversight.train.types import (
    Comparison,
    Demonstration,
    Ids,
    Labelled,
    PromptExample,
    TokenRow,
)

TIE = "a tie has no better side"
CONTRADICTION = "equal responses have different ranks"
MERGED = "equal responses were merged"

Cells = Mapping[str, Any]
Make = Callable[[Row, Cells, Encoder], list[Any]]

ANSWER_COLUMNS = frozenset(
    {
        *("chosen", "rejected", "completions", "completion"),
        *("chosen_ids", "rejected_ids", "completion_ids"),
        *("ranks", "tie", "scores", "chosen_score", "rejected_score"),
        *("soft_label", "margin", "weight"),
    }
)
"""Columns of answered rows that say nothing about the prompt itself."""
PROMPT_COLUMNS = frozenset({"id", "prompt", "prompt_ids"})
"""What a prompt example has as attributes; other columns are its fields."""


def demonstrations(row: Row, cells: Cells, encoder: Encoder) -> list[Demonstration]:
    """What SFT learns of a row: its response, its assistant's turns, or the best of several."""
    everything = encoder.settings.train_on == "all"
    if isinstance(row, Whole):
        found = encoder.whole(row)
        made = TokenRow(found.prompt, found.rest, found.mask, id=row.id)
    else:
        best = _best(row)
        fitted = encoder.answered(best)
        made = TokenRow(fitted.prompt, fitted.responses[0], id=row.id)
    return [Demonstration(_all_tokens(made) if everything else made, row.weight)]


def comparisons(row: Row, cells: Cells, encoder: Encoder) -> list[Comparison]:
    """The ranking of a row, best first."""
    assert isinstance(row, Answered)
    fitted = encoder.answered(row)
    kept = _distinct(fitted.responses, row, encoder)
    order = sorted(kept, key=lambda i: row.ranks[i])
    flipped = len(row.answers) == 2 and order == [1, 0]
    soft, margin = row.soft_label, _margin(row, encoder.settings)
    return [
        Comparison(
            row.id,
            fitted.prompt,
            tuple(fitted.responses[i] for i in order),
            _dense([row.ranks[i] for i in order]),
            soft_label=1.0 - soft if flipped and soft is not None else soft,
            margin=-margin if flipped and margin is not None else margin,
            weight=row.weight,
        )
    ]


def labelled(row: Row, cells: Cells, encoder: Encoder) -> list[Labelled]:
    """A response and its label; of compared ones the best as good and the worst as bad."""
    assert isinstance(row, Answered)
    if row.label is not None:
        fitted = encoder.answered(row)
        made = TokenRow(fitted.prompt, fitted.responses[0], id=row.id)
        return [Labelled(made, row.label, row.weight)]
    (ranking,) = comparisons(row, cells, encoder)
    if ranking.is_tie:
        raise BadRow(TIE)
    rows = ranking.rows()
    return [
        Labelled(rows[0], True, row.weight),
        Labelled(rows[-1], False, row.weight),
    ]


def prompts(row: Row, cells: Cells, encoder: Encoder) -> list[PromptExample]:
    """The prompt of a row, with the row's other columns."""
    assert isinstance(row, Answered)
    bare = Answered(row.id, row.prompt, row.prompt_ids, question_id=row.question_id)
    fitted = encoder.answered(bare)
    left_out = PROMPT_COLUMNS | (ANSWER_COLUMNS if row.answers else frozenset())
    fields = {
        name: value
        for name, value in cells.items()
        if name not in left_out and not name.endswith("logprobs")
    }
    return [PromptExample(row.id, fitted.prompt, fields)]


MAKERS: dict[Kind, Make] = {
    "demonstrations": demonstrations,
    "comparisons": comparisons,
    "labelled": labelled,
    "prompts": prompts,
}


def _best(row: Answered) -> Answered:
    """The row with its best answer only."""
    if len(row.answers) == 1:
        return row
    if not row.answers:
        raise BadRow(MISSING, "a response")
    if row.ranks.count(min(row.ranks)) == len(row.ranks):
        raise BadRow(TIE)
    best = row.ranks.index(min(row.ranks))
    return Answered(
        row.id,
        row.prompt,
        row.prompt_ids,
        (row.answers[best],),
        (0,),
        weight=row.weight,
        question_id=row.question_id,
    )


def _all_tokens(row: TokenRow) -> TokenRow:
    """The row with every token learnt but the first, which nothing predicts."""
    ids = row.ids()
    if len(ids) < 2:
        raise BadRow(EMPTY)
    return TokenRow(ids[:1], ids[1:], id=row.id)


def _distinct(responses: tuple[Ids, ...], row: Answered, encoder: Encoder) -> list[int]:
    """Which responses to keep: the first of those that are equal.

    Raises:
        BadRow: They are equal and ranked differently, or fewer than two are left.
    """
    first: dict[str | bytes, int] = {}
    kept: list[int] = []
    for i, (ids, answer) in enumerate(zip(responses, row.answers, strict=True)):
        known = [first[key] for key in (ids.tobytes(), answer.text) if key in first]
        if not known:
            kept.append(i)
        elif row.ranks[known[0]] != row.ranks[i]:
            raise BadRow(EQUAL if len(row.answers) == 2 else CONTRADICTION)
        first.setdefault(ids.tobytes(), i)
        first.setdefault(answer.text, i)
    if len(kept) < 2:
        raise BadRow(EQUAL)
    if len(kept) < len(responses):
        encoder.refused.shorten(MERGED, row.id)
    return kept


def _margin(row: Answered, settings: DataSettings) -> float | None:
    return row.score_gap if settings.margin == "scores" else row.margin


def _dense(ranks: list[int]) -> tuple[int, ...]:
    """Sorted ranks without gaps."""
    order = {rank: place for place, rank in enumerate(sorted(set(ranks)))}
    return tuple(order[rank] for rank in ranks)
