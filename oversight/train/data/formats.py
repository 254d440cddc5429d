"""The formats of rows of files: columns of each, how it is read, and how it is recognised.

Records of a store are what they are, and are not read by this (`rows`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from oversight.errors import DataError
from oversight.train.data.rows import (
    HH_ANSWER,
    MISSING,
    RANKS,
    UNREADABLE,
    UNREADABLE_IDS,
    Dialogue,
    ResponseRow,
    ResponseText,
    Row,
    RowError,
    Text,
    TextRow,
    answer_of,
    dense_ranks,
    is_dialogue,
    is_messages,
    list_cell,
    number_cell,
    optional_ids,
    optional_number,
    pair_only,
    read_dialogue,
    read_messages,
    required,
    score_gap,
    shown_cell,
    soft_label_cell,
    split_dialogues,
    split_messages,
    split_texts,
    text_cell,
    weight_cell,
)

EQUAL = "responses are equal"
LABEL = "the label is neither true nor false"
TOO_FEW = "fewer than two responses"

Cells = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Format:
    """Columns that a format must have (of alternatives one), and its reader."""

    columns: tuple[tuple[str, ...], ...]
    read: Callable[[Cells, str], Row]


def read_row(name: str, row: Cells, place: str) -> Row:
    """The row in the format `name`; its id is the column `id`, or else its place.

    Raises:
        RowError: It cannot be used.
    """
    own = row.get("id")
    return FORMATS[name].read(row, str(own) if own is not None else place)


def _pair(row: Cells, row_id: str) -> Row:
    prompt, *given = (required(row, name) for name in ("prompt", "chosen", "rejected"))
    if isinstance(prompt, str) and all(is_messages(g) and len(g) > 1 for g in given):
        return _implicit_pair(row, row_id)  # the prompt stands in both dialogues as well
    texts = [_answer(required(row, name), name) for name in ("chosen", "rejected")]
    return _two(row, row_id, _text(prompt, "prompt"), texts)


def _implicit_pair(row: Cells, row_id: str) -> Row:
    chosen, rejected = required(row, "chosen"), required(row, "rejected")
    if chosen == rejected:
        raise RowError(EQUAL)
    if is_messages(chosen) and is_messages(rejected):
        found = read_messages(chosen, "chosen"), read_messages(rejected, "rejected")
        messages, *answers = split_messages(*found)
        return _two(row, row_id, messages, answers)
    words = text_cell(chosen, "chosen"), text_cell(rejected, "rejected")
    prompt, *answers = split_texts(*words)
    return _two(row, row_id, prompt, answers)


def _hh(row: Cells, row_id: str) -> Row:
    chosen = text_cell(required(row, "chosen"), "chosen")
    rejected = text_cell(required(row, "rejected"), "rejected")
    if chosen == rejected:
        raise RowError(EQUAL)
    prompt, *answers = split_dialogues(chosen, rejected)
    return _two(row, row_id, Dialogue(prompt), answers)


def _kwise(row: Cells, row_id: str) -> Row:
    given = list_cell(required(row, "completions"), "completions", RANKS)
    if len(given) < 2:
        raise RowError(TOO_FEW, f"completions has {len(given)}")
    prompt = _text(required(row, "prompt"), "prompt")
    answers = [_said(prompt, _answer(item, f"completions[{i}]")) for i, item in enumerate(given)]
    sampled = row.get("completion_ids")
    ids = list_cell(sampled, "completion_ids", UNREADABLE_IDS) if sampled else ()
    if ids and len(ids) != len(answers):
        raise RowError(UNREADABLE_IDS, f"{len(ids)} completion_ids of {len(answers)}")
    listed = [optional_ids(item, "completion_ids") for item in ids] or [None] * len(answers)
    return ResponseRow(
        row_id,
        prompt,
        optional_ids(row.get("prompt_ids"), "prompt_ids"),
        tuple(map(ResponseText, answers, listed)),
        _ranks(row, len(answers)),
        soft_label=pair_only(soft_label_cell(row), "soft_label", len(answers)),
        margin=pair_only(optional_number(row, "margin"), "margin", len(answers)),
        score_gap=score_gap(_numbers(row, "scores", len(answers)) or ()),
        **_about(row),
    )


def _unpaired(row: Cells, row_id: str) -> Row:
    label = required(row, "label")
    if label not in (True, False) or not isinstance(label, bool | int):
        raise RowError(LABEL, f"label = {shown_cell(label)}")
    return _single(row, row_id, bool(label))


def _prompt_completion(row: Cells, row_id: str) -> Row:
    return _single(row, row_id, None)


def _messages(row: Cells, row_id: str) -> Row:
    name = "messages" if row.get("messages") is not None else "conversations"
    if row.get(name) is None:
        raise RowError(MISSING, "messages")
    given = row[name]
    found = read_dialogue(given) if is_dialogue(given) else read_messages(given, name)
    return TextRow(row_id, found, **_about(row))


def _plain(row: Cells, row_id: str) -> Row:
    return TextRow(row_id, text_cell(required(row, "text"), "text"), **_about(row))


def _prompt(row: Cells, row_id: str) -> Row:
    prompt = _text(required(row, "prompt"), "prompt")
    ids = optional_ids(row.get("prompt_ids"), "prompt_ids")
    return ResponseRow(row_id, prompt, ids, **_about(row))


FORMATS: dict[str, Format] = {
    "kwise": Format((("prompt",), ("completions",), ("ranks", "scores")), _kwise),
    "pair": Format((("prompt",), ("chosen",), ("rejected",)), _pair),
    "hh": Format((("chosen",), ("rejected",)), _hh),
    "implicit_pair": Format((("chosen",), ("rejected",)), _implicit_pair),
    "unpaired": Format((("prompt",), ("completion",), ("label",)), _unpaired),
    "messages": Format((("messages", "conversations"),), _messages),
    "prompt_completion": Format((("prompt",), ("completion",)), _prompt_completion),
    "text": Format((("text",),), _plain),
    "prompt": Format((("prompt",),), _prompt),
}
"""In the order in which a row is tried: the ones that ask for more stand first."""


def _two(row: Cells, row_id: str, prompt: Text, texts: list[str]) -> ResponseRow:
    names = ("chosen_ids", "rejected_ids")
    answers = [
        ResponseText(_said(prompt, words), optional_ids(row.get(name), name))
        for words, name in zip(texts, names, strict=True)
    ]
    return ResponseRow(
        row_id,
        prompt,
        optional_ids(row.get("prompt_ids"), "prompt_ids"),
        tuple(answers),
        (0, 1),
        soft_label=soft_label_cell(row),
        margin=optional_number(row, "margin"),
        score_gap=score_gap(
            (
                optional_number(row, "chosen_score", "score_chosen"),
                optional_number(row, "rejected_score", "score_rejected"),
            )
        ),
        **_about(row),
    )


def _single(row: Cells, row_id: str, label: bool | None) -> ResponseRow:
    prompt = _text(required(row, "prompt"), "prompt")
    words = _answer(required(row, "completion"), "completion")
    ids = optional_ids(row.get("completion_ids"), "completion_ids")
    return ResponseRow(
        row_id,
        prompt,
        optional_ids(row.get("prompt_ids"), "prompt_ids"),
        (ResponseText(_said(prompt, words), ids),),
        (0,),
        label=label,
        **_about(row),
    )


def _about(row: Cells) -> dict[str, Any]:
    question = row.get("question_id")
    return {
        "weight": weight_cell(row),
        "question_id": None if question is None else str(question),
    }


def _text(value: Any, name: str) -> Text:
    """A prompt: messages, a dialogue that waits for its answer, or a plain text."""
    if is_messages(value):
        return read_messages(value, name)
    words = text_cell(value, name)
    if is_dialogue(words) and words.rstrip().endswith(HH_ANSWER):
        return Dialogue(words.rstrip())
    return words


def _answer(value: Any, name: str) -> str:
    if is_messages(value):
        return answer_of(read_messages(value, name), name)
    if not isinstance(value, str):
        raise RowError(UNREADABLE, f"{name} is a {type(value).__name__}")
    return text_cell(value, name)


def _said(prompt: Text, words: str) -> str:
    """An answer's words; in a dialogue, white space around them belongs to the notation."""
    return words.strip() if isinstance(prompt, Dialogue) else words


def _ranks(row: Cells, num: int) -> tuple[int, ...]:
    """Dense ranks: from `ranks`, where 0 is best, or from `scores`, where more is better."""
    values = _numbers(row, "ranks", num)
    scores = _numbers(row, "scores", num)
    if values is None:
        if scores is None:
            raise RowError(MISSING, "ranks")
        values = [-score for score in scores]
    return dense_ranks(values)


def _numbers(row: Cells, name: str, num: int) -> list[float] | None:
    given = row.get(name)
    # An export writes a null for each response that has no score.
    if given is None or (name == "scores" and None in given):
        return None
    values = [number_cell(v, name) for v in list_cell(given, name, RANKS)]
    if len(values) != num:
        raise RowError(RANKS, f"{len(values)} {name} of {num} responses")
    return values


Kind = Literal["demonstrations", "comparisons", "labelled", "prompts"]

PAIRS = ("kwise", "pair", "hh", "implicit_pair")
ACCEPTED: dict[Kind, tuple[str, ...]] = {
    "demonstrations": ("messages", *PAIRS, "prompt_completion", "text"),
    "comparisons": PAIRS,
    "labelled": ("unpaired", *PAIRS),
    "prompts": (*PAIRS, "prompt"),
}
"""Formats that each kind of example is made of. Of compared responses SFT learns the best; KTO
learns the best as good and the worst as bad; PPO and GRPO take the prompt."""


def detect(rows: Sequence[Mapping[str, Any]], kind: Kind, forced: str, where: str) -> str:
    """The name of the format.

    Args:
        rows: The first rows of the source.
        kind: Kind of example to be made of them.
        forced: The setting `format`.
        where: The source, for messages.

    Raises:
        DataError: No format that gives this kind of example has these columns, or the one that
            was asked for gives no such examples.
    """
    if forced != "auto":
        if forced not in ACCEPTED[kind]:
            raise DataError(
                f"data.format = {forced!r} gives no {kind}; accepted: {', '.join(ACCEPTED[kind])}"
            )
        return forced
    columns = {name for row in rows for name, value in row.items() if value is not None}
    for name in ACCEPTED[kind]:
        if _has(columns, name) and (name != "hh" or _are_dialogues(rows)):
            return name
    found = ", ".join(sorted({name for row in rows for name in row})) or "none"
    raise DataError(
        f"{where}: columns {found} are of no format that gives {kind}. "
        f"Accepted: {_listed(kind)}. Name other columns in data.columns."
    )


def _has(columns: set[str], name: str) -> bool:
    return all(columns & set(alternatives) for alternatives in FORMATS[name].columns)


def _are_dialogues(rows: Sequence[Mapping[str, Any]]) -> bool:
    cells = [row.get(name) for row in rows for name in ("chosen", "rejected")]
    there = [cell for cell in cells if cell is not None]
    return sum(map(is_dialogue, there)) * 2 > len(there)


def _listed(kind: Kind) -> str:
    return "; ".join(
        f"{name} ({', '.join(' or '.join(alternatives) for alternatives in FORMATS[name].columns)})"
        for name in ACCEPTED[kind]
    )
