"""The records of a debate in a sample of Inspect's, by which it is read back exactly.

They stand in the sample's `store` as one JSON text in ASCII: Inspect's own writers leave out nulls
and replace halves of characters elsewhere, and keep a text as it is.
"""

from __future__ import annotations

import json
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator

from pydantic import BaseModel, ConfigDict, ValidationError

from oversight.datasets.base import reason
from oversight.errors import DataError, StoreError
from oversight.interop.base import PromptOf
from oversight.types import (
    Debate,
    Feedback,
    Judgment,
    Message,
    Outcome,
    Prompt,
    PromptRecord,
    Question,
    Stored,
    Transcript,
    Turn,
)

RECORDS = "oversight"
"""Key of the records in a sample's store."""
LAYOUT = 1
"""Version of the records' layout."""


class _Prompt(BaseModel):
    """One prompt: its messages, and its token ids behind those that it shares with another."""

    model_config = ConfigDict(extra="forbid")

    messages: list[tuple[str, list[int]]]
    """Roles, and indices of parts."""
    like: int = 0
    """Index of an earlier prompt, whose first ids it begins with."""
    shared: int = 0
    """Number of these."""
    ids: str = ""
    """Those that follow: base64 of 32-bit numbers, which is read faster than digits."""


class _Prompts(BaseModel):
    """Prompts of a debate, which grow at their ends: what they have in common stands once."""

    model_config = ConfigDict(extra="forbid")

    parts: list[str] = []
    prompts: list[_Prompt] = []


class _Records(BaseModel):
    """All that is kept of a debate, as a sample's store holds it."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    layout: int
    question: Question
    debate: Debate
    turns: tuple[Turn, ...] = ()
    judgments: tuple[Judgment, ...] = ()
    ratings: tuple[Feedback, ...] = ()
    outcome: Outcome | None = None
    prompts: _Prompts = _Prompts()


def records_text(transcript: Transcript, prompts: Iterable[PromptRecord]) -> str:
    """The records of a debate as one JSON text in ASCII."""
    shared, places = _Prompts(), dict[str, int]()
    before: list[tuple[int, ...]] = []
    for each in prompts:
        messages = []
        for message in each.prompt.messages:
            indices = []
            for part in message.parts:
                if part not in places:
                    places[part] = len(places)
                    shared.parts.append(part)
                indices.append(places[part])
            messages.append((str(message.role), indices))
        ids = each.token_ids
        lengths = [_common(ids, other) for other in before]
        num = max(lengths, default=0)
        like = lengths.index(num) if num else 0
        shared.prompts.append(
            _Prompt(messages=messages, like=like, shared=num, ids=_packed(ids[num:]))
        )
        before.append(ids)
    found = _Records(
        layout=LAYOUT,
        question=transcript.question,
        debate=transcript.debate,
        turns=transcript.turns,
        judgments=transcript.judgments,
        ratings=transcript.ratings,
        outcome=transcript.outcome,
        prompts=shared,
    )
    return json.dumps(found.model_dump(mode="json"), separators=(",", ":"))


def _packed(ids: tuple[int, ...]) -> str:
    return b64encode(struct.pack(f"<{len(ids)}I", *ids)).decode()


def _unpacked(text: str) -> tuple[int, ...]:
    data = b64decode(text)
    return struct.unpack(f"<{len(data) // 4}I", data)


def _common(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """The number of ids that two prompts begin with alike."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def records_of(text: str) -> tuple[str, tuple[Stored, ...]]:
    """The id of the debate that such a text holds, and its records.

    Raises:
        DataError: One of them is not as it was written, or of another debate.
    """
    try:
        found = _Records.model_validate_json(text)
    except ValidationError:
        # A character that is half of one may stand in a record, but not in pydantic's JSON.
        found = _read_slowly(text)
    debate, question = found.debate, found.question
    if found.layout != LAYOUT:
        raise DataError(
            f"layout = {found.layout!r} of the records; {LAYOUT} is read: a newer oversight wrote "
            "them"
        )
    if debate.question_fingerprint != question.fingerprint:
        raise DataError("the debate is of another question than stands beside it")
    said: tuple[Turn | Judgment | Feedback, ...] = (
        *found.turns,
        *found.judgments,
        *found.ratings,
    )
    for each in (*said, *((found.outcome,) if found.outcome else ())):
        if each.debate_id != debate.id:
            raise DataError(
                f"{type(each).__name__} of debate {each.debate_id!r}, and the debate beside it is "
                f"{debate.id!r}: it was changed since it was written"
            )
    outcome = () if found.outcome is None else (found.outcome,)
    return debate.id, (question, debate, *_prompts(found.prompts), *said, *outcome)


def _read_slowly(text: str) -> _Records:
    try:
        return _Records.model_validate(json.loads(text))
    except ValidationError as error:
        raise DataError(f"records.{reason(error, _Records)}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"records: no JSON ({error})") from None


def _prompts(shared: _Prompts) -> Iterator[PromptRecord]:
    known: dict[tuple[str, tuple[int, ...]], Message] = {}
    before: list[tuple[int, ...]] = []
    for each in shared.prompts:
        try:
            messages = []
            for role, indices in each.messages:
                key = (role, tuple(indices))
                if key not in known:
                    parts = tuple(shared.parts[index] for index in indices)
                    known[key] = Message.model_validate({"role": role, "parts": parts})
                messages.append(known[key])
            begin = before[each.like][: each.shared] if each.shared else ()
            before.append(begin + _unpacked(each.ids))
            yield PromptRecord(Prompt(messages=tuple(messages)), before[-1])
        except (IndexError, ValueError, struct.error):  # pydantic's is a ValueError
            raise DataError(
                "records.prompts: a part, a role or token ids are not as they were written"
            ) from None


def prompts_of(transcript: Transcript, prompt_of: PromptOf) -> dict[str, PromptRecord]:
    """The stored prompts of all samples of a debate, by id; those that are not stored left out."""
    found: dict[str, PromptRecord] = {}
    said: tuple[Turn | Judgment | Feedback, ...] = (
        *transcript.turns,
        *transcript.judgments,
        *transcript.ratings,
    )
    for sample in (sample for each in said for sample in each.samples):
        if sample.prompt_id not in found:
            try:
                num = sample.usage.prompt_tokens if sample.token_ids else None
                found[sample.prompt_id] = prompt_of(sample.prompt_id, num)
            except StoreError:
                continue
    return found
