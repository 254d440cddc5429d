"""Where rows come from: files, a store, or a list in memory; and what is recorded about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oversight.errors import ConfigError
from oversight.preferences.building import preferences
from oversight.preferences.dropped import Dropped
from oversight.preferences.layouts import kwise_row
from oversight.store import Store
from oversight.train.data.reading import Broken, Found, expand, file_hash, read
from oversight.train.data.settings import DataSettings

Row = Mapping[str, Any]


@dataclass
class Source:
    """One file, store or list."""

    name: str
    """For messages."""
    open: Callable[[], Iterator[Found | Broken]]
    about: dict[str, Any] = field(default_factory=dict)
    """Provenance, JSON-plain; the number of rows is added once they are read."""


def training(settings: DataSettings, rows: Iterable[Row] | None) -> list[Source]:
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


def evaluation(settings: DataSettings, rows: Iterable[Row] | None) -> list[Source]:
    """The sources of a held-out part that has its own.

    Raises:
        DataError: A file is not there.
    """
    if rows is not None:
        return [_memory(rows, "eval_rows")]
    return [_file(path) for path in expand(settings.eval_paths, "data.eval_path")]


def _file(path: Path) -> Source:
    about = {"file": str(path), "sha256": file_hash(path)}
    return Source(path.name, lambda: read(path), about)


def _memory(rows: Iterable[Any], name: str) -> Source:
    def each() -> Iterator[Found | Broken]:
        for number, row in enumerate(rows):
            place = f"{name}[{number}]"
            if isinstance(row, Mapping):
                yield Found(place, dict(row))
            else:
                yield Broken(place, f"expected a mapping, found {type(row).__name__}")

    return Source(name, each, {"memory": name})


def _store(settings: DataSettings) -> Source:
    """The store's preferences in the layout `kwise`, which holds ties and rankings as well."""
    dropped = Dropped()
    about: dict[str, Any] = {}

    def each() -> Iterator[Found | Broken]:
        with Store.open(settings.store, create=False) as store:
            about["store"] = store.url
            found = store.transcripts(protocol=settings.protocol, dataset=settings.dataset)
            for row in preferences(found, settings.preferences, store.prompt, dropped):
                yield Found(row.id, kwise_row(row))
        about["left_out"] = dropped.to_json()

    return Source("the store", each, about)
