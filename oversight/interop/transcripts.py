"""Transcripts: whole debates as `oversight export --layout transcripts` writes them, one a line.

Every record comes back under the id that it had, which its content gives: a line that was edited
is refused, and names the record. The acts of people on their way to a judgment are no part of it.
Lines that `oversight export --as transcripts` writes hold the prompts of models too, in which a
text that several begin with stands once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from oversight.config import Settings
from oversight.datasets.base import BadRow, LeftOut, reason
from oversight.errors import ConfigError, StoreError
from oversight.files import whole_file
from oversight.interop.base import ImportedDebate, ImportItem, PromptOf, UnusableItem, lines_of
from oversight.preferences.layouts import Repairs, debate_row
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


class Config(Settings):
    """Settings of an import of our own exports."""

    samples: bool = True
    """Keep what the models' calls came to, token for token. Their prompts stand only in a file of
    `--as transcripts`; of another one, without samples, `oversight store check` misses none."""


class _StoredPrompt(BaseModel):
    """A prompt by the indices of its parts."""

    model_config = ConfigDict(extra="forbid")

    id: str
    messages: list[tuple[Literal["system", "user", "assistant"], list[int]]]
    token_ids: list[int] = []


class _Prompts(BaseModel):
    """The prompts of a debate's models, and the texts that they are made of, each once."""

    model_config = ConfigDict(extra="forbid")

    parts: list[str]
    prompts: list[_StoredPrompt]


class _Row(BaseModel):
    """A line of an export; the records in it are checked one by one, to be named."""

    model_config = ConfigDict(extra="forbid")

    debate_id: str
    debate: dict[str, JsonValue]
    question: dict[str, JsonValue]
    turns: list[dict[str, JsonValue]]
    judgments: list[dict[str, JsonValue]]
    ratings: list[dict[str, JsonValue]] = []
    outcome: dict[str, JsonValue] | None
    prompts: _Prompts | None = None


def count(path: Path, config: Config) -> int:
    """The number of lines of the file."""
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def read(path: Path, config: Config) -> Iterator[ImportItem]:
    """The debates of an export, line by line.

    Raises:
        ConfigError: It is of the other kind of file, which holds turns alone.
    """
    if path.suffix == ".parquet":
        raise ConfigError(
            f"PATH = {str(path)!r}: Parquet holds turns alone; export whole debates as NAME.jsonl"
        )
    for number, value in lines_of(path, "oversight export NAME.jsonl --layout transcripts"):
        if isinstance(value, BadRow):
            yield value
            continue
        try:
            yield _debate(path, number, value, config)
        except UnusableItem as error:
            yield BadRow(str(path), number, str(error), str(value.get("debate_id", "")))


def _debate(path: Path, number: int, value: dict[str, Any], config: Config) -> ImportedDebate:
    row = _parsed(_Row, value, "")
    debate = _parsed(Debate, row.debate, "debate")
    question = _parsed(Question, row.question, "question")
    _same("debate_id", row.debate_id, debate.id)
    _same("debate.question_id", debate.question_id, question.id)
    _same("debate.question_fingerprint", debate.question_fingerprint, question.fingerprint)
    records: list[Stored] = []
    kinds: tuple[tuple[str, type[Turn | Judgment | Feedback], list[Any]], ...] = (
        ("turns", Turn, row.turns),
        ("judgments", Judgment, row.judgments),
        ("ratings", Feedback, row.ratings),
    )
    for name, model, given in kinds:
        for place, fields in ((f"{name}.{index}", each) for index, each in enumerate(given)):
            own = {key: each for key, each in fields.items() if key != "id"}
            record = _parsed(model, own, place)
            _same(f"{place}.id", fields.get("id"), record.id)
            _same(f"{place}.debate_id", record.debate_id, debate.id)
            if not config.samples:
                record = record.model_copy(update={"samples": ()})
            records.append(record)
    if row.outcome is not None:
        outcome = _parsed(Outcome, row.outcome, "outcome")
        _same("outcome.debate_id", outcome.debate_id, debate.id)
        records.append(outcome)
    if row.prompts is not None and config.samples:
        records += _prompts(row.prompts)
    return ImportedDebate(f"{path}:{number}", debate.id, (question, debate, *records))


def _prompts(given: _Prompts) -> Iterator[PromptRecord]:
    for index, each in enumerate(given.prompts):
        place = f"prompts.prompts.{index}"
        for _, parts in each.messages:
            if wrong := [part for part in parts if not 0 <= part < len(given.parts)]:
                raise UnusableItem(
                    f"{place}.messages: part {wrong[0]}, and there are {len(given.parts)} parts"
                )
        messages = tuple(
            Message(role=role, parts=tuple(given.parts[part] for part in parts))
            for role, parts in each.messages
        )
        prompt = _parsed(Prompt, {"messages": messages}, place)
        _same(f"{place}.id", each.id, prompt.id)
        yield PromptRecord(prompt, tuple(each.token_ids))


def _parsed(model: type[Any], value: Any, place: str) -> Any:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        said = reason(error, model)
        raise UnusableItem(f"{place}.{said}" if place else said) from None


def _same(place: str, found: Any, wanted: str) -> None:
    """Refuse an id that is not that of the content.

    Raises:
        UnusableItem: Names the place and both ids.
    """
    if found != wanted:
        raise UnusableItem(
            f"{place} = {found!r}, but its content gives {wanted!r}: it was changed since it was "
            "exported, or characters were replaced that no file can hold"
        )


# --- and back ----------------------------------------------------------------------------


def write(
    transcripts: Iterable[Transcript], path: Path, config: Config, prompt_of: PromptOf | None
) -> Iterator[LeftOut]:
    """Write debates one a line, with the prompts of their models where these are stored."""
    repairs = Repairs()
    with whole_file(path, "OUT") as part, part.open("w", encoding="utf-8") as lines:
        for transcript in transcripts:
            row = debate_row(transcript)
            if prompt_of is not None and config.samples:
                row["prompts"] = _packed(transcript, prompt_of)
            lines.write(json.dumps(repairs.mend(row), ensure_ascii=False) + "\n")
    yield from ()


def _packed(transcript: Transcript, prompt_of: PromptOf) -> dict[str, Any]:
    """The prompts of a debate's samples; one that is not stored is left out."""
    parts: dict[str, int] = {}
    packed = []
    for id_, num in dict.fromkeys(_asked(transcript)):
        record = _found(prompt_of, id_, num)
        if record is not None:
            messages = [
                (message.role, [parts.setdefault(text, len(parts)) for text in message.parts])
                for message in record.prompt.messages
            ]
            packed.append({"id": id_, "messages": messages, "token_ids": list(record.token_ids)})
    return {"parts": list(parts), "prompts": packed}


def _asked(transcript: Transcript) -> Iterator[tuple[str, int]]:
    """Id and number of tokens of the prompt of every sample."""
    every = (
        *(turn.samples for turn in transcript.turns),
        *(judgment.samples for judgment in transcript.judgments),
        *(rating.samples for rating in transcript.ratings),
    )
    for sample in chain.from_iterable(every):
        yield sample.prompt_id, sample.usage.prompt_tokens


def _found(prompt_of: PromptOf, id_: str, num: int) -> PromptRecord | None:
    for number in dict.fromkeys((num or None, None)):
        try:
            return prompt_of(id_, number)
        except StoreError:
            continue
    return None
