"""Lists of messages, and dialogues written as one text, read as the project's own messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from oversight.train.data.cells import BadRow, sequence, text
from oversight.types import Message

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
    """Whether the cell is meant as a list of messages."""
    return isinstance(value, list | tuple) and all(isinstance(item, Mapping) for item in value)


def read_messages(value: Any, name: str) -> tuple[Message, ...]:
    """The messages of a cell: a list of {role, content}, or of {from, value}.

    Raises:
        BadRow: It is no such list, or says what cannot be trained on (tools, pictures).
    """
    items = sequence(value, name, UNREADABLE)
    if not items:
        raise BadRow(UNREADABLE, f"{name} has none")
    return tuple(_message(item, f"{name}[{i}]") for i, item in enumerate(items))


def is_dialogue(value: Any) -> bool:
    """Whether the cell is a dialogue as hh-rlhf writes them."""
    return isinstance(value, str) and value.startswith("\n\nHuman:") and HH_ANSWER in value


def read_dialogue(dialogue: str) -> tuple[Message, ...]:
    """The messages of a dialogue written as `\\n\\nHuman: … \\n\\nAssistant: …`.

    White space around a turn belongs to the notation. Equal roles may follow each other.
    """
    parts = HH_TURN.split(dialogue)
    if parts[0].strip():
        raise BadRow(UNREADABLE, "text before the first turn")
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return tuple(
        Message(role="user" if who == "Human" else "assistant", parts=(said.strip(),))
        for who, said in pairs
    )


def split_dialogues(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The prompt up to the last common `Assistant:`, and the two answers to it.

    Raises:
        BadRow: They have no such turn in common, or an answer holds further turns.
    """
    common = _common(chosen, rejected)
    cut = common.rfind(HH_ANSWER)
    if cut < 0:
        raise BadRow(NO_COMMON_PROMPT)
    cut += len(HH_ANSWER)
    answers = chosen[cut:], rejected[cut:]
    if any(HH_TURN.search(answer) for answer in answers):
        raise BadRow(SEVERAL_TURNS)
    return chosen[:cut], *answers


def split_messages(
    chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> tuple[tuple[Message, ...], str, str]:
    """The common first messages, and the two answers to them.

    Raises:
        BadRow: They share none, or do not end with one answer each.
    """
    shared = 0
    # The last message of either is its answer, even where the other has it as a turn.
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if not shared:
        raise BadRow(NO_COMMON_PROMPT)
    if len(chosen) - shared != 1 or len(rejected) - shared != 1:
        raise BadRow(SEVERAL_TURNS)
    answers = [
        answer_of(messages[shared:], "chosen and rejected") for messages in (chosen, rejected)
    ]
    return chosen[:shared], answers[0], answers[1]


def split_texts(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The common beginning up to the last whole word, and what follows it in each.

    Raises:
        BadRow: Nothing is common.
    """
    common = _common(chosen, rejected)
    words = re.match(r"(.*\S)(?=\s)", common, re.DOTALL)
    whole = common and all(
        not rest or rest[0].isspace() for rest in _rests(common, chosen, rejected)
    )
    prompt = common if whole else words.group() if words else ""
    if not prompt.strip():
        raise BadRow(NO_COMMON_PROMPT)
    return prompt, chosen[len(prompt) :], rejected[len(prompt) :]


def answer_of(messages: tuple[Message, ...], name: str) -> str:
    """The content of what must be one message of the assistant."""
    if len(messages) != 1 or messages[0].role != "assistant":
        found = ", ".join(message.role for message in messages) or "nothing"
        raise BadRow(UNREADABLE, f"{name} must be one assistant message, found {found}")
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
        raise BadRow(UNREADABLE, f"{name} is a {type(item).__name__}")
    role = item.get("role", item.get("from"))
    if role not in ROLES:
        raise BadRow(UNREADABLE, f"{name}.role = {role!r}")
    if item.get("tool_calls"):
        raise BadRow(UNREADABLE, f"{name} calls tools")
    content = _content(item.get("content", item.get("value")), f"{name}.content")
    return Message(role=cast(Any, ROLES[role]), parts=(content,))


def _content(value: Any, name: str) -> str:
    """A string, or a list of text parts, as some data sets write it."""
    if isinstance(value, list | tuple):
        parts = [part.get("text") if isinstance(part, Mapping) else None for part in value]
        if any(part is None for part in parts):
            raise BadRow(UNREADABLE, f"{name} holds more than text")
        return "".join(text(part, name) for part in parts)
    if value is None:
        raise BadRow(UNREADABLE, f"{name} is missing")
    return text(value, name)
