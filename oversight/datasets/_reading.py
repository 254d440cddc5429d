"""Reading data files: from a path to checked rows, and from a wrong row to its reason."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from oversight.datasets.base import BadRow, Row
from oversight.errors import ConfigError
from oversight.registry import nearest
from oversight.types import Question

DATA_VARIABLE = "OVERSIGHT_SHARED_DATA"
"""Environment variable that names the folder where data sets lie."""

DATA_FOLDERS = ("data", "../shared/data")
"""Where data sets are looked for otherwise, from the working directory."""

NUM_VALUE_CHARS = 60
"""Characters of a wrong value that a reason shows."""

M = TypeVar("M", bound=BaseModel)


def locate(path: str, usual: str, where_to_get: str) -> Path:
    """The file or folder of a data set: `path`, or where it usually lies if that is empty.

    Args:
        path: As the settings give it.
        usual: Its place below the data folder.
        where_to_get: A sentence for whoever does not have the data.

    Raises:
        ConfigError: There is nothing there; the message says what was tried.
    """
    if path:
        tried = [Path(path).expanduser()]
    else:
        named = os.environ.get(DATA_VARIABLE)
        tried = [Path(folder) / usual for folder in ([named] if named else DATA_FOLDERS)]
    for candidate in tried:
        if candidate.exists():
            return candidate
    places = ", ".join(repr(str(candidate)) for candidate in tried)
    raise ConfigError(
        f"dataset.settings.path = {path!r}: nothing at {places}. Give the path, or name the folder"
        f" that holds {usual!r} in {DATA_VARIABLE}. {where_to_get}"
    )


def read_bytes(path: Path) -> bytes:
    """Content of the file.

    Raises:
        ConfigError: It is a folder, or may not be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"dataset.settings.path = {str(path)!r}: not readable as a file ({error.strerror})"
        ) from None


def jsonl_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]] | BadRow]:
    """The objects of a JSONL file with their 1-based lines; lines of white space are passed over.

    Raises:
        ConfigError: The file cannot be opened.
    """
    num_rows = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    num_rows += 1
                    value = parse_object(line, str(path), number)
                    yield value if isinstance(value, BadRow) else (number, value)
    except OSError as error:
        raise ConfigError(
            f"dataset.settings.path = {str(path)!r}: not readable as a file ({error.strerror})"
        ) from None
    if not num_rows:
        yield BadRow(str(path), None, "the file is empty")


def parse_object(data: bytes, file: str, line: int | None) -> dict[str, Any] | BadRow:
    """The JSON object that `data` holds, or why it holds none."""
    try:
        text = data.decode("utf-8-sig" if line in (None, 1) else "utf-8")
    except UnicodeDecodeError as error:
        found = data[error.start : error.start + 1]
        return BadRow(file, line, f"not UTF-8: byte {found!r} at offset {error.start}")
    try:
        value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
        if "\\u" in text:
            _check_characters(value)
    except json.JSONDecodeError as error:
        return BadRow(file, line, f"broken JSON: {error.msg} at column {error.colno}")
    except RecursionError:
        return BadRow(file, line, "broken JSON: nested too deeply")
    except ValueError as error:
        return BadRow(file, line, f"broken JSON: {error}")
    if not isinstance(value, dict):
        return BadRow(file, line, f"expected a JSON object, found {type(value).__name__}")
    return value


def parse_record(model: type[M], value: Any, file: str, line: int | None) -> M | BadRow:
    """`value` checked against `model`, or a bad row that says what is wrong with it."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        row_id = value.get("id", "") if isinstance(value, dict) else ""
        name = row_id if isinstance(row_id, str) else ""
        return BadRow(file, line, reason(error, model), name)


def question_row(file: str, line: int | None, **fields: Any) -> Row | BadRow:
    """A row with the question made of `fields`, or a bad row that says what is wrong with them.

    Without options it is a bad row: rows of open prompts are made by `prompt_row`.
    """
    if not fields.get("options"):
        reason_ = "a question needs at least two options, here are 0"
        return BadRow(file, line, reason_, str(fields.get("id", "")))
    return prompt_row(file, line, **fields)


def prompt_row(file: str, line: int | None, **fields: Any) -> Row | BadRow:
    """A row with the open prompt made of `fields`, or a bad row that says what is wrong with it."""
    try:
        return Row(Question(**fields), file, line)
    except ValidationError as error:
        return BadRow(file, line, reason(error, Question), str(fields.get("id", "")))


def reason(error: ValidationError, model: type[BaseModel]) -> str:
    """Reason for refusing a row, in one line: the first error, and the number of the others."""
    first = error.errors(include_url=False)[0]
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return _explain(first, model) + more


def _explain(detail: ErrorDetails, model: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in detail["loc"])
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        known = model.model_fields if len(detail["loc"]) == 1 else ()
        return f"unknown key {place!r}.{nearest(str(detail['loc'][-1]), known)}"
    if kind == "missing":
        return f"key {place!r} is missing"
    if kind == "string_too_short":
        return f"{place} is empty"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{place} = {_shown(value)}: {message}" if place else message


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= NUM_VALUE_CHARS else text[:NUM_VALUE_CHARS] + "…"


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        doubled = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"key {doubled!r} stands twice")
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _check_characters(value: Any) -> None:
    """Escapes can write what no store can hold: halves of surrogate pairs, and NUL.

    Raises:
        ValueError: One of them stands in `value`.
    """
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        found = ord(text[error.start])
        raise ValueError(f"\\u{found:04x} is half of a surrogate pair") from None
    if "\\u0000" in text.replace("\\\\", ""):
        raise ValueError("a text holds the character NUL")
