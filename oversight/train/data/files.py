"""Rows of files, records of a store, or either in memory, one at a time, and where they come from.

Files are JSONL, JSON or Parquet; the format of their rows is told by the columns. A store hands
over its preferences as the records that they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from oversight.errors import ConfigError, DataError
from oversight.preferences.building import preferences
from oversight.preferences.ratings import answers_given
from oversight.preferences.settings import Dropped
from oversight.store import Store
from oversight.train.settings import DataSettings
from oversight.types import GivenResponse, Labelled, Message, Preference

SUFFIXES = (".jsonl", ".json", ".parquet")
ROWS_A_READ = 1000
"""Rows of a Parquet file that are in memory at once."""
UNUSED = ("logprobs", "logprobs_temperature")
"""Endings of columns that nothing reads: making Python numbers of them takes most of the time."""
HASH_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row and its place, such as `pairs.jsonl:3`."""

    place: str
    row: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """Something that stands where a row should be."""

    place: str
    detail: str


@dataclass(frozen=True, slots=True)
class RecordRow:
    """A record, which needs no format."""

    record: Preference | Labelled | GivenResponse

    @property
    def place(self) -> str:
        """Its id, by which the store knows it."""
        return self.record.id


Item = RawRow | RecordRow | BrokenRow


def expand(patterns: tuple[str, ...], field: str = "data.path") -> list[Path]:
    """The files that names and patterns stand for, each once, those of a pattern in order.

    Raises:
        DataError: There is no such file, or its suffix is not known.
    """
    files: dict[Path, None] = {}
    for pattern in patterns:
        found = _matching(Path(pattern).expanduser())
        if not found and Path(pattern).expanduser().is_dir():
            raise DataError(
                f"{field} = {pattern!r} is a folder: name its files, as with "
                f"{str(Path(pattern) / '*.jsonl')!r}"
            )
        if not found:
            raise DataError(f"{field} = {pattern!r}: there is no such file")
        files |= dict.fromkeys(found)
    for path in files:
        if path.suffix not in SUFFIXES:
            raise DataError(f"{field} = {str(path)!r}: accepted are files {', '.join(SUFFIXES)}")
    return list(files)


def read(path: Path) -> Iterator[RawRow | BrokenRow]:
    """The rows of one file.

    Raises:
        DataError: The file as a whole cannot be read.
    """
    try:
        if path.suffix == ".parquet":
            yield from _parquet(path)
        elif path.suffix == ".json" and _first_character(path) == b"[":
            yield from _array(path)
        else:
            yield from _lines(path)
    except OSError as error:
        raise DataError(f"{path}: not readable ({error.strerror or error})") from None


def file_hash(path: Path) -> str:
    """SHA-256 of what the file holds, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _matching(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not set("*?[") & set(str(path)):
        return []
    anchor = Path(path.anchor or ".")
    pattern = str(path.relative_to(path.anchor)) if path.anchor else str(path)
    return sorted(found for found in anchor.glob(pattern) if found.is_file())


def _first_character(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(256).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]


def _lines(path: Path) -> Iterator[RawRow | BrokenRow]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _parsed(line, f"{path.name}:{number}")


def _parsed(line: bytes, place: str) -> RawRow | BrokenRow:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return BrokenRow(place, f"not UTF-8 at byte {error.start}")
    except json.JSONDecodeError as error:
        return BrokenRow(place, f"{error.msg} at column {error.colno}")
    except (RecursionError, ValueError) as error:
        return BrokenRow(place, str(error))
    return _object(value, place)


def _object(value: Any, place: str) -> RawRow | BrokenRow:
    if isinstance(value, dict):
        return RawRow(place, value)
    return BrokenRow(place, f"expected an object, found {type(value).__name__}")


def _array(path: Path) -> Iterator[RawRow | BrokenRow]:
    """An array can only be parsed whole; a fault in it leaves no row to tell apart."""
    try:
        values = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (RecursionError, ValueError) as error:
        raise DataError(f"{path}: broken JSON: {error}") from None
    for number, value in enumerate(values, start=1):
        yield _object(value, f"{path.name}[{number - 1}]")


def _parquet(path: Path) -> Iterator[RawRow | BrokenRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        # Files written with checksums of their pages, as `export` does, are held to them.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            names = [n for n in file.schema_arrow.names if not n.endswith(UNUSED)]
            for batch in file.iter_batches(batch_size=ROWS_A_READ, columns=names):
                for row in batch.to_pylist():
                    number += 1
                    yield RawRow(f"{path.name}:{number}", row)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # of the file system
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: broken Parquet after row {number}: {reason}; write it again, as with "
            "`oversight export`, or restore a copy"
        ) from None


Row = Mapping[str, Any] | Preference | Labelled
"""A row in memory: columns, whose format is told by their names, or a record."""


@dataclass
class DataSource:
    """One file, store or list."""

    name: str
    """For messages."""
    open: Callable[[], Iterator[Item]]
    about: dict[str, Any] = field(default_factory=dict)
    """Provenance, JSON-plain; the number of rows is added once they are read."""


def training_sources(settings: DataSettings, rows: Iterable[Row] | None) -> list[DataSource]:
    """The sources of the training part.

    Raises:
        ConfigError: There is none, or more than one kind.
        DataError: A file is not there.
    """
    kinds = bool(settings.paths) + bool(settings.store) + (rows is not None)
    if kinds != 1:
        given = "several" if kinds else "none"
        raise ConfigError(
            f"data: one of data.path, data.store and rows in memory is needed, {given} was given"
        )
    if rows is not None:
        return [_memory(rows, "rows")]
    if settings.store:
        return [_store(settings)]
    return [_file(path) for path in expand(settings.paths)]


def eval_sources(settings: DataSettings, rows: Iterable[Row] | None) -> list[DataSource]:
    """The sources of a held-out part that has its own.

    Raises:
        DataError: A file is not there.
    """
    if rows is not None:
        return [_memory(rows, "eval_rows")]
    return [_file(path) for path in expand(settings.eval_paths, "data.eval_path")]


def _file(path: Path) -> DataSource:
    about = {"file": str(path), "sha256": file_hash(path)}
    return DataSource(path.name, lambda: read(path), about)


def _memory(rows: Iterable[Any], name: str) -> DataSource:
    def each() -> Iterator[Item]:
        for number, row in enumerate(rows):
            place = f"{name}[{number}]"
            if isinstance(row, Preference | Labelled):
                yield RecordRow(row)
            elif isinstance(row, Mapping):
                yield RawRow(place, dict(row))
            else:
                yield BrokenRow(place, f"expected a mapping, found {type(row).__name__}")

    return DataSource(name, each, {"memory": name})


def _store(settings: DataSettings) -> DataSource:
    """The store's preferences as records.

    Raises:
        ConfigError: A format or columns are named, and no file is there to have them.
    """
    _require_no_columns(settings)
    dropped = Dropped()
    about: dict[str, Any] = {}

    def each() -> Iterator[Item]:
        with Store.open(settings.store, create=False, only_read=True) as store:
            about["store"] = store.url
            store.require_debates(protocol=settings.protocol, dataset=settings.dataset)
            found = store.transcripts(protocol=settings.protocol, dataset=settings.dataset)
            made: Iterator[Preference | GivenResponse]
            if settings.answers == "compared":
                made = preferences(found, settings.preferences, store.prompt, dropped)
            else:
                last, chosen = settings.answers == "last", settings.preferences
                made = answers_given(found, chosen, store.prompt, dropped, last=last)
            for row in made:
                yield RecordRow(row)
        about["left_out"] = dropped.to_json()

    return DataSource("the store", each, about)


STORED = ("auto", "kwise")
"""Formats that may be named beside a store: its records hold what `kwise` rows of a file do."""


def _require_no_columns(settings: DataSettings) -> None:
    if settings.eval_paths:
        return  # they are those of the held-out files
    if settings.format not in STORED:
        raise ConfigError(
            f"data.format = {settings.format!r}: a store hands over records, which have no columns "
            "to be told by; leave it out, or name a file in data.path"
        )
    for name in sorted(WORDED & settings.columns.keys()):
        raise ConfigError(
            f"data.columns.{name} = {settings.columns[name]!r}: a store hands over records, whose "
            "words stand in no columns; leave it out, or name a file in data.path"
        )


def renamed(items: Iterator[Item], columns: Mapping[str, str]) -> Iterator[Item]:
    """Rows with the user's columns under our names."""
    for item in items:
        if isinstance(item, RawRow):
            yield RawRow(item.place, own_names(item.row, columns))
        else:
            yield item


def own_names(row: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Cells with the user's columns under our names."""
    names = {theirs: ours for ours, theirs in columns.items()}
    # A column of ours that another takes the place of is not meant.
    kept = {k: v for k, v in row.items() if k not in columns or k in names}
    return {names.get(k, k): v for k, v in kept.items()}


WORDED = frozenset(
    {
        "prompt",
        "chosen",
        "rejected",
        "completion",
        "completions",
        "response",
        "responses",
        "messages",
        "text",
    }
)
"""Columns that hold what is learnt or asked; ids and labels are no words."""


def texts(settings: DataSettings, rows: Iterable[Row] | None) -> Iterator[str]:
    """Every text of the training rows, in their order.

    Raises:
        DataError: There is none; it names the first row without.
    """
    theirs = {settings.columns.get(name, name) for name in WORDED}
    first, num_texts = "no rows", 0
    for source in training_sources(settings, rows):
        for number, item in enumerate(islice(source.open(), settings.max_rows)):
            for text in _texts(item, theirs):
                num_texts += 1
                yield text
            if not number and not num_texts:
                wrong = _without_words(item)
                first = f"the first is {item.place}: {wrong}"
        if not num_texts and first == "no rows":
            first = f"{source.name} holds no rows"
    if not num_texts:
        raise DataError(
            f"data: no row has words in any of {', '.join(sorted(theirs))}; {first}. Mend the "
            "file, or name its columns in data.columns"
        )


def _texts(item: Item, columns: set[str]) -> Iterator[str]:
    """The texts of a row; of a record its responses and then its prompt."""
    if isinstance(item, RecordRow):
        record = item.record
        said = record.responses if isinstance(record, Preference) else (record.response,)
        yield from _strings([*(each.text for each in said), *record.prompt.messages])
    elif isinstance(item, RawRow):
        for name in sorted(columns & item.row.keys()):
            yield from _strings(item.row[name])


def _without_words(item: Item) -> str:
    if isinstance(item, BrokenRow):
        return item.detail
    if not isinstance(item, RawRow):
        return "a record without words"
    if no_text := sorted(WORDED & item.row.keys()):
        held = ", ".join(f"{name} = {item.row[name]!r:.40}" for name in no_text)
        return f"{held} is no text"
    return f"columns {sorted(item.row)}"


def _strings(value: Any) -> Iterator[str]:
    """The texts in a cell; of a message its content and not its role."""
    if isinstance(value, str):
        # Half of a surrogate pair is no text: the row that holds it is refused by name later.
        yield value.encode("utf-8", "ignore").decode()
    elif isinstance(value, Message):
        yield from _strings(value.content)
    elif isinstance(value, Mapping):
        yield from _strings(value.get("content"))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
