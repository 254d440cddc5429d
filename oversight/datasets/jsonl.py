"""Questions and open prompts of your own, a JSON object a line (schema: docs/datasets.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from oversight.config import Settings
from oversight.datasets.base import (
    BadRow,
    QuestionRow,
    jsonl_objects,
    locate,
    parse_record,
    prompt_row,
    question_row,
)
from oversight.ids import content_id
from oversight.types import Message, Source

WHERE_TO_GET = "Such a file is yours to write: docs/datasets.md shows one."


class Config(Settings):
    """Settings of a JSONL file: its path, and whether its questions must have sources."""

    path: str = Field(min_length=1)
    """The JSONL file. Source files that its rows name are looked for below its folder."""
    source_required: bool = False
    """True if a row without a source is a bad row, as it is for debaters that quote."""


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


S = TypeVar("S", bound=_Shape)


class _Option(_Shape):
    text: str
    argument: str | None = None


class _SourceText(_Shape):
    title: str = ""
    text: str


class _SourceFile(_Shape):
    title: str = ""
    file: str = Field(min_length=1)


class _Line(_Shape):
    id: str = Field(min_length=1)
    question: str
    options: list[JsonValue]
    correct: int | None = None
    source: str | dict[str, JsonValue] | None = None
    split: str = ""
    meta: dict[str, JsonValue] = Field(default_factory=dict)


class _Message(_Shape):
    role: Literal["system", "user", "assistant"]
    content: str


class _OpenLine(_Shape):
    """An open prompt: its last words under `prompt` or `text`, or as the last of `messages`."""

    id: str | None = Field(default=None, min_length=1)
    prompt: JsonValue = None
    text: str | None = None
    system: str | None = None
    messages: list[JsonValue] | None = None
    source: str | dict[str, JsonValue] | None = None
    split: str = ""
    meta: dict[str, JsonValue] = Field(default_factory=dict)


OPEN_KEYS = frozenset({"prompt", "text", "system", "messages"})
"""Keys of an open prompt's words; a question with options has `question` in their place."""
OPEN_HINT = " (an open prompt, which has none, is written with 'prompt' in place of 'question')"


class _Unusable(Exception):
    """A part of a line that cannot be used, and why."""


def rows(config: Config) -> Iterator[QuestionRow | BadRow]:
    """Every line as a question.

    Raises:
        ConfigError: There is no such file.
    """
    path = locate(config.path, config.path, WHERE_TO_GET)
    for item in jsonl_objects(path):
        yield item if isinstance(item, BadRow) else _row(item[1], path, item[0], config)


def _row(value: dict[str, Any], path: Path, number: int, config: Config) -> QuestionRow | BadRow:
    if not value.keys() & {"question", "options"} and value.keys() & OPEN_KEYS:
        return _open_row(value, path, number, config)
    line = parse_record(_Line, value, str(path), number)
    if isinstance(line, BadRow):
        hint = OPEN_HINT if "'options' is missing" in line.reason else ""
        return replace(line, reason=line.reason + hint)
    try:
        options = [_option(option, index) for index, option in enumerate(line.options)]
        source = _source(line.source, path)
    except _Unusable as why:
        return BadRow(str(path), number, str(why), line.id)
    if source is None and config.source_required:
        return BadRow(str(path), number, "key 'source' is missing", line.id)
    if not options:
        reason = f"a question needs at least two options, here are 0{OPEN_HINT}"
        return BadRow(str(path), number, reason, line.id)
    return question_row(
        str(path),
        number,
        id=line.id,
        dataset="jsonl",
        split=line.split,
        text=line.question,
        options=options,
        correct=line.correct,
        source=source,
        meta=line.meta,
    )


def _open_row(
    value: dict[str, Any], path: Path, number: int, config: Config
) -> QuestionRow | BadRow:
    """An open prompt, with the chat before it."""
    if value.get("correct") is not None:
        reason = f"correct = {value['correct']!r}: an open prompt has no options; add 'options'"
        return BadRow(str(path), number, reason, str(value.get("id", "")))
    value = {key: each for key, each in value.items() if key != "correct"}
    line = parse_record(_OpenLine, value, str(path), number)
    if isinstance(line, BadRow):
        return line
    try:
        history, text = _chat(line)
        source = _source(line.source, path)
    except _Unusable as why:
        return BadRow(str(path), number, str(why), line.id or "")
    chat = [[message.role, message.content] for message in history]
    id_ = line.id or "prompt-" + content_id(chat, text, source.id if source else None)[:12]
    if source is None and config.source_required:
        return BadRow(str(path), number, "key 'source' is missing", id_)
    return prompt_row(
        str(path),
        number,
        id=id_,
        dataset="jsonl",
        split=line.split,
        text=text,
        source=source,
        meta=line.meta,
        history=history,
    )


def _chat(line: _OpenLine) -> tuple[tuple[Message, ...], str]:
    """The messages before the prompt, and the prompt itself.

    Raises:
        _Unusable: It cannot be told which words are the prompt, or a message is none.
    """
    if line.prompt is not None and line.text is not None:
        raise _Unusable("'prompt' and 'text' both hold the prompt: give one of them")
    asked = line.text if line.prompt is None else line.prompt
    if not isinstance(asked, str | list | None):
        raise _Unusable(f"prompt = {asked!r}: expected a text, or a list of messages")
    whole = asked if isinstance(asked, list) else line.messages or []
    if isinstance(asked, list) and line.messages:
        raise _Unusable("'prompt' is a list of messages, and so is 'messages': give one of them")
    key = "prompt" if isinstance(asked, list) else "messages"
    messages = [_message(each, f"{key}.{index}") for index, each in enumerate(whole)]
    if line.system is not None:
        if messages and messages[0].role == "system":
            raise _Unusable(f"{key}.0 is a system message, and 'system' another: give one of them")
        if not line.system.strip():
            raise _Unusable("system is empty: leave the key out")
        messages.insert(0, Message(role="system", parts=(line.system,)))
    if isinstance(asked, str):
        return tuple(messages), asked
    if not messages or messages[-1].role != "user":
        last = f"the last is the {messages[-1].role}'s" if whole else "here are none"
        raise _Unusable(
            f"{key}: the last message is the prompt and has the role 'user', {last}; "
            "or give the prompt under 'prompt'"
        )
    return tuple(messages[:-1]), messages[-1].content


def _message(given: JsonValue, place: str) -> Message:
    if not isinstance(given, dict):
        raise _Unusable(f"{place} = {given!r}: expected an object with 'role' and 'content'")
    held = _checked(_Message, given, place)
    return Message(role=held.role, parts=(held.content,))


def _option(given: JsonValue, index: int) -> dict[str, JsonValue]:
    if isinstance(given, str):
        return {"text": given}
    if not isinstance(given, dict):
        raise _Unusable(f"options.{index} = {given!r}: expected a text, or an object with a text")
    return _checked(_Option, given, f"options.{index}").model_dump()


def _source(given: str | dict[str, JsonValue] | None, path: Path) -> Source | None:
    if given is None:
        return None
    if isinstance(given, dict) and "file" in given:
        named = _checked(_SourceFile, given, "source")
        title, text = named.title, _file_text(named.file, path.parent)
    else:
        parts = {"text": given} if isinstance(given, str) else given
        held = _checked(_SourceText, parts, "source")
        title, text = held.title, held.text
    if not text.strip():
        raise _Unusable("source is empty")
    return Source(title=title, text=text)


def _checked(shape: type[S], value: Any, place: str) -> S:
    parsed = parse_record(shape, value, "", None)
    if isinstance(parsed, BadRow):
        raise _Unusable(f"{place}: {parsed.reason}")
    return parsed


def _file_text(name: str, folder: Path) -> str:
    """The text of a source file, which must lie below `folder`: a data file names no others."""
    place = folder / name
    if not place.resolve().is_relative_to(folder.resolve()):
        raise _Unusable(f"source.file = {name!r}: lies outside {str(folder)!r}")
    try:
        return place.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _Unusable(f"source.file = {name!r}: not UTF-8 at byte {error.start}") from None
    except (OSError, ValueError) as error:
        detail = getattr(error, "strerror", None) or error
        raise _Unusable(f"source.file = {name!r}: cannot be read ({detail})") from None
