"""HH-RLHF: people's requests to an assistant, with the dialogue before them, as open prompts.

Reads the JSONL files of https://github.com/anthropics/hh-rlhf (MIT licence; Bai et al. 2022,
"Training a Helpful and Harmless Assistant", arXiv:2204.05862). A dialogue is divided where a blank
line is followed by `Human:` or `Assistant:`, and nowhere else: colons within the words are words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict

from oversight.config import Settings
from oversight.datasets.base import (
    BadRow,
    QuestionRow,
    jsonl_objects,
    locate,
    parse_record,
    prompt_row,
)
from oversight.ids import content_id
from oversight.text.prompts import labelled
from oversight.types import Message

USUAL_PLACE = "hh-rlhf/harmless-test-1200.jsonl"
WHERE_TO_GET = "The files are at https://github.com/anthropics/hh-rlhf."
ROLES = {"Human": "user", "Assistant": "assistant"}
DOUBLED = "a prompt that stood in a row before"
UNEQUAL = "the two dialogues part before the last answer"


class Config(Settings):
    """Settings of HH-RLHF: the file, and how much of a dialogue is a prompt."""

    path: str = ""
    """The JSONL file; empty: where shared data lies."""
    take: Literal["dialogue", "opening"] = "dialogue"
    """`dialogue`: everything up to the person's last words; `opening`: their first words alone."""


class _Pair(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    chosen: str
    rejected: str


def rows(config: Config) -> Iterator[QuestionRow | BadRow]:
    """Every dialogue as an open prompt, without the two answers that were compared.

    Raises:
        ConfigError: There is no such file.
    """
    path = locate(config.path, USUAL_PLACE, WHERE_TO_GET)
    for item in jsonl_objects(path):
        if isinstance(item, BadRow):
            yield item
            continue
        number, value = item
        pair = parse_record(_Pair, value, str(path), number)
        if isinstance(pair, BadRow):
            yield pair
            continue
        found = _messages(pair, config.take)
        if isinstance(found, str):
            yield BadRow(str(path), number, found)
            continue
        yield prompt_row(
            str(path),
            number,
            doubled=DOUBLED,
            id="hh-" + content_id([[each.role, each.content] for each in found])[:12],
            dataset="hh_rlhf",
            text=found[-1].content,
            history=tuple(found[:-1]),
        )


def _messages(pair: _Pair, take: str) -> list[Message] | str:
    """The messages of a prompt, the person's last words last; or why there are none."""
    chats = [_chat(each) for each in (pair.chosen, pair.rejected)]
    for chat in chats:
        if isinstance(chat, str):
            return chat
    chosen, rejected = chats
    assert not isinstance(chosen, str)
    assert not isinstance(rejected, str)
    if take == "opening":
        return chosen[:1]
    # The compared answers come last; what stands before them is the same in both.
    common = 0
    for one, other in zip(chosen, rejected, strict=False):
        if one != other:
            break
        common += 1
    shared = chosen[:common]
    while shared and shared[-1].role != "user":
        shared.pop()
    return shared or UNEQUAL


def _chat(dialogue: str) -> list[Message] | str:
    """The messages of a dialogue; several in a row by one speaker are one message."""
    turns = labelled(dialogue, tuple(ROLES))
    if not turns or turns[0][0] != "Human":
        return "the dialogue does not begin with 'Human:' behind a blank line"
    merged: list[tuple[str, list[str]]] = []
    for label, words in turns:
        if merged and merged[-1][0] == ROLES[label]:
            merged[-1][1].append(words)
        else:
            merged.append((ROLES[label], [words]))
    said = [(role, "\n\n".join(filter(None, parts))) for role, parts in merged]
    if said[-1] == ("assistant", ""):
        said.pop()  # an answer that says nothing is no part of the prompt
    if not all(words for _, words in said):
        return "a turn of the dialogue is empty"
    return [Message(role=role, parts=(words,)) for role, words in said]
