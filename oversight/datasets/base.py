"""Loading questions: every row checked before anything runs, bad ones named by file and line.

A data set module has `Config(Settings)` and `rows(config)`, which yields

- `Row`: a question and where it stands;
- a bare `Question`, where there is no file behind it;
- `BadRow`: a row that cannot be used, and why;
- `LeftOut`: a row that is in order, but holds no question of the kind asked for.

A data set that is generated without end names in `ENDLESS` the setting that says how many
questions there are: where it is not set, a larger limit makes more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeAlias

from oversight import registry
from oversight.config.run import DatasetSettings
from oversight.config.settings import Settings
from oversight.errors import ConfigError, DataError
from oversight.ids import content_id
from oversight.types import Question

NUM_LISTED = 20
"""Number of bad rows that an error message lists before it only counts them."""

CLUSTER = "cluster"
"""Key of `Question.meta` that rows about the same underlying question share.

Absent where every row is a question of its own: its id is then its cluster."""


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
class Row:
    """A question and the place it was read from."""

    question: Question
    file: str
    line: int | None = None

    @property
    def place(self) -> str:
        """`file:line`, or the file alone where a file is one row."""
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A sound row without a question of the kind asked for: counted, no error."""

    reason: str


Item: TypeAlias = Row | Question | BadRow | LeftOut
"""Items that a data set's `rows` yields."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The questions of a data set, and what was met on the way."""

    questions: tuple[Question, ...]
    bad: tuple[BadRow, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Number of sound rows that were left out, by reason."""
    limit: int | None = None
    """Largest number of questions asked for."""
    dataset: str = ""

    @property
    def shortage(self) -> str:
        """Says that there are fewer questions than the limit asks for; else empty."""
        if self.limit is None or len(self.questions) >= self.limit:
            return ""
        number = len(self.questions)
        has = f"{number:,} such questions" if number > 1 else "1 such question"
        return f"{self.limit:,} questions were asked for, and data set {self.dataset!r} has {has}"


def load_questions(
    spec: DatasetSettings | tuple[str, Mapping[str, Any]],
    *,
    limit: int | None = None,
    skip_bad: bool = False,
    seed: int = 0,
) -> Loaded:
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
    reading = _Reading(spec.split if spec.split and not _has_split(spec.dataset) else None)
    questions = reading.questions(_items(spec, limit))
    if spec.shuffle:
        chosen = _sample(list(questions), limit, seed)
    else:
        chosen = list(islice(questions, limit))
    if reading.bad and not (skip_bad or spec.skip_bad):
        raise DataError(_complaint(spec.dataset, reading.bad))
    if not chosen:
        raise DataError(_nothing_left(spec, reading))
    return Loaded(
        tuple(chosen), tuple(reading.bad), dict(reading.left_out), limit, dataset=spec.dataset
    )


class _Reading:
    """One pass over a data set: what was seen, and where."""

    def __init__(self, split: str | None) -> None:
        self.split = split
        self.bad: list[BadRow] = []
        self.left_out: Counter[str] = Counter()
        self.seen: dict[str, str] = {}

    def questions(self, items: Iterator[Item]) -> Iterator[Question]:
        """The usable questions; bad, doubled and left out rows are noted."""
        for number, item in enumerate(items, start=1):
            if isinstance(item, BadRow):
                self.bad.append(item)
            elif isinstance(item, LeftOut):
                self.left_out[item.reason] += 1
            else:
                row = item if isinstance(item, Row) else Row(item, "<generated>", number)
                if self._is_new(row) and self._is_of_split(row.question):
                    yield row.question

    def _is_new(self, row: Row) -> bool:
        """True if the row's id is new; otherwise the row is made a bad one."""
        name = row.question.id
        if name in self.seen:
            reason = f"id {name!r} stands already at {self.seen[name]}"
            self.bad.append(BadRow(row.file, row.line, reason, name))
            return False
        self.seen[name] = row.place
        return True

    def _is_of_split(self, question: Question) -> bool:
        if self.split is None or question.split == self.split:
            return True
        self.left_out[f"split {question.split!r}"] += 1
        return False


def _config_class(dataset: str) -> type[Settings]:
    config: type[Settings] = registry.load("datasets", dataset).Config
    return config


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
    config: Settings = module.Config.parse(settings, "dataset.settings")
    endless: str | None = getattr(module, "ENDLESS", None)
    if endless and limit and endless not in settings and limit > getattr(config, endless):
        config = module.Config.parse(settings | {endless: limit}, "dataset.settings")
    items: Iterator[Item] = module.rows(config)
    return items


def _sample(questions: list[Question], limit: int | None, seed: int) -> list[Question]:
    """The questions with the smallest hashes: nested in `limit`, blind to the file's order."""
    return sorted(questions, key=lambda q: content_id("sample", seed, q.id))[:limit]


def _complaint(dataset: str, bad: list[BadRow]) -> str:
    lines = [f"  {row}" for row in bad[:NUM_LISTED]]
    if len(bad) > NUM_LISTED:
        lines.append(f"  … and {len(bad) - NUM_LISTED} more")
    rows = "1 row" if len(bad) == 1 else f"{len(bad)} rows"
    head = f"data set {dataset!r}: {rows} cannot be used"
    return "\n".join(
        [
            head,
            *lines,
            "Mend them, or go on without them: --skip-bad, or dataset.skip_bad = true in a recipe.",
        ]
    )


def _nothing_left(spec: DatasetSettings, reading: _Reading) -> str:
    reasons = [f"{count} left out: {reason}" for reason, count in reading.left_out.items()]
    if reading.bad:
        reasons.append(f"{len(reading.bad)} bad, the first {reading.bad[0]}")
    why = "; ".join(reasons) or "it holds no row at all"
    return f"data set {spec.dataset!r}: no question to ask ({why})"
