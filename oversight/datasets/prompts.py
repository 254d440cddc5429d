"""Open prompts of your own in a text, JSONL, CSV or Parquet file, one named column of it."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import Field

from oversight.config import Settings
from oversight.datasets.base import (
    BadRow,
    LeftOut,
    QuestionRow,
    jsonl_objects,
    locate,
    prompt_row,
    unreadable,
)
from oversight.errors import ConfigError
from oversight.ids import content_id, text_number
from oversight.registry import nearest
from oversight.types import Message

WHERE_TO_GET = "Such a file is yours to write: docs/datasets.md says how."
TEXT, JSONL, TABLES = (".txt",), (".jsonl", ".ndjson"), {".csv": ",", ".tsv": "\t"}
PARQUET = ".parquet"
ENDINGS = (*TEXT, *JSONL, *TABLES, PARQUET)
DOUBLED = "a prompt that stood in a row before"

Cell = tuple[int, Any, str, dict[str, Any]]
"""Line or row of a prompt (1-based), the cell that holds it, its id ("" if it has none), and what
else is kept of it."""


class Config(Settings):
    """Settings of a file of prompts."""

    path: str = Field(min_length=1)
    """The file; its ending says what it is: .txt (a prompt a line), .jsonl, .csv, .tsv or
    .parquet."""
    column: str = "prompt"
    """Column, or key, that holds the prompt; a text file has none. Of a JSON object the key `meta`
    is kept as well, if it is an object."""
    id_column: str = ""
    """Column that holds the prompt's id; empty: the id is made of the words."""
    system: str = ""
    """System message before every prompt; empty: none."""


def rows(config: Config) -> Iterator[QuestionRow | BadRow | LeftOut]:
    """Every row as an open prompt; a prompt that stands twice is taken once.

    Raises:
        ConfigError: There is no such file, or it has no such column.
    """
    path = locate(config.path, config.path, WHERE_TO_GET)
    history = (Message(role="system", parts=(config.system,)),) if config.system else ()
    # Of rows with an id of their own: another's id is made of its words, and tells by itself.
    named: set[int] = set()
    for item in _cells(path, config):
        if isinstance(item, BadRow):
            yield item
            continue
        number, cell, id_, meta = item
        if not isinstance(cell, str) or not cell.strip():
            said = "is empty" if cell is None or isinstance(cell, str) else f"= {cell!r} is no text"
            yield BadRow(str(path), number, f"{config.column} {said}", id_)
            continue
        words = cell.strip()
        if id_:
            named.add(text_number(words))
        elif named and text_number(words) in named:
            yield LeftOut(DOUBLED)
            continue
        yield prompt_row(
            str(path),
            number,
            doubled="" if id_ else DOUBLED,
            id=id_ or "prompt-" + content_id(config.system, words)[:12],
            dataset="prompts",
            text=words,
            history=history,
            meta=meta,
        )


def _cells(path: Path, config: Config) -> Iterator[Cell | BadRow]:
    ending = path.suffix.lower()
    if ending in TEXT:
        return _lines(path)
    if ending in JSONL:
        return _objects(path, config)
    if ending in TABLES:
        return _table(path, config, TABLES[ending])
    if ending == PARQUET:
        return _parquet(path, config)
    raise ConfigError(
        f"dataset.settings.path = {str(path)!r}: its ending says nothing that is known; "
        f"name a file that ends in {', '.join(ENDINGS)}"
    )


def _lines(path: Path) -> Iterator[Cell | BadRow]:
    num_rows = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    yield BadRow(str(path), number, f"not UTF-8 at byte {error.start}")
                    continue
                if text.strip():
                    num_rows += 1
                    yield number, text, "", {}
    except OSError as error:
        raise unreadable(path, error) from None
    if not num_rows:
        yield BadRow(str(path), None, "the file is empty")


def _objects(path: Path, config: Config) -> Iterator[Cell | BadRow]:
    for item in jsonl_objects(path):
        if isinstance(item, BadRow):
            yield item
            continue
        number, value = item
        if config.column not in value:
            hint = nearest(config.column, value)
            yield BadRow(str(path), number, f"key {config.column!r} is missing.{hint}")
            continue
        meta = value.get("meta")
        kept = meta if isinstance(meta, dict) else {}
        yield number, value[config.column], _id(value, config), kept


def _table(path: Path, config: Config, delimiter: str) -> Iterator[Cell | BadRow]:
    csv.field_size_limit(sys.maxsize)
    num_rows = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, strict=True)
            _check_columns(path, config, reader.fieldnames or ())
            for value in reader:
                num_rows += 1
                if None in value:
                    yield BadRow(str(path), reader.line_num, "it has more cells than columns")
                    continue
                yield reader.line_num, value[config.column], _id(value, config), {}
    except UnicodeDecodeError as error:
        yield BadRow(str(path), None, f"not UTF-8 at byte {error.start}")
    except csv.Error as error:
        yield BadRow(str(path), reader.line_num, f"broken CSV: {error}")
    except OSError as error:
        raise unreadable(path, error) from None
    else:
        if not num_rows:
            yield BadRow(str(path), None, "the file has no rows")


def _parquet(path: Path, config: Config) -> Iterator[Cell | BadRow]:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        _check_columns(path, config, names)
        wanted = [config.column, *([config.id_column] if config.id_column else [])]
        number = 0
        for value in chain.from_iterable(
            batch.to_pylist() for batch in file.iter_batches(columns=wanted, batch_size=1024)
        ):
            number += 1
            yield number, value[config.column], _id(value, config), {}
    except pyarrow.ArrowException as error:
        yield BadRow(str(path), None, f"broken Parquet: {str(error).splitlines()[0]}")
    except OSError as error:
        raise unreadable(path, error) from None
    else:
        if not number:
            yield BadRow(str(path), None, "the file has no rows")


def _check_columns(path: Path, config: Config, columns: Any) -> None:
    """Refuse a table without the columns asked for.

    Raises:
        ConfigError: One is not there; the message names the nearest.
    """
    for setting, name in (("column", config.column), ("id_column", config.id_column)):
        if name and name not in columns:
            raise ConfigError(
                f"dataset.settings.{setting} = {name!r}: {str(path)!r} has no such column."
                + nearest(name, map(str, columns))
            )


def _id(value: Any, config: Config) -> str:
    found = value.get(config.id_column) if config.id_column else None
    return "" if found is None else str(found)
