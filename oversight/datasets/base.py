"""Loading questions: every row checked before anything runs, bad ones named by file and line.

A data set module has `Config(Settings)` and `rows(config)`, which yields

- `QuestionRow`: a question and where it stands;
- a bare `Question`, where there is no file behind it;
- `BadRow`: a row that cannot be used, and why;
- `LeftOut`: a row that is in order, but holds no question of the kind asked for.

A data set that is generated without end names in `ENDLESS` the setting that says how many
questions there are: where it is not set, a larger limit makes more.
"""

from __future__ import annotations

import inspect
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from oversight import registry
from oversight.config import DatasetSettings, Settings, in_words, settings_of
from oversight.errors import ConfigError, DataError, OversightError
from oversight.ids import content_id, text_number
from oversight.registry import nearest, shortened, shown_error
from oversight.text.numbers import count
from oversight.types import Question

NUM_LISTED = 20
"""Number of bad rows that an error message lists before it only counts them."""

CLUSTER = "cluster"
"""Key of `Question.meta` that rows about one underlying question share; else a row's id counts."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used."""

    file: str
    line: int | None
    """1-based; None where the reason concerns the file as a whole."""
    reason: str
    row_id: str = ""

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.reason}"


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """A question and the place it was read from."""

    question: Question
    file: str
    line: int | None = None
    doubled: str = ""
    """Reason to leave it out where its id stood in a row before; without one it is a bad row."""

    @property
    def place(self) -> str:
        """`file:line`, or the file alone where a file is one row."""
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A sound row without a question of the kind asked for: counted, no error."""

    reason: str


Item: TypeAlias = QuestionRow | Question | BadRow | LeftOut
"""Items that a data set's `rows` yields."""


@dataclass(frozen=True, slots=True)
class LoadedQuestions:
    """The questions of a data set, and what was met on the way."""

    questions: tuple[Question, ...]
    bad: tuple[BadRow, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Number of sound rows that were left out, by reason."""
    limit: int | None = None
    """Largest number of questions asked for."""
    dataset: str = ""
    num_streamed: int = 0
    """Number of questions of a stream, which does not hold them."""

    @property
    def shortage(self) -> str:
        """Says that there are fewer questions than the limit asks for; else empty."""
        number = self.num_streamed or len(self.questions)
        if self.limit is None or number >= self.limit:
            return ""
        has = f"{number:,} such questions" if number > 1 else "1 such question"
        return f"{self.limit:,} questions were asked for, and data set {self.dataset!r} has {has}"


def load_questions(
    spec: DatasetSettings | tuple[str, Mapping[str, Any]],
    *,
    limit: int | None = None,
    skip_bad: bool = False,
    seed: int = 0,
) -> LoadedQuestions:
    """The questions of a data set, all of them checked.

    A limit without `shuffle` reads no further than it needs to.

    Args:
        spec: The data set, or its name and its own settings.
        limit: At most so many questions; overrides the limit of `spec`.
        skip_bad: Go on without bad rows; they are listed in the result. So does `spec.skip_bad`.
        seed: Of the sample, where `spec.shuffle` asks for one.

    Raises:
        DataError: Rows cannot be used (the message lists them), or no question is left.
        ConfigError: A setting is wrong, or a file is not there.
        UnknownNameError: There is no such data set.
    """
    if isinstance(spec, tuple):
        spec = DatasetSettings(dataset=spec[0], settings=dict(spec[1]))
    if limit is not None and limit < 1:
        raise ConfigError(f"limit = {limit!r}: at least 1 question is needed")
    limit = limit or spec.limit
    reading = _Reading(_split_of(spec))
    questions = reading.questions(_items(spec, limit))
    if spec.shuffle:
        chosen = _sample(list(questions), limit, seed)
    else:
        chosen = list(islice(questions, limit))
    _check_rows(spec, reading, len(chosen), skip_bad=skip_bad or spec.skip_bad)
    return LoadedQuestions(
        tuple(chosen), tuple(reading.bad), dict(reading.left_out), limit, dataset=spec.dataset
    )


class QuestionStream:
    """The questions of a data set one after the other, each read from its file when it is needed.

    Every row has been checked once before: what is read again can be used.
    """

    def __init__(self, spec: DatasetSettings, checked: LoadedQuestions) -> None:
        self._spec = spec
        self.checked = checked
        """Bad rows, rows that were left out, and the shortage."""

    @property
    def num_questions(self) -> int:
        """Number of questions of a pass."""
        return self.checked.num_streamed

    def __iter__(self) -> Iterator[Question]:
        if self.checked.questions:
            return iter(self.checked.questions)  # a sample, in the order in which it was drawn
        found = _Reading(_split_of(self._spec)).questions(_items(self._spec, self._spec.limit))
        return islice(found, self._spec.limit)


def stream_questions(spec: DatasetSettings, *, seed: int = 0) -> QuestionStream:
    """The questions of a data set as a stream, after all of its rows have been checked.

    For large sets: none is held, but a shuffled sample, as it has an order of its own.

    Raises:
        DataError: Rows cannot be used (the message lists them), or no question is left.
        ConfigError: A setting is wrong, or a file is not there.
        UnknownNameError: There is no such data set.
    """
    if spec.shuffle:
        loaded = load_questions(spec, seed=seed)
        return QuestionStream(spec, replace(loaded, num_streamed=len(loaded.questions)))
    reading = _Reading(_split_of(spec))
    number = sum(1 for _ in islice(reading.questions(_items(spec, spec.limit)), spec.limit))
    _check_rows(spec, reading, number, skip_bad=spec.skip_bad)
    told = (tuple(reading.bad), dict(reading.left_out), spec.limit, spec.dataset, number)
    return QuestionStream(spec, LoadedQuestions((), *told))


def _split_of(spec: DatasetSettings) -> str | None:
    """The part that rows are chosen by, where the data set has no setting for that."""
    return spec.split if spec.split and not _has_split(spec.dataset) else None


def _check_rows(spec: DatasetSettings, reading: _Reading, number: int, *, skip_bad: bool) -> None:
    """Refuse bad rows, unless they are to be skipped, and a data set without a question.

    Raises:
        DataError: The message lists them.
    """
    if reading.bad and not skip_bad:
        raise DataError(_complaint(spec.dataset, reading.bad))
    if not number:
        raise DataError(_nothing_left(spec, reading))


class _Reading:
    """One pass over a data set: what was seen, and where."""

    def __init__(self, split: str | None) -> None:
        self.split = split
        self.bad: list[BadRow] = []
        self.left_out: Counter[str] = Counter()
        # By a number for the id; of the first file the line alone, as a data set may be large.
        self._places: dict[int, str | int] = {}
        self._first_file = ""

    def questions(self, items: Iterator[Item]) -> Iterator[Question]:
        """The usable questions; bad, doubled and left out rows are noted."""
        for number, item in enumerate(items, start=1):
            if isinstance(item, BadRow):
                self.bad.append(item)
            elif isinstance(item, LeftOut):
                self.left_out[item.reason] += 1
            else:
                row = item
                if isinstance(row, Question):
                    row = QuestionRow(row, "<generated>", number)
                if self._is_new(row) and self._is_of_split(row.question):
                    yield row.question

    def _is_new(self, row: QuestionRow) -> bool:
        """True if the row's id is new; otherwise the row is left out or made a bad one."""
        name = row.question.id
        self._first_file = self._first_file or row.file
        line = row.line if row.file == self._first_file else None
        before = len(self._places)
        place = self._places.setdefault(text_number(name), row.place if line is None else line)
        if len(self._places) > before:
            return True
        if row.doubled:
            self.left_out[row.doubled] += 1
            return False
        shown = f"{self._first_file}:{place}" if isinstance(place, int) else place
        self.bad.append(BadRow(row.file, row.line, f"id {name!r} stands already at {shown}", name))
        return False

    def _is_of_split(self, question: Question) -> bool:
        if self.split is None or question.split == self.split:
            return True
        self.left_out[f"split {question.split!r}"] += 1
        return False


def _config_class(dataset: str) -> type[Settings]:
    return settings_of(registry.load("datasets", dataset), f"dataset = {dataset!r}")


def _has_split(dataset: str) -> bool:
    return "split" in _config_class(dataset).model_fields


def _items(spec: DatasetSettings, limit: int | None) -> Iterator[Item]:
    settings = dict(spec.settings)
    if spec.split and _has_split(spec.dataset):
        given = settings.setdefault("split", spec.split)
        if given != spec.split:
            raise ConfigError(
                f"dataset.split = {spec.split!r} contradicts dataset.settings.split = {given!r}:"
                " give one of them"
            )
    module = registry.load("datasets", spec.dataset)
    settings_class = _config_class(spec.dataset)
    config = settings_class.parse(settings, "dataset.settings")
    endless: str | None = getattr(module, "ENDLESS", None)
    if endless and limit and endless not in settings and limit > getattr(config, endless):
        config = settings_class.parse(settings | {endless: limit}, "dataset.settings")
    if registry.is_own(spec.dataset):
        return _own_items(module, config, spec.dataset)
    items: Iterator[Item] = module.rows(config)
    return items


def _own_items(found: Any, config: Settings, name: str) -> Iterator[Item]:
    """Items of a user's own data set; any error of its code becomes one with file and line."""
    try:
        for number, item in enumerate(found.rows(config), start=1):
            if not isinstance(item, Item):
                raise DataError(
                    f"data set {name!r}: item {number} is {shortened(repr(item), 60)}; "
                    "rows(config) yields Question, or QuestionRow, BadRow and LeftOut from "
                    "oversight.datasets.base"
                )
            yield item
    except OversightError:
        raise
    except Exception as error:
        said = shown_error(error, __file__, theirs=inspect.getsourcefile(found))
        raise DataError(f"data set {name!r}: rows(config) failed ({said})") from error


def _sample(questions: list[Question], limit: int | None, seed: int) -> list[Question]:
    """The questions with the smallest hashes: nested in `limit`, blind to the file's order."""
    return sorted(questions, key=lambda q: content_id("sample", seed, q.id))[:limit]


def complaint(what: str, noun: str, bad: Sequence[BadRow], advice: str) -> str:
    """The message on rows that cannot be used, whose lines can be read as one as well."""
    named = [f"  {row}" for row in bad[:NUM_LISTED]]
    named += [f"  … and {len(bad) - NUM_LISTED} more"] if len(bad) > NUM_LISTED else []
    listed = ";\n".join(named).rstrip(".")
    return f"{what}: {count(len(bad), noun)} cannot be used:\n{listed}.\n{advice}"


def _complaint(dataset: str, bad: list[BadRow]) -> str:
    advice = "Mend them, or go on without them: --skip-bad, or dataset.skip_bad = true in a recipe."
    return complaint(f"data set {dataset!r}", "row", bad, advice)


def _nothing_left(spec: DatasetSettings, reading: _Reading) -> str:
    reasons = [f"{count} left out: {reason}" for reason, count in reading.left_out.items()]
    if reading.bad:
        reasons.append(f"{len(reading.bad)} bad, the first {reading.bad[0]}")
    why = "; ".join(reasons) or "it holds no row at all"
    return f"data set {spec.dataset!r}: no question to ask ({why})"


DATA_VARIABLE = "OVERSIGHT_SHARED_DATA"
"""Environment variable that names the folder where data sets lie."""

DATA_FOLDERS = ("data", "../shared/data")
"""Folders, from the working directory, in which data sets are looked for otherwise."""

M = TypeVar("M", bound=BaseModel)


def locate(path: str, usual: str, where_to_get: str) -> Path:
    """The file or folder of a data set: `path`, or where it usually lies if that is empty.

    Args:
        path: As the settings give it.
        usual: Its place below the data folder.
        where_to_get: A sentence on where to get the data.

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


def unreadable(path: Path, error: OSError) -> ConfigError:
    """The error of a data set's file that cannot be opened or read."""
    return ConfigError(
        f"dataset.settings.path = {str(path)!r}: not readable as a file ({error.strerror or error})"
    )


def read_bytes(path: Path) -> bytes:
    """Content of the file.

    Raises:
        ConfigError: It is a folder, or may not be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None


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
        raise unreadable(path, error) from None
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


def question_row(file: str, line: int | None, **fields: Any) -> QuestionRow | BadRow:
    """A row with the question made of `fields`, or a bad row: open prompts go by `prompt_row`."""
    if fields.get("options"):
        return prompt_row(file, line, **fields)
    few = "a question needs at least two options, here are 0"
    return BadRow(file, line, few, str(fields.get("id", "")))


def prompt_row(
    file: str, line: int | None, *, doubled: str = "", **fields: Any
) -> QuestionRow | BadRow:
    """A row with the open prompt made of `fields`, or a bad row that says what is wrong with it."""
    try:
        return QuestionRow(Question(**fields), file, line, doubled)
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
    message = in_words(detail)
    return f"{place} = {shortened(repr(value), 60)}: {message}" if place else message


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
