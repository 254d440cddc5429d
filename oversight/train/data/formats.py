"""The formats of rows: which columns each has, and how it is read.

pair               prompt, chosen, rejected: texts or messages; the export's layout `preference`
implicit_pair      chosen, rejected: whole texts or dialogues, whose common beginning is the prompt
hh                 chosen, rejected: dialogues as `\\n\\nHuman: … \\n\\nAssistant: …`
kwise              prompt, completions, ranks or scores; the export's layout `kwise`
unpaired           prompt, completion, label
prompt_completion  prompt, completion
messages           messages (or conversations)
text               text
prompt             prompt, and any other columns

Of each, these may stand beside: id, weight, question_id; prompt_ids with chosen_ids and
rejected_ids, or completion_ids: what a sampler read and wrote; soft_label, margin, scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from oversight.train.data import cells
from oversight.train.data.cells import BadRow, optional_number, required
from oversight.train.data.messages import (
    HH_ANSWER,
    UNREADABLE,
    answer_of,
    is_dialogue,
    is_messages,
    read_dialogue,
    read_messages,
    split_dialogues,
    split_messages,
    split_texts,
)
from oversight.train.data.records import Answer, Answered, Dialogue, Row, Text, Whole

EQUAL = "responses are equal"
RANKS = "ranks do not fit the responses"
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
        BadRow: It cannot be used.
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
        raise BadRow(EQUAL)
    if is_messages(chosen) and is_messages(rejected):
        found = read_messages(chosen, "chosen"), read_messages(rejected, "rejected")
        messages, *answers = split_messages(*found)
        return _two(row, row_id, messages, answers)
    words = cells.text(chosen, "chosen"), cells.text(rejected, "rejected")
    prompt, *answers = split_texts(*words)
    return _two(row, row_id, prompt, answers)


def _hh(row: Cells, row_id: str) -> Row:
    chosen = cells.text(required(row, "chosen"), "chosen")
    rejected = cells.text(required(row, "rejected"), "rejected")
    if chosen == rejected:
        raise BadRow(EQUAL)
    prompt, *answers = split_dialogues(chosen, rejected)
    return _two(row, row_id, Dialogue(prompt), answers)


def _kwise(row: Cells, row_id: str) -> Row:
    given = cells.sequence(required(row, "completions"), "completions", RANKS)
    if len(given) < 2:
        raise BadRow(TOO_FEW, f"completions has {len(given)}")
    prompt = _text(required(row, "prompt"), "prompt")
    answers = [_said(prompt, _answer(item, f"completions[{i}]")) for i, item in enumerate(given)]
    sampled = row.get("completion_ids")
    ids = cells.sequence(sampled, "completion_ids", cells.UNREADABLE_IDS) if sampled else ()
    if ids and len(ids) != len(answers):
        raise BadRow(cells.UNREADABLE_IDS, f"{len(ids)} completion_ids of {len(answers)}")
    listed = [cells.optional_ids(item, "completion_ids") for item in ids] or [None] * len(answers)
    return Answered(
        row_id,
        prompt,
        cells.optional_ids(row.get("prompt_ids"), "prompt_ids"),
        tuple(map(Answer, answers, listed)),
        _ranks(row, len(answers)),
        soft_label=_pair_only(row, cells.soft_label(row), "soft_label", len(answers)),
        margin=_pair_only(row, optional_number(row, "margin"), "margin", len(answers)),
        **_about(row),
    )


def _unpaired(row: Cells, row_id: str) -> Row:
    label = required(row, "label")
    if label not in (True, False) or not isinstance(label, bool | int):
        raise BadRow(LABEL, f"label = {cells.shown(label)}")
    return _single(row, row_id, bool(label))


def _prompt_completion(row: Cells, row_id: str) -> Row:
    return _single(row, row_id, None)


def _messages(row: Cells, row_id: str) -> Row:
    name = "messages" if row.get("messages") is not None else "conversations"
    if row.get(name) is None:
        raise BadRow(cells.MISSING, "messages")
    given = row[name]
    found = read_dialogue(given) if is_dialogue(given) else read_messages(given, name)
    return Whole(row_id, found, **_about(row))


def _plain(row: Cells, row_id: str) -> Row:
    return Whole(row_id, cells.text(required(row, "text"), "text"), **_about(row))


def _prompt(row: Cells, row_id: str) -> Row:
    prompt = _text(required(row, "prompt"), "prompt")
    ids = cells.optional_ids(row.get("prompt_ids"), "prompt_ids")
    return Answered(row_id, prompt, ids, **_about(row))


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


def _two(row: Cells, row_id: str, prompt: Text, texts: list[str]) -> Answered:
    names = ("chosen_ids", "rejected_ids")
    answers = [
        Answer(_said(prompt, words), cells.optional_ids(row.get(name), name))
        for words, name in zip(texts, names, strict=True)
    ]
    return Answered(
        row_id,
        prompt,
        cells.optional_ids(row.get("prompt_ids"), "prompt_ids"),
        tuple(answers),
        (0, 1),
        soft_label=cells.soft_label(row),
        margin=optional_number(row, "margin"),
        score_gap=_score_gap(row),
        **_about(row),
    )


def _single(row: Cells, row_id: str, label: bool | None) -> Answered:
    prompt = _text(required(row, "prompt"), "prompt")
    words = _answer(required(row, "completion"), "completion")
    ids = cells.optional_ids(row.get("completion_ids"), "completion_ids")
    return Answered(
        row_id,
        prompt,
        cells.optional_ids(row.get("prompt_ids"), "prompt_ids"),
        (Answer(_said(prompt, words), ids),),
        (0,),
        label=label,
        **_about(row),
    )


def _about(row: Cells) -> dict[str, Any]:
    question = row.get("question_id")
    return {
        "weight": cells.weight(row),
        "question_id": None if question is None else str(question),
    }


def _text(value: Any, name: str) -> Text:
    """A prompt: messages, a dialogue that waits for its answer, or a plain text."""
    if is_messages(value):
        return read_messages(value, name)
    words = cells.text(value, name)
    if is_dialogue(words) and words.rstrip().endswith(HH_ANSWER):
        return Dialogue(words.rstrip())
    return words


def _answer(value: Any, name: str) -> str:
    if is_messages(value):
        return answer_of(read_messages(value, name), name)
    if not isinstance(value, str):
        raise BadRow(UNREADABLE, f"{name} is a {type(value).__name__}")
    return cells.text(value, name)


def _said(prompt: Text, words: str) -> str:
    """An answer's words; in a dialogue, white space around them belongs to the notation."""
    return words.strip() if isinstance(prompt, Dialogue) else words


def _ranks(row: Cells, num: int) -> tuple[int, ...]:
    """Dense ranks: from `ranks`, where 0 is best, or from `scores`, where more is better."""
    values = _numbers(row, "ranks", num)
    scores = _numbers(row, "scores", num)
    if values is None:
        if scores is None:
            raise BadRow(cells.MISSING, "ranks")
        values = [-score for score in scores]
    order = {value: rank for rank, value in enumerate(sorted(set(values)))}
    return tuple(order[value] for value in values)


def _numbers(row: Cells, name: str, num: int) -> list[float] | None:
    given = row.get(name)
    # An export writes a null for each response that has no score.
    if given is None or (name == "scores" and None in given):
        return None
    values = [cells.number(v, name) for v in cells.sequence(given, name, RANKS)]
    if len(values) != num:
        raise BadRow(RANKS, f"{len(values)} {name} of {num} responses")
    return values


def _score_gap(row: Cells) -> float | None:
    best = optional_number(row, "chosen_score", "score_chosen")
    worst = optional_number(row, "rejected_score", "score_rejected")
    return None if best is None or worst is None else best - worst


def _pair_only(row: Cells, value: float | None, name: str, num: int) -> float | None:
    if value is not None and num != 2:
        raise BadRow(RANKS, f"{name} of {num} responses")
    return value
