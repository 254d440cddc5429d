"""Questions of your own, one JSON object a line (the schema stands in docs/datasets.md)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from oversight.config.settings import Settings
from oversight.datasets._reading import jsonl_objects, locate, parse_record, question_row
from oversight.datasets.base import BadRow, Row
from oversight.types import Source

WHERE_TO_GET = "Such a file is yours to write: docs/datasets.md shows one."


class Config(Settings):
    """Which file, and whether its questions must have sources."""

    path: str = Field(min_length=1)
    """The JSONL file. Source files that its rows name are looked for below its folder."""
    source_required: bool = False
    """Whether a row without a source is a bad row, as it is for debaters that quote."""


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


class _Unusable(Exception):
    """A part of a line that cannot be used, and why."""


def rows(config: Config) -> Iterator[Row | BadRow]:
    """Every line as a question.

    Raises:
        ConfigError: There is no such file.
    """
    path = locate(config.path, config.path, WHERE_TO_GET)
    for item in jsonl_objects(path):
        yield item if isinstance(item, BadRow) else _row(item[1], path, item[0], config)


def _row(value: dict[str, Any], path: Path, number: int, config: Config) -> Row | BadRow:
    line = parse_record(_Line, value, str(path), number)
    if isinstance(line, BadRow):
        return line
    try:
        options = [_option(option, index) for index, option in enumerate(line.options)]
        source = _source(line.source, path)
    except _Unusable as why:
        return BadRow(str(path), number, str(why), line.id)
    if source is None and config.source_required:
        return BadRow(str(path), number, "key 'source' is missing", line.id)
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
