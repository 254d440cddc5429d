"""Rows before they become token ids: checked cells, messages and dialogues, and what a row says.

A row that cannot be used raises `RowError` with the reason that is counted.
"""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from oversight.ids import text_id
from oversight.text.prompts import labelled
from oversight.types import GivenResponse, Labelled, Message, Preference, Prompt, Response

NUM_SHOWN_CHARS = 60
MOST = 2**31 - 1
"""No vocabulary is larger, and no array of ids holds more than 64 bits."""


class RowError(Exception):
    """A row cannot be used; `reason` is what is counted, `detail` what is wrong in this one."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


MISSING = "a column is missing"
NOT_FINITE = "a number is not finite"
NOT_A_NUMBER = "a number is unreadable"
SOFT_LABEL = "the soft label is no probability"
WEIGHT = "the weight is negative"
WEIGHT_SIZE = "the weight is too large or too small for float32"
WEIGHTS = (1e-30, 1e30)
"""Least and most of a weight that is not 0."""
UNREADABLE_IDS = "token ids are unreadable"
UNREADABLE_TEXT = "a text is unreadable"


def required(row: Mapping[str, Any], name: str) -> Any:
    """The cell `name`, which must not be missing or null."""
    value = row.get(name)
    if value is None:
        raise RowError(MISSING, name)
    return value


def text_cell(value: Any, name: str) -> str:
    """A string that can be encoded."""
    if not isinstance(value, str):
        raise RowError(UNREADABLE_TEXT, f"{name} is a {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise RowError(UNREADABLE_TEXT, f"{name} holds half of a surrogate pair") from None
    return value


def number_cell(value: Any, name: str) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowError(NOT_A_NUMBER, f"{name} = {shown_cell(value)}")
    if not math.isfinite(value):
        raise RowError(NOT_FINITE, f"{name} = {value}")
    return float(value)


def optional_number(row: Mapping[str, Any], *names: str) -> float | None:
    """The first of the cells `names` that is there, as a finite number."""
    for name in names:
        if row.get(name) is not None:
            return number_cell(row[name], name)
    return None


def soft_label_cell(row: Mapping[str, Any]) -> float | None:
    """The cell `soft_label`: a probability, or None."""
    return checked_soft_label(optional_number(row, "soft_label"))


def checked_soft_label(value: float | None) -> float | None:
    """A probability, or None."""
    if value is not None and not 0.0 <= value <= 1.0:
        raise RowError(SOFT_LABEL, f"soft_label = {value}")
    return value


def weight_cell(row: Mapping[str, Any]) -> float:
    """The cell `weight`, 1 where there is none."""
    value = optional_number(row, "weight")
    return 1.0 if value is None else checked_weight(value)


def checked_weight(value: float) -> float:
    """A weight that is none or that float32 holds."""
    if value < 0.0:
        raise RowError(WEIGHT, f"weight = {value}")
    if value and not WEIGHTS[0] <= value <= WEIGHTS[1]:
        raise RowError(WEIGHT_SIZE, f"weight = {value}")
    return value


def optional_ids(value: Any, name: str) -> tuple[int, ...] | None:
    """A list of token ids, or None where there is none."""
    if value is None:
        return None
    whole = isinstance(value, list | tuple) and all(type(i) is int for i in value)
    if not whole or (value and not -MOST <= min(value) <= max(value) <= MOST):
        raise RowError(UNREADABLE_IDS, f"{name} = {shown_cell(value)}")
    return tuple(value)


def list_cell(value: Any, name: str, reason: str) -> Sequence[Any]:
    """A list of anything."""
    if not isinstance(value, list | tuple):
        raise RowError(reason, f"{name} is a {type(value).__name__}")
    return value


def shown_cell(value: Any) -> str:
    """A wrong value, shortened."""
    found = repr(value)
    return found if len(found) <= NUM_SHOWN_CHARS else found[:NUM_SHOWN_CHARS] + "…"


RANKS = "ranks do not fit the responses"
UNREADABLE = "messages are unreadable"
NO_COMMON_PROMPT = "chosen and rejected share no prompt"
SEVERAL_TURNS = "chosen and rejected part before the last turn"

ROLES = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "human": "user",
    "gpt": "assistant",
}
"""Roles as data sets name them, and what they are here."""

HH_TURN = re.compile(r"\n\n(Human|Assistant):")
HH_ANSWER = "\n\nAssistant:"


def is_messages(value: Any) -> bool:
    """Return whether the cell is meant as a list of messages."""
    return isinstance(value, list | tuple) and all(isinstance(item, Mapping) for item in value)


def read_messages(value: Any, name: str) -> tuple[Message, ...]:
    """The messages of a cell: a list of {role, content}, or of {from, value}.

    Raises:
        RowError: It is no such list, or says what cannot be trained on (tools, pictures).
    """
    items = list_cell(value, name, UNREADABLE)
    if not items:
        raise RowError(UNREADABLE, f"{name} has none")
    return tuple(_message(item, f"{name}[{i}]") for i, item in enumerate(items))


def is_dialogue(value: Any) -> bool:
    """Return whether the cell is a dialogue as hh-rlhf writes them."""
    return isinstance(value, str) and value.startswith("\n\nHuman:") and HH_ANSWER in value


def read_dialogue(dialogue: str) -> tuple[Message, ...]:
    """The messages of a dialogue written as `\\n\\nHuman: … \\n\\nAssistant: …`.

    White space around a turn belongs to the notation. Equal roles may follow each other.
    """
    turns = labelled(dialogue, ("Human", "Assistant"))
    if turns and not turns[0][0]:
        raise RowError(UNREADABLE, "text before the first turn")
    return tuple(
        Message(role="user" if who == "Human" else "assistant", parts=(said,))
        for who, said in turns
    )


def split_dialogues(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The prompt up to the last common `Assistant:`, and the two answers to it.

    Raises:
        RowError: They have no such turn in common, or an answer holds further turns.
    """
    common = _common(chosen, rejected)
    cut = common.rfind(HH_ANSWER)
    if cut < 0:
        raise RowError(NO_COMMON_PROMPT)
    cut += len(HH_ANSWER)
    answers = chosen[cut:], rejected[cut:]
    if any(HH_TURN.search(answer) for answer in answers):
        raise RowError(SEVERAL_TURNS)
    return chosen[:cut], *answers


def split_messages(
    chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> tuple[tuple[Message, ...], str, str]:
    """The common first messages, and the two answers to them.

    Raises:
        RowError: They share none, or do not end with one answer each.
    """
    shared = 0
    # The last message of either is its answer, even where the other has it as a turn.
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if not shared:
        raise RowError(NO_COMMON_PROMPT)
    if len(chosen) - shared != 1 or len(rejected) - shared != 1:
        raise RowError(SEVERAL_TURNS)
    answers = [
        answer_of(messages[shared:], "chosen and rejected") for messages in (chosen, rejected)
    ]
    return chosen[:shared], answers[0], answers[1]


def split_texts(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The common beginning up to the last whole word, and what follows it in each.

    Raises:
        RowError: Nothing is common.
    """
    common = _common(chosen, rejected)
    words = re.match(r"(.*\S)(?=\s)", common, re.DOTALL)
    whole = common and all(
        not rest or rest[0].isspace() for rest in _rests(common, chosen, rejected)
    )
    prompt = common if whole else words.group() if words else ""
    if not prompt.strip():
        raise RowError(NO_COMMON_PROMPT)
    return prompt, chosen[len(prompt) :], rejected[len(prompt) :]


def answer_of(messages: tuple[Message, ...], name: str) -> str:
    """The content of what must be one message of the assistant."""
    if len(messages) != 1 or messages[0].role != "assistant":
        found = ", ".join(message.role for message in messages) or "nothing"
        raise RowError(UNREADABLE, f"{name} must be one assistant message, found {found}")
    return messages[0].content


def _common(left: str, right: str) -> str:
    """The longest beginning of both, found by halving: texts are long."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left.startswith(right[:middle]):
            low = middle
        else:
            high = middle - 1
    return left[:low]


def _rests(common: str, *texts: str) -> list[str]:
    return [whole[len(common) :] for whole in texts]


def _message(item: Any, name: str) -> Message:
    if not isinstance(item, Mapping):
        raise RowError(UNREADABLE, f"{name} is a {type(item).__name__}")
    role = item.get("role", item.get("from"))
    if role not in ROLES:
        raise RowError(UNREADABLE, f"{name}.role = {role!r}")
    if item.get("tool_calls"):
        raise RowError(UNREADABLE, f"{name} calls tools")
    content = _content(item.get("content", item.get("value")), f"{name}.content")
    return Message(role=cast(Any, ROLES[role]), parts=(content,))


def _content(value: Any, name: str) -> str:
    """A string, or a list of text parts, as some data sets write it."""
    if isinstance(value, list | tuple):
        parts = [part.get("text") if isinstance(part, Mapping) else None for part in value]
        if any(part is None for part in parts):
            raise RowError(UNREADABLE, f"{name} holds more than text")
        return "".join(text_cell(part, name) for part in parts)
    if value is None:
        raise RowError(UNREADABLE, f"{name} is missing")
    return text_cell(value, name)


IdsGiven = tuple[int, ...]


class Dialogue(str):
    """A text in the notation of hh-rlhf that ends with `Assistant:` and waits for the answer."""


Text = str | Dialogue | tuple[Message, ...]
"""A plain text, a dialogue written as one, or a list of messages."""


@dataclass(frozen=True, slots=True)
class ResponseText:
    """One response: its words, and its ids where a sampler gave them."""

    text: str
    ids: IdsGiven | None = None


@dataclass(frozen=True, slots=True)
class ResponseRow:
    """A prompt with any number of responses, as most formats have it."""

    id: str
    prompt: Text
    prompt_ids: IdsGiven | None = None
    answers: tuple[ResponseText, ...] = ()
    ranks: tuple[int, ...] = ()
    """One for each answer, 0 is best."""
    soft_label: float | None = None
    """Of a pair: probability that the first answer is the better one."""
    margin: float | None = None
    """Of a pair: by how much the first answer is better."""
    score_gap: float | None = None
    """Of a pair: the first answer's score less the second's."""
    label: bool | None = None
    """Of a single answer: good or bad."""
    weight: float = 1.0
    question_id: str | None = None

    def groups(self) -> tuple[str, ...]:
        """Return the keys of rows that must not be parted: the question, and the prompt."""
        return _groups(self.question_id, self.prompt)


@dataclass(frozen=True, slots=True)
class TextRow:
    """A text or dialogue without a marked response, for SFT."""

    id: str
    content: Text
    weight: float = 1.0
    question_id: str | None = None

    def groups(self) -> tuple[str, ...]:
        """Return the keys of rows that must not be parted: a dialogue's first messages."""
        if isinstance(self.content, str):
            return _groups(self.question_id, self.content)
        turns = [i for i, message in enumerate(self.content) if message.role == "assistant"]
        return _groups(self.question_id, self.content[: turns[0]] if turns else self.content)


Row = ResponseRow | TextRow


def of_preference(row: Preference) -> ResponseRow:
    """The comparison that a record holds, as it stands; nothing is told by its columns.

    Raises:
        RowError: It holds what cannot be learnt from, such as half of a character.
    """
    soft = None if row.soft_label is None else number_cell(row.soft_label, "soft_label")
    margin = None if row.margin is None else number_cell(row.margin, "margin")
    scores = [response.score for response in row.responses]
    return ResponseRow(
        row.id,
        _messages(row.prompt),
        optional_ids(row.prompt_ids, "prompt_ids"),
        tuple(_response(each, f"responses[{i}]") for i, each in enumerate(row.responses)),
        dense_ranks(row.ranks),
        soft_label=pair_only(checked_soft_label(soft), "soft_label", len(row.responses)),
        margin=pair_only(margin, "margin", len(row.responses)),
        score_gap=score_gap(scores),
        weight=checked_weight(number_cell(row.weight, "weight")),
        question_id=row.provenance.question_id,
    )


def of_given(row: GivenResponse) -> ResponseRow:
    """The response that a record holds, as it stands.

    Raises:
        RowError: It holds what cannot be learnt from.
    """
    return ResponseRow(
        row.id,
        _messages(row.prompt),
        optional_ids(row.prompt_ids, "prompt_ids"),
        (_response(row.response, "response"),),
        (0,),
        question_id=row.provenance.question_id,
    )


def of_labelled(row: Labelled) -> ResponseRow:
    """The labelled response that a record holds, as it stands.

    Raises:
        RowError: It holds what cannot be learnt from.
    """
    return ResponseRow(
        row.id,
        _messages(row.prompt),
        optional_ids(row.prompt_ids, "prompt_ids"),
        (_response(row.response, "response"),),
        (0,),
        label=row.label,
        weight=checked_weight(number_cell(row.weight, "weight")),
        question_id=row.provenance.question_id,
    )


def dense_ranks(values: Sequence[float]) -> tuple[int, ...]:
    """Ranks from 0 on without gaps, equal where the values are."""
    order = {value: rank for rank, value in enumerate(sorted(set(values)))}
    return tuple(order[value] for value in values)


def pair_only(value: float | None, name: str, num: int) -> float | None:
    """The value, which rows of more than two responses cannot have."""
    if value is not None and num != 2:
        raise RowError(RANKS, f"{name} of {num} responses")
    return value


def score_gap(scores: Sequence[float | None]) -> float | None:
    """Of a pair with finite scores, the first one's less the second's; else None."""
    if len(scores) != 2:
        return None
    first, second = scores
    if first is None or second is None or not (math.isfinite(first) and math.isfinite(second)):
        return None
    return first - second


def _messages(prompt: Prompt) -> tuple[Message, ...]:
    return tuple(
        Message(role=m.role, parts=(text_cell(m.content, f"prompt[{i}].content"),))
        for i, m in enumerate(prompt.messages)
    )


def _response(response: Response, name: str) -> ResponseText:
    ids = optional_ids(response.token_ids, f"{name}.token_ids")
    return ResponseText(text_cell(response.text, f"{name}.text"), ids)


def text_key(text: Text) -> str:
    """A short name of a text for look-ups, so that the text itself need not be kept."""
    if isinstance(text, str):
        return text_id(type(text).__name__, text)
    return text_id(*(part for message in text for part in (message.role, message.content)))


def ids_key(ids: IdsGiven) -> bytes:
    """A short name of token ids for look-ups."""
    return hashlib.blake2b(array("q", ids).tobytes(), digest_size=16).digest()


def _groups(question_id: str | None, prompt: Text) -> tuple[str, ...]:
    # A plain prompt and the same words as one user's message are the same prompt.
    texts = (
        ["user", prompt]
        if isinstance(prompt, str)
        else [part for message in prompt for part in (message.role, message.content)]
    )
    own = f"prompt:{text_id(*texts)}"
    return (own,) if question_id is None else (own, f"question:{question_id}")
